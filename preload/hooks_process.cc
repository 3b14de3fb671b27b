// SPDX-License-Identifier: Apache-2.0
// Threads and libraries: pthread_create, so that a thread's stack bounds are known without asking
// libc for them (pthread_getattr_np allocates and locks), and dlclose, so that addresses of
// unloaded libraries keep their names.
#include <pthread.h>

#include "preload/lifecycle.h"
#include "preload/modules.h"
#include "preload/real.h"
#include "preload/rule_cache.h"
#include "preload/thread_state.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

struct Start {
  void* (*function)(void*);
  void* argument;
  size_t stack_bytes;
};

// glibc puts a thread's control block at the top of its stack, above every frame, and its mapping
// is at least as large as the stack size asked for. One page is left out at the low end for what
// lies above the control block.
void note_stack(size_t stack_bytes) {
  const auto top = reinterpret_cast<uintptr_t>(pthread_self());
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (stack_bytes < 4096 || here > top || here < top - stack_bytes + 4096) return;
  self.stack_low = top - stack_bytes + 4096;
  self.stack_high = top;
}

void* run_thread(void* argument) {
  const Start start = *static_cast<Start*>(argument);
  real.free(argument);
  note_stack(start.stack_bytes);
  return start.function(start.argument);  // a tail call: no frame of ours stays on the stack
}

size_t stack_bytes_of(const pthread_attr_t* attributes) {
  size_t bytes = 0;
  if (attributes != nullptr) {
    pthread_attr_getstacksize(attributes, &bytes);
    return bytes;
  }
  pthread_attr_t defaults;
  if (pthread_attr_init(&defaults) != 0) return 0;
  pthread_attr_getstacksize(&defaults, &bytes);
  pthread_attr_destroy(&defaults);
  return bytes;
}

}  // namespace

extern "C" {

MPROF_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                void* (*function)(void*), void* argument) noexcept {
  auto* start = static_cast<Start*>(real.malloc(sizeof(Start)));
  if (start == nullptr) return real.pthread_create(thread, attributes, function, argument);
  *start = {function, argument, stack_bytes_of(attributes)};
  const int error = real.pthread_create(thread, attributes, run_thread, start);
  if (error != 0) real.free(start);
  return error;
}

MPROF_EXPORT int dlclose(void* handle) noexcept {
  const int result = real.dlclose(handle);
  if (recording()) {
    const ErrnoGuard keep_errno;
    const Guard guard(Guard::kOwnCalls);
    rule_cache_flush();
    close_unloaded_modules();
  }
  return result;
}

}  // extern "C"
