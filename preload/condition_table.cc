// SPDX-License-Identifier: Apache-2.0
#include "preload/condition_table.h"

#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/spin.h"

namespace mprof::preload {

constinit std::atomic<uint8_t> waited_for[kConditionSlots];

namespace {

struct alignas(format::kCacheLine) Slot {
  std::atomic<uint32_t> lock;
  uint32_t nodes;
  ConditionNode* first;
  ConditionNode* last;
  // Thinning. Written under the lock, but for `shift`, which any waiter may lower.
  std::atomic<uint32_t> shift;
  uint32_t seen;                 // waits that began in `window`
  std::atomic<uint64_t> window;  // the last one that was watched
};
static_assert(sizeof(Slot) == format::kCacheLine);

Slot* slots;
uint32_t most_shift;
bool publishes_locks;

// 2^21 cycles are 0.5 to 1 ms, 2^20 ns are 1 ms.
uint32_t window_bits;
constexpr uint32_t kWaitsPerWindow = 16;
constexpr uint32_t kMostShift = 10;

// Acquire: who sees nullptr also sees that the last unlink is done.
const void* condition_of(const ConditionNode& node) {
  return node.condition.load(std::memory_order_acquire);
}

Slot& slot_of(const void* condition) { return slots[condition_slot_of(condition)]; }

bool lock(Slot& slot) {
  const bool locked = spin_until([&] {
    uint32_t free = 0;
    return slot.lock.compare_exchange_weak(free, 1, std::memory_order_acquire);
  });
  if (!locked) count_lost(format::Lost::kWaitContended);
  return locked;
}
void unlock(Slot& slot) { slot.lock.store(0, std::memory_order_release); }

void show(const Slot& slot) {
  waited_for[static_cast<size_t>(&slot - slots)].store(
      static_cast<uint8_t>(slot.nodes < 255 ? slot.nodes : 255), std::memory_order_relaxed);
}

void link(Slot& slot, ConditionNode& node) {
  node.next = nullptr;
  node.previous = slot.last;
  (slot.last == nullptr ? slot.first : slot.last->next) = &node;
  slot.last = &node;
  ++slot.nodes;
  show(slot);
}

void unlink(Slot& slot, ConditionNode& node) {
  (node.previous == nullptr ? slot.first : node.previous->next) = node.next;
  (node.next == nullptr ? slot.last : node.next->previous) = node.previous;
  --slot.nodes;
  show(slot);
  node.condition.store(nullptr, std::memory_order_release);
}

// A window of which nothing was seen although it was to be watched says that the condition is not
// busy any more.
uint32_t shift_now(Slot& slot, uint64_t window) {
  const uint32_t shift = slot.shift.load(std::memory_order_relaxed);
  if (shift == 0) return 0;
  const uint64_t missed = (window - slot.window.load(std::memory_order_relaxed)) >> shift;
  if (missed < 2) return shift;
  const uint32_t lower = missed > shift ? 0 : shift - static_cast<uint32_t>(missed - 1);
  slot.shift.store(lower, std::memory_order_relaxed);
  return lower;
}

uint32_t wanted_shift(uint32_t seen) {
  uint32_t shift = 0;
  while (shift < most_shift && (seen >> shift) > kWaitsPerWindow) ++shift;
  return shift;
}

// One more wait in this window: moves `shift` up at once, and down by one a window.
void count_wait(Slot& slot, uint64_t window) {
  const uint32_t shift = slot.shift.load(std::memory_order_relaxed);
  if (slot.window.load(std::memory_order_relaxed) != window) {
    if (shift != 0 && wanted_shift(slot.seen) < shift)
      slot.shift.store(shift - 1, std::memory_order_relaxed);
    slot.window.store(window, std::memory_order_relaxed);
    slot.seen = 0;
  }
  const uint32_t wanted = wanted_shift(++slot.seen);
  if (wanted > slot.shift.load(std::memory_order_relaxed))
    slot.shift.store(wanted, std::memory_order_relaxed);
}

// The mutex is there as long as a thread waits that gave it.
bool is_held(const pthread_mutex_t* mutex) {
  return std::atomic_ref(const_cast<int&>(mutex->__data.__lock)).load(std::memory_order_relaxed) !=
         0;
}

void mark(ConditionNode& node, uint64_t now) {
  node.signal_ticks = now;
  node.mutex_was_held = is_held(node.mutex);
  if (node.mutex_was_held && publishes_locks)
    publish_wait(*node.lock_wait, node.mutex, format::WaitKind::kCondRelock, node.stack, now);
}

ConditionNode* first_unmarked(Slot& slot, const void* condition) {
  ConditionNode* node = slot.first;
  while (node != nullptr && (condition_of(*node) != condition || node->signal_ticks != 0))
    node = node->next;
  return node;
}

ConditionNode* first_marked(Slot& slot, const ConditionNode& but) {
  ConditionNode* node = slot.first;
  while (node != nullptr &&
         (node == &but || condition_of(*node) != condition_of(but) || node->signal_ticks == 0))
    node = node->next;
  return node;
}

void take_mark(ConditionNode& node, ConditionNode& from) {
  node.signal_ticks = from.signal_ticks;
  node.mutex_was_held = from.mutex_was_held;
  from.signal_ticks = 0;
  withdraw_wait(*from.lock_wait);
}

void settle_marks(Slot& slot, ConditionNode& node, bool timed_out) {
  if (!timed_out && node.signal_ticks == 0) {
    if (ConditionNode* other = first_marked(slot, node)) take_mark(node, *other);
  } else if (timed_out && node.signal_ticks != 0) {
    if (ConditionNode* other = first_unmarked(slot, condition_of(node)))
      mark(*other, node.signal_ticks);
    node.signal_ticks = 0;
  }
}

}  // namespace

bool condition_table_init(bool every_wait, bool locks_too) {
  window_bits = clock_is_tsc ? 21 : 20;
  most_shift = every_wait ? 0 : kMostShift;
  publishes_locks = locks_too;
  if (slots == nullptr) slots = static_cast<Slot*>(map_anonymous(condition_table_bytes()));
  return slots != nullptr;
}

size_t condition_table_bytes() { return kConditionSlots * sizeof(Slot); }

void condition_table_forget() {
  for (uint32_t i = 0; slots != nullptr && i < kConditionSlots; ++i) {
    if (slots[i].nodes == 0 && slots[i].lock.load(std::memory_order_relaxed) == 0) continue;
    slots[i].first = slots[i].last = nullptr;
    slots[i].nodes = 0;
    unlock(slots[i]);
    show(slots[i]);
  }
}

bool is_condition_watched(const void* condition, uint64_t now, uint32_t* shift) {
  Slot& slot = slot_of(condition);
  const uint64_t window = now >> window_bits;
  *shift = shift_now(slot, window);
  const uint64_t mask = (uint64_t{1} << *shift) - 1;
  const auto number = static_cast<uint64_t>(&slot - slots);
  return (window & mask) == (mix((window >> *shift) + number * 0x9e3779b97f4a7c15) & mask);
}

bool enter_condition(ConditionNode& node, const void* condition, uint64_t now) {
  Slot& slot = slot_of(condition);
  if (condition_of(node) != nullptr || !lock(slot)) return false;
  node.condition.store(condition, std::memory_order_relaxed);
  node.signal_ticks = 0;
  node.mutex_was_held = false;
  count_wait(slot, now >> window_bits);
  link(slot, node);
  unlock(slot);
  return true;
}

void mark_signalled(const void* condition, bool all, uint64_t now) {
  Slot& slot = slot_of(condition);
  if (!lock(slot)) return;
  while (ConditionNode* node = first_unmarked(slot, condition)) {
    mark(*node, now);
    if (!all) break;
  }
  unlock(slot);
}

uint64_t leave_condition(ConditionNode& node, bool timed_out) {
  const void* condition = condition_of(node);
  if (condition == nullptr) return 0;
  Slot& slot = slot_of(condition);
  if (!lock(slot)) return 0;
  settle_marks(slot, node, timed_out);
  const uint64_t since = node.mutex_was_held ? node.signal_ticks : 0;
  unlink(slot, node);
  unlock(slot);
  withdraw_wait(*node.lock_wait);  // nobody publishes it any more
  return since;
}

void abandon_condition(ConditionNode& node) {
  const void* condition = condition_of(node);
  if (condition == nullptr) return;
  Slot& slot = slot_of(condition);
  if (!lock(slot)) return;
  unlink(slot, node);
  unlock(slot);
  withdraw_wait(*node.lock_wait);
}

}  // namespace mprof::preload
