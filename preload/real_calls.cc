// SPDX-License-Identifier: Apache-2.0
#include "preload/real_calls.h"

#include <errno.h>

#include <atomic>

#include "preload/look_up.h"

namespace mprof::preload {
namespace {

// The answer where there is no such function.
template <class Result, class... Parameters>
Result missing(Parameters...) {
  errno = ENOSYS;
  return -1;
}

#define MPROF_TAG(result, name, ...)                                            \
  struct Tag_##name {                                                           \
    static auto& pointer() { return real_calls.name; }                          \
    static void resolve() { resolve_one(pointer(), #name, nullptr, &missing); } \
    static constexpr result (*kStandIn)(__VA_ARGS__) =                          \
        stand_in<Tag_##name, result __VA_OPT__(, ) __VA_ARGS__>;                \
  };
MPROF_CALL_FUNCTIONS(MPROF_TAG)
#undef MPROF_TAG

std::atomic<bool> resolved;

}  // namespace

constinit RealCalls real_calls = {
#define MPROF_START(result, name, ...) Tag_##name::kStandIn,
    MPROF_CALL_FUNCTIONS(MPROF_START)
#undef MPROF_START
};

void resolve_calls() {
  if (resolved.exchange(true)) return;
#define MPROF_RESOLVE(result, name, ...) Tag_##name::resolve();
  MPROF_CALL_FUNCTIONS(MPROF_RESOLVE)
#undef MPROF_RESOLVE
}

}  // namespace mprof::preload
