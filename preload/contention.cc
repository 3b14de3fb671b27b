// SPDX-License-Identifier: Apache-2.0
#include "preload/contention.h"

#include <algorithm>

#include "format/weights.h"
#include "preload/clock.h"
#include "preload/control.h"
#include "preload/counts.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/labels.h"
#include "preload/lifecycle.h"
#include "preload/live_index.h"
#include "preload/modules.h"
#include "preload/waiting.h"

namespace mprof::preload {

constinit std::atomic<bool> contention_on{false};
constinit std::atomic<bool> records_every_wait{false};

namespace {

using format::CountKind;
using format::kNoRow;
using format::TraceKind;
using format::WaitEnd;
using format::WaitKind;

std::atomic<bool> locks_on;
std::atomic<bool> trace_wants_waits;
std::atomic<bool> publishes;  // for either of them

uint64_t to_ticks(uint64_t ns) {
  const format::ClockPoint& first = header->clock_first;
  return ticks_of_ns(ns, first.ticks, first.monotonic_ns);
}

// Ticks in a nanosecond, with 32 fractional bits. It is known well after a few milliseconds; any
// rate is unbiased, so until then a rough one does.
class TickScale {
 public:
  void forget() { is_final_.store(false, std::memory_order_relaxed); }
  uint64_t ticks(uint64_t ns) {
    if (!is_final_.load(std::memory_order_relaxed)) [[unlikely]]
      update();
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>(Wide{ns} * scale_.load(std::memory_order_relaxed) >> 32);
  }

 private:
  void update() {
    scale_.store(to_ticks(uint64_t{1} << 32), std::memory_order_relaxed);
    is_final_.store(monotonic_ns() - header->clock_first.monotonic_ns > 20000000,
                    std::memory_order_relaxed);
  }

