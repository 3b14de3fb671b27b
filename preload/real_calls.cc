// SPDX-License-Identifier: Apache-2.0
#include "preload/real_calls.h"

#include <errno.h>
#include <string.h>

#include <atomic>

#include "preload/look_up.h"

namespace mprof::preload {
namespace {

// In place of a function that this libc does not have, whatever its parameters.
long missing() {
  errno = ENOSYS;
  return -1;
}

// In the order of RealCalls, each terminated.
#define MPROF_NAME(result, name, ...) #name "\0"
constexpr char kNames[] = MPROF_CALL_FUNCTIONS(MPROF_NAME);
#undef MPROF_NAME

using Pointer [[gnu::may_alias]] = void*;

void resolve_all() {
  auto* pointer = reinterpret_cast<Pointer*>(&real_calls);
  for (const char* name = kNames; *name != '\0'; name += strlen(name) + 1) {
    void* found = look_up(name, nullptr);
    *pointer++ = found != nullptr ? found : reinterpret_cast<void*>(&missing);
  }
}

#define MPROF_TAG(result, name, ...)                             \
  struct Tag_##name {                                            \
    static auto& pointer() { return real_calls.name; }           \
    static void resolve() { resolve_all(); }                     \
    static constexpr result (*kStandIn)(__VA_ARGS__) =           \
        stand_in<Tag_##name, result __VA_OPT__(, ) __VA_ARGS__>; \
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
  if (!resolved.exchange(true)) resolve_all();
}

}  // namespace mprof::preload
