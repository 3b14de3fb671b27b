// SPDX-License-Identifier: Apache-2.0
#include "preload/real_locks.h"

#include <errno.h>

#include <atomic>

#include "preload/look_up.h"

namespace mprof::preload {
namespace {

// The answer where there is no such function.
template <class Result, class... Parameters>
Result missing(Parameters...) {
  if constexpr (__is_same(Result, sighandler_t))
    return SIG_ERR;
  else if constexpr (!__is_same(Result, void))
    return static_cast<Result>(ENOSYS);
}

#define MPROF_TAG(result, name, version, ...)                                   \
  struct Tag_##name {                                                           \
    static auto& pointer() { return real_locks.name; }                          \
    static void resolve() { resolve_one(pointer(), #name, version, &missing); } \
    static constexpr result (*kStandIn)(__VA_ARGS__) =                          \
        stand_in<Tag_##name, result __VA_OPT__(, ) __VA_ARGS__>;                \
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
#define MPROF_RESOLVE(result, name, version, ...) Tag_##name::resolve();
  MPROF_LOCK_FUNCTIONS(MPROF_RESOLVE)
#undef MPROF_RESOLVE
}

}  // namespace mprof::preload
