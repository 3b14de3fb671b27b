// SPDX-License-Identifier: Apache-2.0
// Threads and libraries: pthread_create and thrd_create, for the threadcreate profile and so that a
// thread's stack bounds are known without asking libc for them (pthread_getattr_np allocates and
// locks); pthread_setname_np, for names; and dlclose, so that addresses of unloaded libraries keep
// their names.
#include <pthread.h>
#include <threads.h>

#include <atomic>

#include "preload/clock.h"
#include "preload/counts.h"
#include "preload/cpu_sampler.h"
#include "preload/dump_file.h"
#include "preload/labels.h"
#include "preload/lifecycle.h"
#include "preload/modules.h"
#include "preload/real.h"
#include "preload/real_locks.h"
#include "preload/rule_cache.h"
#include "preload/stacks.h"
#include "preload/sys.h"
#include "preload/thread_start.h"
#include "preload/trace.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::kNoRow;

namespace {

// What a new thread is to do. Not from malloc: freed by the new thread, the block would stay in its
// cache, and what it grows there would be grown under the lock of another thread's arena.
struct Task {
  void* (*function)(void*);
  thrd_start_t c11_function;
  void* argument;
  size_t stack_bytes;
  uint32_t row;  // in the thread table
  uint32_t process;
  uint64_t labels;  // its creator's, see LabelsWord
};
struct Start {
  std::atomic<bool> taken;
  Task task;
};
constexpr size_t kStarts = 256;
// No constructor: one would empty it after the first threads.
constinit Start starts[kStarts] = {};

// When more threads are on their way at once: a page. nullptr when there is none.
Start* take_start() {
  for (Start& start : starts)
    if (!start.taken.load(std::memory_order_relaxed) &&
        !start.taken.exchange(true, std::memory_order_acquire))
      return &start;
  return static_cast<Start*>(map_anonymous(sizeof(Start)));
}

void give_start(Start* start) {
  if (start >= starts && start < starts + kStarts)
    return start->taken.store(false, std::memory_order_release);
  sys::munmap(start, sizeof *start);
}

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

Task begin_thread(void* argument) {
  auto* start = static_cast<Start*>(argument);
  const Task task = start->task;
  give_start(start);
  note_stack(task.stack_bytes);
  self.labels = task.labels;
  if (task.row != kNoRow)
    take_row(task.row, task.process);
  else if (cpu_rate() != 0 && recording())
    note_thread();  // or nobody would know that its time is to be sampled
  if (tracing()) trace_event(mprof::format::TraceKind::kBegin);
  return task;
}

void* run_thread(void* argument) {
  const Task task = begin_thread(argument);
  return task.function(task.argument);  // a tail call: no frame of ours stays on the stack
}

int run_c11_thread(void* argument) {
  const Task task = begin_thread(argument);
  return task.c11_function(task.argument);
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

struct Creation {
  uint32_t row;  // of the threadcreate profile that the new thread counts in; kNoRow if none
  uint32_t stack;
  uint64_t now;
};
Creation creation_of(const void* function, const void* argument, CallSite site) {
  Creation creation{kNoRow, kNoRow, 0};
  if (self.inside != 0 || !ready_to_sample()) return creation;
  work_on_sample([&](ThreadBlock* thread) {
    creation.now = ticks();
    const uint32_t stack = creation.stack = capture_stack(thread, site);
    const uint32_t labels = with_address(kNoRow, LabelName::kStart, start_of(function, argument));
    if (stack != kNoRow)
      creation.row =
          find_count(mprof::format::CountKind::kThreadCreate, stack, labels, thread->row_number);
    if (creation.row == kNoRow) count_lost(mprof::format::Lost::kNotCounted);
  });
  return creation;
}

void count_creation(const Creation& creation, uint32_t thread_row) {
  if (creation.now == 0 || self.inside != 0 || !recording()) return;
  work_on_sample([&](ThreadBlock* thread) {
    if (tracing() && thread_row != kNoRow)
      trace_write(thread, mprof::format::TraceKind::kCreate, creation.now, creation.stack,
                  thread_row);
    if (creation.row != kNoRow)
      add_count(thread, creation.row, {0, mprof::format::kWeightOne}, ticks());
  });
}

// A thread has a row of its own from the start if it counts, or a trace is to tell who made it.
uint32_t row_for(const Creation& creation) {
  const bool is_wanted = creation.row != kNoRow || (tracing() && creation.now != 0);
  return is_wanted ? make_row_for_new_thread(creation.row) : kNoRow;
}

// Makes a thread by `create(start)`; there may be no Start for it.
template <class Create>
[[gnu::always_inline]] inline int create_thread(const void* function, const Task& task,
                                                CallSite site, Create&& create) {
  const Creation creation = creation_of(function, task.argument, site);
  uint32_t row = kNoRow;
  Start* start = take_start();
  if (start != nullptr) {
    start->task = task;
    start->task.process = process_number;
    start->task.labels = self.labels;
    start->task.row = row = row_for(creation);
  }
  const int error = create(start);
  if (error != 0 && start != nullptr) give_start(start);
  if (error == 0) count_creation(creation, row);
  return error;
}

const void* code(void* (*function)(void*)) { return reinterpret_cast<const void*>(function); }
const void* code(thrd_start_t function) { return reinterpret_cast<const void*>(function); }

}  // namespace

extern "C" {

MPROF_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                void* (*function)(void*), void* argument) noexcept {
  const Task task{function, nullptr, argument, stack_bytes_of(attributes), 0, 0, 0};
  return create_thread(code(function), task, MPROF_CALL_SITE(), [=](Start* start) {
    return start == nullptr ? real.pthread_create(thread, attributes, function, argument)
                            : real.pthread_create(thread, attributes, run_thread, start);
  });
}

MPROF_EXPORT int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  const Task task{nullptr, function, argument, stack_bytes_of(nullptr), 0, 0, 0};
  return create_thread(code(function), task, MPROF_CALL_SITE(), [=](Start* start) {
    return start == nullptr ? real_locks.thrd_create(thread, function, argument)
                            : real_locks.thrd_create(thread, run_c11_thread, start);
  });
}

MPROF_EXPORT int pthread_setname_np(pthread_t thread, const char* name) noexcept {
  const int error = real_locks.pthread_setname_np(thread, name);
  if (error == 0 && pthread_equal(thread, pthread_self()) != 0 && recording()) note_name();
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
