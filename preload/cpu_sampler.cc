// SPDX-License-Identifier: Apache-2.0
#include "preload/cpu_sampler.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "preload/clock.h"
#include "preload/counts.h"
#include "preload/dump_file.h"
#include "preload/spin.h"
#include "preload/stacks.h"
#include "preload/sys.h"
#include "preload/trace.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::ThreadRow;

constexpr uint64_t kSecondNs = 1000000000;
constexpr uint32_t kNone = 0;
constexpr uint32_t kBusy = 0xffffffff;  // in ThreadRow::cpu_timer: somebody changes this timer

std::atomic<uint64_t> period_ns;  // 0: off
size_t signal_frame_bytes;        // with which the kernel begins on a signal stack
uint64_t used_before_ns;          // of this process, when the profile was last turned on
uint64_t used_on_ns;              // while the profile was on before

// The clock of another thread's processor time, as the kernel numbers it.
clockid_t cpu_clock_of(uint32_t tid) {
  constexpr clockid_t kThread = 4, kSchedulerTime = 2;
  return static_cast<clockid_t>(~tid << 3) | kThread | kSchedulerTime;
}

// 0 if it cannot be had.
uint64_t cpu_ns(clockid_t clock) {
  timespec used = {};
  sys::clock_gettime(clock, &used);
  return static_cast<uint64_t>(used.tv_sec) * kSecondNs + static_cast<uint64_t>(used.tv_nsec);
}

uint64_t process_cpu_ns() { return cpu_ns(CLOCK_PROCESS_CPUTIME_ID); }

timespec timespec_of(uint64_t ns) {
  return {static_cast<time_t>(ns / kSecondNs), static_cast<long>(ns % kSecondNs)};
}

// The kernel's number + 1, or kNone.
uint32_t make_timer(uint32_t tid, int cookie) {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = static_cast<int>(header->signal_number.load(std::memory_order_relaxed));
  event.sigev_value.sival_int = cookie;
  event._sigev_un._tid = static_cast<pid_t>(tid);
  int timer = 0;
  if (event.sigev_signo == 0 || sys::timer_create(cpu_clock_of(tid), &event, &timer) != 0)
    return kNone;
  return static_cast<uint32_t>(timer) + 1;
}

// `first_ns` from now on; with TIMER_ABSTIME on the thread's clock.
void start_timer(uint32_t timer, uint64_t first_ns, uint64_t interval_ns, int flags = 0) {
  const itimerspec times = {timespec_of(interval_ns), timespec_of(first_ns)};
  sys::timer_settime(static_cast<int>(timer - 1), flags, &times);
}

void delete_timer(uint32_t timer) {
  if (timer != kNone) sys::timer_delete(static_cast<int>(timer - 1));
}

uint64_t first_expiry(uint32_t tid, uint64_t period) {
  return 1 + mix(ticks() ^ uint64_t{tid} << 32) % period;
}

void start_anew(ThreadRow& row, uint32_t timer, uint64_t period) {
  const uint32_t tid = row.tid.load(std::memory_order_relaxed);
  const uint64_t first = first_expiry(tid, period);
  const uint64_t now = cpu_ns(cpu_clock_of(tid));
  row.cpu_next_ns.store(now == 0 ? 0 : now + first, std::memory_order_relaxed);
  start_timer(timer, first, period);
}

// A thread that comes back from where it had no timer goes on with the expiry that it was to have:
// if that is over, the kernel sends it at once, with the number of periods. So nothing is lost
// however short the timer's lives are, though the kernel looks at it only at its own tick. Where
// another thread could be the one that is sent something, the timer begins anew.
uint32_t change_timer(ThreadRow& row, uint32_t timer, uint64_t period) {
  if (period == 0) return delete_timer(timer), kNone;
  const uint32_t tid = row.tid.load(std::memory_order_relaxed);
  if (timer == kNone) timer = make_timer(tid, kTickCookie);
  if (timer == kNone) {
    count_lost(format::Lost::kNoCpuTimer);
    return kNone;
  }
  if (const uint64_t next = row.cpu_next_ns.load(std::memory_order_relaxed))
    start_timer(timer, next, period, TIMER_ABSTIME);
  else
    start_anew(row, timer, period);
  return timer;
}

uint64_t period_of(const ThreadRow& row) {
  if (row.unsignalled.load(std::memory_order_seq_cst) != 0) return 0;  // (R)
  return period_ns.load(std::memory_order_seq_cst);                    // (R)
}

// Brings a thread's timer to the rate in force. Who finds it busy may leave: the other one looks at
// the rate again once it is done. (R) So both store, then load, with seq_cst.
void sync_timer(ThreadRow& row) {
  for (;;) {
    uint32_t timer = row.cpu_timer.load(std::memory_order_relaxed);
    if (timer == kBusy) return;
    const uint64_t period = period_of(row);
    if (timer == kNone && period == 0) return;
    if (!row.cpu_timer.compare_exchange_strong(timer, kBusy)) continue;
    row.cpu_timer.store(change_timer(row, timer, period), std::memory_order_seq_cst);  // (R)
    if (period_of(row) == period) return;
  }
}

template <class Use>
void for_each_thread(Use&& use) {
  for (uint32_t i = 0; i < tables.threads.used(); ++i)
    if (ThreadRow& row = *tables.threads.at(i); is_alive(row)) use(row);
}

void account_time_on(uint64_t now, bool on) {
  const uint64_t since = header->cpu_on_ticks.exchange(on ? now : 0, std::memory_order_relaxed);
  if (since != 0) header->cpu_profiled_ticks.fetch_add(now - since, std::memory_order_relaxed);
}

