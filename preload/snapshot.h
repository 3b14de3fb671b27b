// SPDX-License-Identifier: Apache-2.0
// A copy of the dump beside it, made by the program itself: what it holds now, under a name.
//
// Threads   any; one copies at a time, another one gets EBUSY. The others go on: theirs is the
//           cut's copy-on-write, and no more. Signals: safe outside mprof. Allocates: from the
//           kernel, until it is done. Blocks: for the disk. errno: kept by the caller.
// Fails     with an error number; the file then is not there.
#pragma once

namespace mprof::preload {

// DUMP.NAME.mprof, without the ".mprof" that DUMP may end in. 0, or an error number: EINVAL, not a
// name; EEXIST, there is one already; EBUSY; ENOENT, the dump itself has no name any more; or
// whatever the file system says.
int write_snapshot(const char* name);

// In a forked child: nobody copies.
void forget_snapshot();

}  // namespace mprof::preload
