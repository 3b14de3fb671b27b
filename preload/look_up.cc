// SPDX-License-Identifier: Apache-2.0
#include "preload/look_up.h"

#include <dlfcn.h>
#include <string.h>

#include "preload/low.h"

namespace mprof::preload {
namespace {

// In place of a function that this libc does not have; a program cannot have been linked to it
// then.
long missing() {
  errno = ENOSYS;
  return -1;
}

void* look_up(const char* name, const char* version) {
  void* found = *version == '\0' ? nullptr : dlvsym(RTLD_NEXT, name, version);
  return found != nullptr ? found : dlsym(RTLD_NEXT, name);
}

}  // namespace

void fill_table(void* table, const char* names) {
  const ErrnoGuard keep_errno;
  using Pointer [[gnu::may_alias]] = void*;
  auto* slot = static_cast<Pointer*>(table);
  while (*names != '\0') {
    const char* version = names + strlen(names) + 1;
    void* found = look_up(names, version);
    *slot++ = found != nullptr ? found : reinterpret_cast<void*>(&missing);
    names = version + strlen(version) + 1;
  }
}

}  // namespace mprof::preload