  std::atomic<uint64_t> scale_;
  std::atomic<bool> is_final_;
};
TickScale tick_scale;

std::atomic<uint64_t> block_rate_ns;
std::atomic<uint64_t> stretch_ns;  // mean distance of the points; 0: every stretch is recorded

uint64_t stretch_ticks() { return tick_scale.ticks(stretch_ns.load(std::memory_order_relaxed)); }

uint64_t between(uint64_t start, uint64_t end) { return end > start ? end - start : 0; }

[[gnu::noinline, gnu::cold]] uint32_t seed_of_thread() {
  return static_cast<uint32_t>(mix(ticks() ^ reinterpret_cast<uintptr_t>(&self)) >> 32) | 1;
}

uint32_t random32() {  // xorshift32
  uint32_t x = self.wait_random;
  if (x == 0) [[unlikely]]
    x = seed_of_thread();
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return self.wait_random = x;
}

void adapt_rate(ThreadBlock* thread, uint64_t now) {
  const uint64_t set_ns = block_rate_ns.load(std::memory_order_relaxed);
  const uint64_t busiest_ns = busiest_rate_ns(set_ns, waiter_count());
  const bool is_busy = now - thread->last_record_ticks < tick_scale.ticks(busiest_ns);
  thread->block_rate.note_record(set_ns, busiest_ns, is_busy);
  thread->last_record_ticks = now;
}

// The rate in ticks that this thread draws its next wait with; 0: each wait is recorded.
uint64_t drawing_rate(uint64_t set_ns) {
  if (set_ns == 1) return 0;
  const ThreadBlock* thread = self.block;
  return tick_scale.ticks(thread == nullptr ? set_ns : thread->block_rate.ns(set_ns));
}

// Always is one of the rate or longer, else with chance length / rate.
bool is_drawn(uint64_t waited, uint64_t rate) {
  __extension__ using Wide = unsigned __int128;
  return waited >= rate || static_cast<uint64_t>(Wide{rate} * random32() >> 32) < waited;
}

// The stack that allocated the block in which a lock lies that is no global: sampled blocks that
// begin in the last few kilobytes before it are looked for.
constexpr uintptr_t kMostBytesBefore = 4096;
uint32_t allocation_of(const void* object) {
  const auto address = reinterpret_cast<uintptr_t>(object);
  for (uintptr_t before = address & 15; before < kMostBytesBefore; before += 16) {
    const auto* block = reinterpret_cast<const void*>(address - before);
    format::LiveRow live;
    if (!may_be_sampled(block) || live_index.find(block, &live) != LiveIndex::Found::kYes) continue;
    return before < live.size_bytes ? tables.buckets.at(live.bucket)->stack : kNoRow;
  }
  return kNoRow;
}

uint32_t labels_of(WaitKind kind, const void* object) {
  uint32_t set = with_wait(base_labels(), kind);
  if (kind == WaitKind::kJoin) return set;  // what it waits for is a thread
  bool is_global;
  set = with_address(set, LabelName::kLock, object, &is_global);
  if (is_global) return set;
  return with_stack(set, LabelName::kLockSite, allocation_of(object));
}

void count(ThreadBlock* thread, CountKind kind, uint32_t stack, uint32_t labels,
           const format::CountSample& sample, uint64_t now) {
  const uint32_t row =
      stack == kNoRow ? kNoRow : find_count(kind, stack, labels, thread->row_number);
  if (row == kNoRow) return count_lost(format::Lost::kNotCounted);
  add_count(thread, row, sample, now);
  if ((++thread->events & 255) == 0) update_clock();
}

[[gnu::noinline]] void record_drawn(const Wait& wait, WaitKind kind, const void* object,
                                    uint64_t waited, uint64_t rate, uint64_t now) {
  if (!may_record()) return;
  work_on_sample([&](ThreadBlock* thread) {
    const uint32_t stack = wait.stack != kNoRow ? wait.stack : capture_stack(thread, wait.site);
    count(thread, CountKind::kBlock, stack, labels_of(kind, object),
          {waited, format::wait_weight(waited, rate)}, now);
    adapt_rate(thread, now);
  });
}

void record_wait(const Wait& wait, uint64_t waited, uint64_t now) {
  const uint64_t set_ns = block_rate_ns.load(std::memory_order_relaxed);
  if (set_ns == 0) return;
  const uint64_t rate = drawing_rate(set_ns);
  if (is_drawn(waited, rate)) record_drawn(wait, wait.kind, wait.object, waited, rate, now);
}

// A wait for a condition until `until`, and from then on for the mutex.
void record_condition_wait(const ConditionWait& condition, uint64_t until, uint64_t now) {
  const uint64_t set_ns = block_rate_ns.load(std::memory_order_relaxed);
  if (set_ns == 0) return;
  const uint64_t rate = drawing_rate(set_ns);
  const Wait& wait = condition.wait;
  const uint64_t waited = between(wait.start_ticks, until);
  if (is_drawn(waited, rate)) record_drawn(wait, WaitKind::kCond, wait.object, waited, rate, now);
  if (until != now && is_drawn(now - until, rate))
    record_drawn(wait, WaitKind::kCondRelock, condition.mutex, now - until, rate, now);
}

[[gnu::noinline]] uint32_t capture_victim(ThreadBlock* thread, Wait& wait) {
  const ErrnoGuard keep_errno;
  thread->wait_site_modules = module_epoch();  // before the walk, which may see another
  thread->wait_site = wait.site.return_address();
  thread->wait_site_sp = wait.site.callers_sp();
  thread->wait_site_stack = capture_stack(thread, wait.site);
  if (thread->wait_site_stack == kNoRow) count_lost(format::Lost::kNotCounted);
  if (tracing()) wait.stack = thread->wait_site_stack;
  return thread->wait_site_stack;
}

// The stack of a waiter, as the victim of a release. Where waits follow each other within some
// microseconds, the same caller at the same depth is taken for the same stack: a label may then
// show another caller of the same function. The waiter's own profile never does that.
uint32_t stack_of_victim(ThreadBlock* thread, Wait& wait) {
  constexpr uint64_t kOftenTicks = 50000;  // 15 to 50 us
  const bool is_often = wait.start_ticks - thread->last_wait_ticks < kOftenTicks;
  thread->last_wait_ticks = wait.start_ticks;
  if (is_often && thread->wait_site == wait.site.return_address() &&
      thread->wait_site_sp == wait.site.callers_sp() &&
      thread->wait_site_modules == module_epoch() && !tracing() &&
      stretch_ns.load(std::memory_order_relaxed) != 0)
    return thread->wait_site_stack;
  return capture_victim(thread, wait);
}

bool is_on(const std::atomic<bool>& setting) { return setting.load(std::memory_order_relaxed); }

bool start_timing(Wait& wait, uint64_t now) {
  wait.start_ticks = 0;
  wait.thread = nullptr;
  wait.stack = kNoRow;
  if (self.inside != 0) return false;
  const bool is_recording = recording();
  if (is_recording) notice_control_of_dump();
  if (!is_on(contention_on) || !(is_recording || start_if_new())) return false;
  wait.process = process_number;
  wait.start_ticks = now;
  return true;
}

bool is_timed(const Wait& wait) { return wait.start_ticks != 0 && wait.process == process_number; }

void show(ThreadBlock* thread, const Wait& wait, uint32_t stack) {
  show_wait(*thread->row, wait.kind, wait.object, stack, wait.start_ticks);
}
void hide() {
  if (self.block != nullptr) hide_wait(*self.block->row);
}

[[gnu::noinline]] void trace_begin(ThreadBlock* thread, const Wait& wait) {
  const ErrnoGuard keep_errno;
  trace_write(thread, TraceKind::kWait, wait.start_ticks, wait.stack,
              static_cast<uint64_t>(wait.kind), reinterpret_cast<uintptr_t>(wait.object));
}

// A trace that began meanwhile knows of the wait, too.
[[gnu::noinline]] void trace_end(WaitEnd end, uint64_t now) {
  if (!may_record()) return;
  work_on_sample([&](ThreadBlock* thread) {
    trace_write(thread, TraceKind::kWaitEnd, now, kNoRow, static_cast<uint64_t>(end));
  });
}

[[gnu::noinline]] void trace_condition_end(const ConditionWait& condition, WaitEnd end,
                                           uint64_t until, uint64_t now) {
  if (!may_record()) return;
  work_on_sample([&](ThreadBlock* thread) {
    if (until != now)
      trace_write(thread, TraceKind::kRelock, now, kNoRow,
                  reinterpret_cast<uintptr_t>(condition.mutex), now - until);
    trace_write(thread, TraceKind::kWaitEnd, now, kNoRow, static_cast<uint64_t>(end));
  });
}

// Nobody but a trace asks for the stack of a wait that no release is charged for.
[[gnu::noinline]] void trace_and_show(Wait& wait) {
  work_on_sample([&](ThreadBlock* thread) {
    wait.stack = capture_stack(thread, wait.site);
    show(thread, wait, wait.stack);
    trace_begin(thread, wait);
  });
}

uint64_t random64() { return uint64_t{random32()} << 32 | random32(); }

// What the hooks are to do, for the profiles or for a trace.
void set_hooks() {
  const bool publish = is_on(locks_on) || is_on(trace_wants_waits);
  publishes.store(publish, std::memory_order_relaxed);
  condition_table_publish(publish);
  contention_on.store(publish || block_rate_ns.load(std::memory_order_relaxed) != 0,
                      std::memory_order_relaxed);
}

// How late a wait may come back after its deadline without having waited for the mutex.
constexpr uint64_t kTimerSlackNs = 1000000;

}  // namespace

void contention_init(uint64_t rate_ns, uint32_t mutex_fraction) {
  tick_scale.forget();
  contention_set(rate_ns, mutex_fraction);
}

// Each word by itself is right with any of the others' values: what is recorded carries the weight
// that it was drawn with. Locks whose waiters were published before locks were turned off are
// looked at by each release until nobody waits.
void contention_set(uint64_t rate_ns, uint32_t mutex_fraction) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  block_rate_ns.store(rate_ns, kRelaxed);
  stretch_ns.store(mutex_fraction <= 1 ? 0 : mutex_fraction * format::kMutexFractionNs, kRelaxed);
  locks_on.store(mutex_fraction != 0, kRelaxed);
  records_every_wait.store(rate_ns == 1, kRelaxed);
  set_hooks();
}

