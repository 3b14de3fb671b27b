// SPDX-License-Identifier: Apache-2.0
// A drainer in the background, for a program that is to be traced from now on.
//
// Threads   any.
// Blocks    until it is at work.
// Fails     DumpError with the drainer's own words, where none is at work and none can be.
#pragma once

#include <string>

namespace mprof::dumper {

// Starts `mprof drain --detach`, unless one is at work already: that one holds the journal's lock.
void ensure_drained(const std::string& dump_path);

}  // namespace mprof::dumper
