// SPDX-License-Identifier: Apache-2.0
#include "preload/thread_stacks.h"

#include <linux/futex.h>

#include "format/rendezvous.h"
#include "preload/clock.h"
#include "preload/stacks.h"
#include "preload/sys.h"

namespace mprof::preload {
namespace {

constexpr uint64_t kLongestWaitNs = 50000000;

// Shared with the controller and, if that has gone, with nobody: the wait has an end.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t while_it_is, uint64_t ns) {
  const timespec timeout{0, static_cast<long>(ns)};
  sys::call<SYS_futex>(sys::address(&word), FUTEX_WAIT, while_it_is, sys::address(&timeout));
}
void futex_wake_all(const std::atomic<uint32_t>& word) {
  sys::call<SYS_futex>(sys::address(&word), FUTEX_WAKE, INT32_MAX);
}

void release(format::Control& control, uint32_t was, uint32_t to) {
  if (control.released.compare_exchange_strong(was, to, std::memory_order_acq_rel))
    futex_wake_all(control.released);
}

void wait_for_release(format::Control& control, uint32_t before, uint32_t request) {
  const uint64_t start = monotonic_ns();
  for (;;) {
    const uint32_t released = control.released.load(std::memory_order_acquire);
    if (format::is_released(released, request)) return;
    const uint64_t gone = monotonic_ns() - start;
    if (gone >= kLongestWaitNs) return release(control, before, format::gave_up(request));
    futex_wait(control.released, before, kLongestWaitNs - gone);
  }
}

void meet_others(format::Control& control, uint32_t request) {
  const uint32_t wanted = control.rendezvous.load(std::memory_order_relaxed);
  if (wanted == 0) return;
  const uint32_t before = control.released.load(std::memory_order_acquire);
  if (format::is_released(before, request)) return;  // too late
  if (control.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 >= wanted)
    return release(control, before, format::all_met(request));
  wait_for_release(control, before, request);
}

// A thread that was made by a raw clone may run on the thread-local storage of another one.
bool is_own_row(const format::ThreadRow& row) {
  return row.tid.load(std::memory_order_relaxed) == static_cast<uint32_t>(sys::gettid());
}

void answer(ThreadBlock* thread, uint32_t request, const Registers& interrupted) {
  format::ThreadRow& row = *thread->row;
  if (!is_own_row(row)) return;
  meet_others(header->control, request);
  row.answer_stack.store(capture_stack(thread, interrupted), std::memory_order_relaxed);
  row.answer_ticks.store(ticks(), std::memory_order_relaxed);
  row.answer.store(request, std::memory_order_release);
}

}  // namespace

void answer_stack_request(const Registers& interrupted) {
  if (self.inside != 0) return;
  const uint32_t request = header->control.stacks_request.load(std::memory_order_acquire);
  work_on_sample([&](ThreadBlock* thread) { answer(thread, request, interrupted); });
}

}  // namespace mprof::preload