void contention_trace(bool on) {
  trace_wants_waits.store(on, std::memory_order_relaxed);
  set_hooks();
}

bool may_record() { return self.inside == 0 && recording(); }

void begin_wait(Wait& wait, bool is_lock) {
  if (!start_timing(wait, ticks())) return;
  if (!is_lock || !is_on(publishes)) {
    if (tracing()) return trace_and_show(wait);
    if (ThreadBlock* thread = own_block()) show(thread, wait, kNoRow);
    return;
  }
  work_on_sample([&](ThreadBlock* thread) {
    wait.thread = thread;
    const uint32_t stack = stack_of_victim(thread, wait);
    publish_wait(thread->lock_wait.wait, wait.object, wait.kind, stack, wait.start_ticks);
    show(thread, wait, stack);
    if (tracing()) trace_begin(thread, wait);
  });
}

void end_wait(Wait& wait, WaitEnd end) {
  if (!is_timed(wait)) return;
  const uint64_t now = ticks();
  hide();
  if (wait.thread != nullptr) withdraw_wait(wait.thread->lock_wait.wait);
  if (tracing()) trace_end(end, now);
  if (end != WaitEnd::kAtOnce) record_wait(wait, between(wait.start_ticks, now), now);
}

Release charge(WatchedLock& entry, const void* lock, WaitKind held, uint64_t now) {
  Release release{lock, now, {}, false, tracing() && may_be_waited_for(lock), held};
  if (is_point_before(entry, now))
    release.is_charged =
        charge_release(entry, lock, now, stretch_ticks(), random64(), &release.charge) &&
        is_on(locks_on);
  else
    note_release(entry, lock, now, own_releases());
  return release;
}

