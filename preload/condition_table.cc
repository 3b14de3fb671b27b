// SPDX-License-Identifier: Apache-2.0
#include "preload/condition_table.h"

#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/spin.h"
#include "preload/waiting.h"

namespace mprof::preload {

constinit std::atomic<uint8_t> waited_for[kConditionSlots];

namespace {

struct alignas(format::kCacheLine) Slot {
  std::atomic<uint32_t> lock;
  uint32_t nodes;
  ConditionNode* first;
  ConditionNode* last;
};
static_assert(sizeof(Slot) == format::kCacheLine);

Slot* slots;
std::atomic<bool> publishes_locks;

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

// The mutex is there as long as a thread waits that gave it.
bool is_held(const pthread_mutex_t* mutex) {
  return std::atomic_ref(const_cast<int&>(mutex->__data.__lock)).load(std::memory_order_relaxed) !=
         0;
}

void mark(ConditionNode& node, uint64_t now) {
  node.signal_ticks = now;
  node.mutex_was_held = is_held(node.mutex);
  if (!node.mutex_was_held) return;
  if (node.row != nullptr)
    show_wait(*node.row, format::WaitKind::kCondRelock, node.mutex, node.stack, now);
  if (publishes_locks.load(std::memory_order_relaxed))
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

bool condition_table_init(bool locks_too) {
  condition_table_publish(locks_too);
  if (slots == nullptr) slots = static_cast<Slot*>(map_anonymous(condition_table_bytes()));
  return slots != nullptr;
}

void condition_table_publish(bool locks_too) {
  publishes_locks.store(locks_too, std::memory_order_relaxed);
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

bool enter_condition(ConditionNode& node, const void* condition) {
  Slot& slot = slot_of(condition);
  if (condition_of(node) != nullptr || !lock(slot)) return false;
  node.condition.store(condition, std::memory_order_relaxed);
  node.signal_ticks = 0;
  node.mutex_was_held = false;
  link(slot, node);
  unlock(slot);
  return true;
}

bool mark_signalled(const void* condition, bool all, uint64_t now) {
  Slot& slot = slot_of(condition);
  if (!lock(slot)) return false;
  bool any = false;
  while (ConditionNode* node = first_unmarked(slot, condition)) {
    any = true;
    mark(*node, now);
    if (!all) break;
  }
  unlock(slot);
  return any;
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
