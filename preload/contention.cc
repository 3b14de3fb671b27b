// SPDX-License-Identifier: Apache-2.0
#include "preload/contention.h"

#include <algorithm>

#include "format/weights.h"
#include "preload/clock.h"
#include "preload/counts.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/labels.h"
#include "preload/lifecycle.h"
#include "preload/live_index.h"

namespace mprof::preload {

constinit bool contention_on = false;

namespace {

using format::CountKind;
using format::kNoRow;
using format::WaitKind;

uint64_t block_rate_ns;
bool locks_on;

// The block rate in ticks; 1 = every wait. The length of a tick is known after a few milliseconds;
// any rate is unbiased, so until then a rough one does.
std::atomic<uint64_t> block_rate_ticks;
std::atomic<bool> rate_is_final;

void update_block_rate() {
  const format::ClockPoint& first = header->clock_first;
  const uint64_t rate = ticks_of_ns(block_rate_ns, first.ticks, first.monotonic_ns);
  block_rate_ticks.store(rate > 1 ? rate : 2, std::memory_order_relaxed);
  rate_is_final.store(monotonic_ns() - first.monotonic_ns > 20000000, std::memory_order_relaxed);
}

uint32_t random32() {  // xorshift32
  uint32_t x = self.wait_random;
  if (x == 0)
    x = static_cast<uint32_t>(mix(ticks() ^ reinterpret_cast<uintptr_t>(&self)) >> 32) | 1;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return self.wait_random = x;
}

// Always for a wait of the rate or longer, else with chance length / rate.
bool is_sampled(uint64_t waited) {
  if (block_rate_ns == 0) return false;
  if (block_rate_ns == 1) return true;
  if (!rate_is_final.load(std::memory_order_relaxed)) update_block_rate();
  const uint64_t rate = block_rate_ticks.load(std::memory_order_relaxed);
  return waited >= rate || format::weighted_value(rate, random32()) >> 16 < waited;
}

uint64_t weight_of_wait(uint64_t waited) {
  if (block_rate_ns == 1) return format::kWeightOne;
  return format::wait_weight(waited, block_rate_ticks.load(std::memory_order_relaxed));
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
  uint32_t set = with_wait(kNoRow, kind);
  if (kind == WaitKind::kJoin) return set;  // what it waits for is a thread
  bool is_global;
  set = with_address(set, LabelName::kLock, object, &is_global);
  if (is_global) return set;
  return with_stack(set, LabelName::kLockSite, allocation_of(object));
}

void count(ThreadBlock* thread, CountKind kind, uint32_t stack, uint32_t labels,
           const format::CountSample& sample, uint64_t now) {
  if (stack == kNoRow) return;
  const uint32_t row = find_count(kind, stack, labels, thread->row_number);
  if (row != kNoRow) add_count(thread, row, sample, now);
  if ((++thread->events & 255) == 0) update_clock();
}

// One wait of which `1 << shift` were to be watched. `stack`: kNoRow if it is still to be captured.
void record_wait(const Wait& wait, WaitKind kind, uint64_t waited, uint64_t now, uint32_t stack,
                 uint32_t shift = 0) {
  if (!may_record() || !is_sampled(waited)) return;
  const ErrnoGuard keep_errno;
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  if (stack == kNoRow) stack = capture_stack(thread, wait.site);
  count(thread, CountKind::kBlock, stack, labels_of(kind, wait.object),
        {waited, weight_of_wait(waited) << shift}, now);
}

void capture_into(WaitNode& node, ThreadBlock* thread, CallSite site) {
  const ScopedInside inside(thread);
  node.stack.store(capture_stack(thread, site), std::memory_order_release);
}

// False once a signal handler, which interrupted the wait, has waited itself.
bool is_same_wait(const Wait& wait) {
  return wait.node->serial.load(std::memory_order_relaxed) == wait.serial;
}

// The node's stack, if this is still the wait it was captured for.
uint32_t captured_stack(const Wait& wait) {
  if (wait.node == nullptr || !is_same_wait(wait)) return kNoRow;
  return wait.node->stack.load(std::memory_order_relaxed);
}

void enlist_lock_wait(Wait& wait) {
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  WaitNode& node = thread->lock_wait;
  if (!enlist(node, wait.object, wait.kind, wait.start_ticks)) return;
  wait.node = &node;
  wait.serial = node.serial.load(std::memory_order_relaxed);
  capture_into(node, thread, wait.site);
}

bool start_timing(Wait& wait) {
  wait.start_ticks = 0;
  wait.node = nullptr;
  if (!contention_on || self.inside != 0 || !ready_to_sample()) return false;
  wait.process = process_number;
  wait.start_ticks = ticks();
  return true;
}

// How late a wait may come back after its deadline without having waited for the mutex.
constexpr uint64_t kTimerSlackNs = 1000000;

uint64_t since(uint64_t start, uint64_t now) { return now > start ? now - start : 0; }

}  // namespace

void contention_init(uint64_t rate_ns, uint32_t mutex_fraction) {
  block_rate_ns = rate_ns;
  rate_is_final.store(false, std::memory_order_relaxed);
  locks_on = mutex_fraction != 0;
  contention_on = block_rate_ns != 0 || locks_on;
}

bool may_record() { return self.inside == 0 && recording(); }

void begin_wait(Wait& wait, bool is_lock) {
  if (!start_timing(wait) || !is_lock || !locks_on) return;
  const ErrnoGuard keep_errno;
  enlist_lock_wait(wait);
}

void end_wait(Wait& wait, bool waited) {
  if (wait.start_ticks == 0 || wait.process != process_number) return;
  const uint64_t now = ticks();
  const uint32_t stack = captured_stack(wait);
  if (wait.node != nullptr && is_same_wait(wait)) {
    const Guard guard(Guard::kAtWork);
    delist(*wait.node);
  }
  if (waited) record_wait(wait, wait.kind, since(wait.start_ticks, now), now, stack);
}

Release begin_release(const void* lock) {
  Release release{lock, 0, {}, false};
  if (!locks_on || !may_record()) return release;
  const Guard guard(Guard::kAtWork);
  release.now = ticks();
  release.is_charged = charge_release(lock, release.now, random32(), &release.charge);
  return release;
}

void end_release(const Release& release, CallSite site) {
  if (!release.is_charged || !may_record()) return;
  const ErrnoGuard keep_errno;
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  const uint32_t stack = capture_stack(thread, site);
  const Charge& charge = release.charge;
  const uint32_t labels =
      with_stack(labels_of(charge.kind, release.lock), LabelName::kVictim, stack_of(charge));
  count(thread, CountKind::kMutex, stack, labels,
        {charge.ticks, format::kWeightOne << charge.shift}, release.now);
}

bool begin_shared_release(const void* lock) {
  if (!locks_on || !may_record() || !lock_wait_slot(lock)) return false;
  self.inside = Guard::kAtWork;
  return true;
}

Release charge_shared_release(const void* lock, bool is_last) {
  Release release{lock, ticks(), {}, false};
  release.is_charged =
      is_last && charge_release_locked(lock, release.now, random32(), &release.charge);
  return release;
}

void end_shared_release(const Release& release, CallSite site) {
  unlock_wait_slot(release.lock);
  self.inside = 0;
  end_release(release, site);
}

void begin_condition_wait(ConditionWait& condition) {
  Wait& wait = condition.wait;
  condition.is_enlisted = false;
  if (!start_timing(wait)) return;
  const ErrnoGuard keep_errno;
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  WaitNode& node = thread->condition_wait;
  if (!enlist_condition(node, thread->lock_wait, wait.object, condition.mutex, wait.start_ticks))
    return;
  condition.is_enlisted = true;
  wait.node = &node;
  wait.serial = node.serial.load(std::memory_order_relaxed);
  capture_into(node, thread, wait.site);
  thread->lock_wait.stack.store(node.stack.load(std::memory_order_relaxed),
                                std::memory_order_release);
}

void end_condition_wait(ConditionWait& condition, bool timed_out, uint64_t overshoot_ns) {
  Wait& wait = condition.wait;
  if (!condition.is_enlisted || wait.process != process_number) return;
  const uint64_t now = ticks();
  if (!is_same_wait(wait)) return count_lost(format::Lost::kReentered);
  const uint32_t stack = captured_stack(wait);
  const uint32_t shift = wait.node->shift;
  uint64_t until = now;
  {
    const Guard guard(Guard::kAtWork);
    const uint64_t relocking = leave_condition(*wait.node, timed_out);
    if (relocking > wait.start_ticks && relocking < now) until = relocking;
  }
  if (overshoot_ns > kTimerSlackNs) {
    const format::ClockPoint& first = header->clock_first;
    const uint64_t overshoot = ticks_of_ns(overshoot_ns, first.ticks, first.monotonic_ns);
    until = now - std::min(overshoot, since(wait.start_ticks, now));
  }
  record_wait(wait, WaitKind::kCond, since(wait.start_ticks, until), now, stack, shift);
  if (until == now) return;
  Wait relock = wait;
  relock.object = condition.mutex;
  record_wait(relock, WaitKind::kCondRelock, since(until, now), now, stack, shift);
}

void note_signal(const void* condition, bool all) {
  if (!may_record()) return;
  const Guard guard(Guard::kAtWork);
  mark_signalled(condition, all, ticks());
}

}  // namespace mprof::preload
