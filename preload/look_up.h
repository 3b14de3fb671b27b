// SPDX-License-Identifier: Apache-2.0
// How a pointer to a function of libc's is there from the first instruction on: it starts at a
// stand-in of the same type, which looks the real function up, puts it there and calls it.
//
// Called by preload/real_locks.cc, real_calls.cc. Threads: any; those that look the same function
// up find the same one. Signals: safe once resolved. Allocates: no, if the function is there.
#pragma once

#include <dlfcn.h>

#include "preload/low.h"

namespace mprof::preload {

// `version`: nullptr for the default one. `missing`: for a function that this libc does not have;
// a program cannot have been linked to it then.
template <class Result, class... Parameters>
void resolve_one(Result (*&pointer)(Parameters...), const char* name, const char* version,
                 Result (*missing)(Parameters...)) {
  const ErrnoGuard keep_errno;
  void* found = version == nullptr ? nullptr : dlvsym(RTLD_NEXT, name, version);
  if (found == nullptr) found = dlsym(RTLD_NEXT, name);
  pointer = found != nullptr ? reinterpret_cast<Result (*)(Parameters...)>(found) : missing;
}

// The stand-in of one pointer: `Tag::pointer()` is its place, Tag::resolve() looks it up.
template <class Tag, class Result, class... Parameters>
Result stand_in(Parameters... parameters) {
  Tag::resolve();
  return Tag::pointer()(parameters...);
}

}  // namespace mprof::preload