Release begin_release(WatchedLock& entry, const void* lock, WaitKind held, uint64_t now) {
  if (!may_record()) return {};
  const Guard guard(Guard::kAtWork);
  return charge(entry, lock, held, now);
}

void end_release(const Release& release, CallSite site) {
  if (!(release.is_charged || release.is_traced) || !may_record()) return;
  work_on_sample([&](ThreadBlock* thread) {
    const uint32_t stack = capture_stack(thread, site);
    if (release.is_traced)
      trace_write_release(thread, release.now, stack, release.held, release.lock);
    if (!release.is_charged) return;
    const Charge& charge = release.charge;
    const uint32_t labels =
        with_stack(labels_of(charge.kind, release.lock), LabelName::kVictim, charge.victim);
    count(thread, CountKind::kMutex, stack, labels, {charge.ticks, charge.weight}, release.now);
  });
}

void begin_condition_wait(ConditionWait& condition, uint64_t now) {
  Wait& wait = condition.wait;
  if (!start_timing(wait, now)) return;
  ThreadBlock* block = own_block();
  if (block == nullptr) return count_lost(format::Lost::kNotCounted);
  work_with(block, [&](ThreadBlock* thread) {
    ConditionNode& node = thread->condition_wait;
    abandon_condition(node);
    node.mutex = condition.mutex;
    node.row = thread->row;
    node.stack = stack_of_victim(thread, wait);
    show(thread, wait, node.stack);
    if (enter_condition(node, wait.object)) wait.thread = thread;
    if (tracing()) trace_begin(thread, wait);
  });
}

void end_condition_wait(ConditionWait& condition, WaitEnd end, uint64_t ns_late) {
  Wait& wait = condition.wait;
  if (!is_timed(wait)) return;
  const uint64_t now = ticks();
  uint64_t until = now;
  if (wait.thread != nullptr) {
    const Guard guard(Guard::kAtWork);
    const uint64_t relocking =
        leave_condition(wait.thread->condition_wait, end == WaitEnd::kGaveUp);
    if (relocking > wait.start_ticks && relocking < now) until = relocking;
  }
  hide();
  if (ns_late > kTimerSlackNs)
    until = now - std::min(to_ticks(ns_late), between(wait.start_ticks, now));
  if (tracing()) trace_condition_end(condition, end, until, now);
  record_condition_wait(condition, until, now);
}

void abandon_condition_wait(void* condition) {
  const Wait& wait = static_cast<ConditionWait*>(condition)->wait;
  if (!is_timed(wait)) return;
  hide();
  if (tracing()) trace_end(WaitEnd::kGaveUp, ticks());
  if (wait.thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  abandon_condition(wait.thread->condition_wait);
}

uint64_t note_signal(const void* condition, bool all) {
  if (!may_record()) return 0;
  const Guard guard(Guard::kAtWork);
  const uint64_t now = ticks();
  return mark_signalled(condition, all, now) && tracing() ? now : 0;
}

}  // namespace mprof::preload
