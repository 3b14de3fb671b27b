// SPDX-License-Identifier: Apache-2.0
// Starts `mprof drain` beside the program, for MPROF_DRAIN=1 and for a trace. Where one runs
// already, this one ends at once: the journal is locked.
//
// The drainer is nobody's child that the program could see: it is cloned without an exit signal
// and orphaned at once, in a session of its own, so wait() and SIGCHLD handlers know nothing.
//
// Called by preload/lifecycle.cc, and by a program that begins its trace. Blocks: for the time of
// two clones. Fails: one line.
#pragma once

namespace mprof::preload {

// Once, at the start of the process: later the program may be in the middle of changing it.
void note_environment();
// Whether MPROF_DRAIN says who drains: 0, somebody else does; 1, this library, from the start.
bool says_who_drains();
// `reason`: what asked for it.
void launch_drain(const char* dump_path, const char* reason);

}  // namespace mprof::preload