void add_own(std::atomic<uint64_t>& own_word, uint64_t by) {
  own_word.store(own_word.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

void drop(uint64_t periods) { count_lost(format::Lost::kCpuDropped, periods); }

void note_expiries(uint64_t ns) {
  ThreadRow* row = own_row();
  if (row != nullptr && row->cpu_next_ns.load(std::memory_order_relaxed) != 0)
    add_own(row->cpu_next_ns, ns);
}

void charge_to_mprof(uint64_t periods, uint64_t period) {
  ThreadRow* row = own_row();
  if (row == nullptr) return drop(periods);
  add_own(row->cpu_in_mprof_ns, periods * period);
}

void take_sample(ThreadBlock* thread, const Registers& interrupted, uint64_t periods,
                 uint64_t period) {
  const uint32_t stack = capture_stack(thread, interrupted);
  const uint32_t row = stack == kNoRow ? kNoRow
                                       : find_count(format::CountKind::kCpu, stack,
                                                    current_labels(), thread->row_number);
  if (row == kNoRow || !add_count(thread, row, {period, periods * format::kWeightOne}, ticks()))
    return drop(periods);
  if (tracing()) trace_write(thread, format::TraceKind::kCpu, ticks(), stack);
  add_own(thread->row->cpu_samples, 1);
  if ((thread->row->cpu_samples.load(std::memory_order_relaxed) & 63) == 1) {
    update_clock();
    cpu_note_used();
  }
}

}  // namespace

void cpu_set_rate(uint32_t hz) {
  const uint64_t wanted = hz == 0 ? 0 : kSecondNs / hz;
  const uint64_t before = period_ns.exchange(wanted, std::memory_order_seq_cst);
  if (before == wanted) return;
  if (before == 0) used_before_ns = process_cpu_ns();
  cpu_note_used();
  if (wanted == 0) used_on_ns = header->cpu_used_ns.load(std::memory_order_relaxed);
  account_time_on(ticks(), wanted != 0);
  for_each_thread([](ThreadRow& row) {
    row.cpu_next_ns.store(0, std::memory_order_relaxed);
    sync_timer(row);
  });
}

uint32_t cpu_rate() {
  const uint64_t period = period_ns.load(std::memory_order_relaxed);
  return period == 0 ? 0 : static_cast<uint32_t>(kSecondNs / period);
}

void cpu_begin_in_new_process() {
  signal_frame_bytes = static_cast<size_t>(sysconf(_SC_MINSIGSTKSZ));
  period_ns.store(0, std::memory_order_relaxed);
  used_on_ns = 0;
}

bool handler_fits(const stack_t& stack) {
  // Measured: 1.2 KiB beside what the kernel puts there.
  constexpr size_t kHandlerBytes = 2560;
  return (stack.ss_flags & SS_DISABLE) != 0 || stack.ss_size >= signal_frame_bytes + kHandlerBytes;
}

uint32_t why_unsignalled() {
  uint32_t reasons = 0;
  sigset_t blocked = {};
  stack_t stack = {};
  stack.ss_flags = SS_DISABLE;  // a filter of seccomp may be against the question
  sys::sigprocmask(SIG_BLOCK, nullptr, &blocked);
  sys::sigaltstack(nullptr, &stack);
  const auto number = static_cast<int>(header->signal_number.load(std::memory_order_relaxed));
  if (number != 0 && sigismember(&blocked, number) == 1) reasons |= format::kSignalBlocked;
  if (!handler_fits(stack)) reasons |= format::kSmallSignalStack;
  return reasons;
}

// Only once: another start would draw another first expiry, and samples come too often.
void cpu_thread_begins(ThreadRow& row) {
  if (row.cpu_timer.load(std::memory_order_relaxed) == kNone) sync_timer(row);
}

void cpu_thread_is_unsignalled(ThreadRow& row, uint32_t reasons) {
  row.unsignalled.store(reasons, std::memory_order_seq_cst);  // (R)
  sync_timer(row);
}

void cpu_thread_ends(ThreadRow& row) {
  uint32_t timer = kBusy;
  if (!spin_until([&] {
        timer = row.cpu_timer.load(std::memory_order_relaxed);
        return timer != kBusy && row.cpu_timer.compare_exchange_weak(timer, kNone);
      }))
    return;
  delete_timer(timer);
}

void cpu_note_used() {
  if (period_ns.load(std::memory_order_relaxed) == 0) return;
  header->cpu_used_ns.store(used_on_ns + process_cpu_ns() - used_before_ns,
                            std::memory_order_relaxed);
}

void cpu_tick(const siginfo_t& info, const Registers& interrupted) {
  if (info.si_value.sival_int == kNudgeCookie) return sys::timer_delete(info.si_timerid);
  const uint64_t period = period_ns.load(std::memory_order_relaxed);
  if (period == 0) return;  // sent just before it was turned off
  const auto periods = static_cast<uint64_t>(1 + std::max(info.si_overrun, 0));
  note_expiries(periods * period);
  if (self.inside != 0) return charge_to_mprof(periods, period);
  if (own_block() == nullptr) return drop(periods);
  work_on_sample([&](ThreadBlock* thread) { take_sample(thread, interrupted, periods, period); });
}

void cpu_signal_changed() {
  const uint32_t hz = cpu_rate();
  if (hz == 0 || header == nullptr) return;
  cpu_set_rate(0);
  if (header->signal_number.load(std::memory_order_relaxed) != 0) cpu_set_rate(hz);
}

void cpu_nudge_all_threads() {
  for_each_thread([](ThreadRow& row) {
    if (row.unsignalled.load(std::memory_order_relaxed) != 0) return;
    const uint32_t timer = make_timer(row.tid.load(std::memory_order_relaxed), kNudgeCookie);
    if (timer != kNone) start_timer(timer, 1, 0);
  });
}

}  // namespace mprof::preload
