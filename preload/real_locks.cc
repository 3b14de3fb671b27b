// SPDX-License-Identifier: Apache-2.0
#include "preload/real_locks.h"

#include <errno.h>

#include <atomic>

#include "preload/look_up.h"

namespace mprof::preload {
namespace {

// For a function that this libc does not have; a program cannot have been linked to it then.
template <class Result, class... Parameters>
Result missing(Parameters...) {
  if constexpr (__is_same(Result, sighandler_t))
    return SIG_ERR;
  else if constexpr (!__is_same(Result, void))
    return static_cast<Result>(ENOSYS);
}

template <class Result, class... Parameters>
void resolve_one(Result (*&pointer)(Parameters...), const char* name, const char* version) {
  void* found = look_up(name, version);
  pointer = found != nullptr ? reinterpret_cast<Result (*)(Parameters...)>(found)
                             : &missing<Result, Parameters...>;
}

#define MPROF_TAG(result, name, version, ...)                         \
  struct Tag_##name {                                                 \
    static auto& pointer() { return real_locks.name; }                \
    static void resolve() { resolve_one(pointer(), #name, version); } \
    static constexpr result (*kStandIn)(__VA_ARGS__) =                \
        stand_in<Tag_##name, result __VA_OPT__(, ) __VA_ARGS__>;      \
  };
MPROF_LOCK_FUNCTIONS(MPROF_TAG)
#undef MPROF_TAG

std::atomic<bool> resolved;

}  // namespace

extern "C" {
constinit RealLocks mprof_real_locks = {
#define MPROF_START(result, name, version, ...) Tag_##name::kStandIn,
    MPROF_LOCK_FUNCTIONS(MPROF_START)
#undef MPROF_START
};
}

void resolve_locks() {
  if (resolved.exchange(true)) return;
#define MPROF_RESOLVE(result, name, version, ...) resolve_one(real_locks.name, #name, version);
  MPROF_LOCK_FUNCTIONS(MPROF_RESOLVE)
#undef MPROF_RESOLVE
}

}  // namespace mprof::preload
