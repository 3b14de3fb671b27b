// SPDX-License-Identifier: Apache-2.0
// What a new thread will really run.
//
// Called by preload/hooks_process.cc, before the thread exists. Threads: any. Allocates: rows of
// the dump. Blocks: no.
#pragma once

namespace mprof::preload {

// The address that names it: the start function; or, where that is libstdc++'s own, which runs
// the callable that std::thread was given: the function, if the callable is a plain pointer to
// one, else the virtual table of the object that holds it, whose type names the callable.
const void* start_of(const void* function, const void* argument);

}  // namespace mprof::preload
