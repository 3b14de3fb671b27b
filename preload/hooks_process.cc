// SPDX-License-Identifier: Apache-2.0
// Threads and libraries: pthread_create, so that a thread's stack bounds are known without asking
// libc for them (pthread_getattr_np allocates and locks), and dlclose, so that addresses of
// unloaded libraries keep their names.
#include <pthread.h>

#include <atomic>

#include "preload/lifecycle.h"
#include "preload/modules.h"
#include "preload/real.h"
#include "preload/rule_cache.h"
#include "preload/thread_state.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

// What a new thread is to do. Not from malloc: freed by the new thread, the block would stay in its
// cache, and what it grows there would be grown under the lock of another thread's arena.
struct Start {
  std::atomic<bool> taken;
  void* (*function)(void*);
  void* argument;
  size_t stack_bytes;
};
Start starts[256];

// nullptr when that many threads are on their way at once.
Start* take_start() {
  for (Start& start : starts)
    if (!start.taken.load(std::memory_order_relaxed) &&
        !start.taken.exchange(true, std::memory_order_acquire))
      return &start;
  return nullptr;
}

void give_start(Start* start) { start->taken.store(false, std::memory_order_release); }

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
  auto* start = static_cast<Start*>(argument);
  void* (*function)(void*) = start->function;
  void* functions_argument = start->argument;
  note_stack(start->stack_bytes);
  give_start(start);
  return function(functions_argument);  // a tail call: no frame of ours stays on the stack
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
  Start* start = take_start();
  if (start == nullptr) return real.pthread_create(thread, attributes, function, argument);
  start->function = function;
  start->argument = argument;
  start->stack_bytes = stack_bytes_of(attributes);
  const int error = real.pthread_create(thread, attributes, run_thread, start);
  if (error != 0) give_start(start);
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
