// SPDX-License-Identifier: Apache-2.0
#include "preload/look_up.h"

#include <dlfcn.h>

#include "preload/low.h"

namespace mprof::preload {

void* look_up(const char* name, const char* version) {
  const ErrnoGuard keep_errno;
  void* found = version == nullptr ? nullptr : dlvsym(RTLD_NEXT, name, version);
  return found != nullptr ? found : dlsym(RTLD_NEXT, name);
}

}  // namespace mprof::preload
