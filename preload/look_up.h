// SPDX-License-Identifier: Apache-2.0
// How a pointer to a function of libc's is there from the first instruction on: it starts at a
// stand-in of the same type, which looks the real function up, puts it there and calls it.
//
// Called by preload/real_locks.cc, real_calls.cc. Threads: any; those that look the same function
// up find the same one. Signals: safe once resolved. Allocates: no, if the function is there.
// errno: kept.
#pragma once

namespace mprof::preload {

// The function of the next library; nullptr if there is none. `version`: nullptr for the default.
void* look_up(const char* name, const char* version);

// The stand-in of one pointer: `Tag::pointer()` is its place, Tag::resolve() looks it up.
template <class Tag, class Result, class... Parameters>
[[gnu::cold]] Result stand_in(Parameters... parameters) {
  Tag::resolve();
  return Tag::pointer()(parameters...);
}

}  // namespace mprof::preload
