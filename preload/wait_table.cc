// SPDX-License-Identifier: Apache-2.0
#include "preload/wait_table.h"

#include "format/weights.h"
#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/spin.h"

namespace mprof::preload {

constinit std::atomic<uint8_t> watched[kWaitSlots];

namespace {

using format::kNoRow;

struct alignas(format::kCacheLine) Slot {
  std::atomic<uint32_t> lock;
  uint32_t nodes;
  WaitNode* first;
  WaitNode* last;
  // Thinning. Written under the lock, but for `shift`, which any waiter may lower.
  std::atomic<uint32_t> shift;
  uint32_t seen;                 // waits that began, and charges, in `window`
  std::atomic<uint64_t> window;  // the last one that was watched
};
static_assert(sizeof(Slot) == format::kCacheLine);

Slot* slots;
bool locks_are_watched;
uint32_t most_lock_shift;
uint32_t most_condition_shift;

// 2^21 cycles are 0.5 to 1 ms, 2^20 ns are 1 ms.
uint32_t window_bits;
constexpr uint32_t kWorkPerWindow = 16;
constexpr uint32_t kMostConditionShift = 10;

// Acquire: who sees nullptr also sees that the last unlink is done.
const void* object_of(const WaitNode& node) { return node.object.load(std::memory_order_acquire); }

Slot& slot_of(const void* object) { return slots[wait_slot_of(object)]; }

bool lock(Slot& slot) {
  uint32_t free = 0;
  return spin_until([&] {
    free = 0;
    return slot.lock.compare_exchange_weak(free, 1, std::memory_order_acquire);
  });
}
void unlock(Slot& slot) { slot.lock.store(0, std::memory_order_release); }

// For the second of two slots, which must not be waited for: another thread may hold it and want
// the first.
bool try_lock(Slot& slot) {
  for (int i = 0; i < 1000; ++i) {
    uint32_t free = 0;
    if (slot.lock.compare_exchange_weak(free, 1, std::memory_order_acquire)) return true;
    pause_cpu();
  }
  count_lost(format::Lost::kWaitContended);
  return false;
}

void show(const Slot& slot) {
  watched[static_cast<size_t>(&slot - slots)].store(
      static_cast<uint8_t>(slot.nodes < 255 ? slot.nodes : 255), std::memory_order_relaxed);
}

void link(Slot& slot, WaitNode& node) {
  node.next = nullptr;
  node.previous = slot.last;
  (slot.last == nullptr ? slot.first : slot.last->next) = &node;
  slot.last = &node;
  ++slot.nodes;
  show(slot);
}

void unlink(Slot& slot, WaitNode& node) {
  (node.previous == nullptr ? slot.first : node.previous->next) = node.next;
  (node.next == nullptr ? slot.last : node.next->previous) = node.previous;
  --slot.nodes;
  show(slot);
  node.object.store(nullptr, std::memory_order_release);
}

struct Plan {
  bool watch;
  uint32_t shift;
  uint64_t window;
};

// A window of which nothing was seen although it was to be watched says that the lock is not busy
// any more.
uint32_t shift_now(Slot& slot, uint64_t window) {
  const uint32_t shift = slot.shift.load(std::memory_order_relaxed);
  if (shift == 0) return 0;
  const uint64_t missed = (window - slot.window.load(std::memory_order_relaxed)) >> shift;
  if (missed < 2) return shift;
  const uint32_t lower = missed > shift ? 0 : shift - static_cast<uint32_t>(missed - 1);
  slot.shift.store(lower, std::memory_order_relaxed);
  return lower;
}

Plan plan(Slot& slot, uint64_t now) {
  const uint64_t window = now >> window_bits;
  const uint32_t shift = shift_now(slot, window);
  const uint64_t mask = (uint64_t{1} << shift) - 1;
  const uint64_t place =
      mix((window >> shift) + static_cast<uint64_t>(&slot - slots) * 0x9e3779b97f4a7c15) & mask;
  return {(window & mask) == place, shift, window};
}

uint32_t wanted_shift(uint32_t seen, uint32_t most) {
  uint32_t shift = 0;
  while (shift < most && (seen >> shift) > kWorkPerWindow) ++shift;
  return shift;
}

// One more wait or charge in this window: moves `shift` up at once, and down by one a window.
void count_work(Slot& slot, uint64_t window, uint32_t most_shift) {
  const uint32_t shift = slot.shift.load(std::memory_order_relaxed);
  if (slot.window.load(std::memory_order_relaxed) != window) {
    if (shift != 0 && wanted_shift(slot.seen, most_shift) < shift)
      slot.shift.store(shift - 1, std::memory_order_relaxed);
    slot.window.store(window, std::memory_order_relaxed);
    slot.seen = 0;
  }
  const uint32_t wanted = wanted_shift(++slot.seen, most_shift);
  if (wanted > slot.shift.load(std::memory_order_relaxed))
    slot.shift.store(wanted, std::memory_order_relaxed);
}

void fill(WaitNode& node, const void* object, format::WaitKind kind, uint64_t now,
          const Plan& plan) {
  node.object.store(object, std::memory_order_relaxed);
  node.kind = kind;
  node.since = now;
  node.shift = plan.shift;
  node.window_end = plan.shift == 0 ? UINT64_MAX : (plan.window + 1) << window_bits;
  node.serial.store(node.serial.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// Whether a charge counts that begins in its window: with the chance that is its share inside.
bool is_kept(const WaitNode& node, uint64_t now, uint32_t random) {
  if (now <= node.window_end) return true;
  const uint64_t inside = node.window_end > node.since ? node.window_end - node.since : 0;
  return format::weighted_value(now - node.since, random) >> 16 < inside;
}

bool is_lock_wait(const WaitNode& node) { return node.kind != format::WaitKind::kCond; }

WaitNode* next_unmarked(Slot& slot, const void* condition) {
  WaitNode* node = slot.first;
  while (node != nullptr && (object_of(*node) != condition || node->signal_ticks != 0))
    node = node->next;
  return node;
}

// From now on the waiter of a condition waits for its mutex. The condition's slot is locked.
void enlist_relock(Slot& condition_slot, WaitNode& node, uint64_t now) {
  if (!locks_are_watched || object_of(*node.relock) != nullptr) return;
  Slot& slot = slot_of(node.mutex);
  const bool same = &slot == &condition_slot;
  if (!same && !try_lock(slot)) return;
  const Plan how = plan(slot, now);
  if (how.watch) {
    fill(*node.relock, node.mutex, format::WaitKind::kCondRelock, now, how);
    count_work(slot, how.window, most_lock_shift);
    link(slot, *node.relock);
  }
  if (!same) unlock(slot);
}

void leave_relock(Slot& condition_slot, WaitNode& node) {
  WaitNode& relock = *node.relock;
  if (object_of(relock) == nullptr) return;
  Slot& slot = slot_of(object_of(relock));
  const bool same = &slot == &condition_slot;
  if (!same && !try_lock(slot)) return;
  if (object_of(relock) != nullptr) unlink(slot, relock);
  if (!same) unlock(slot);
}

// The mutex is there as long as a thread waits that gave it.
bool is_held(const pthread_mutex_t* mutex) {
  return std::atomic_ref(const_cast<int&>(mutex->__data.__lock)).load(std::memory_order_relaxed) !=
         0;
}

void mark(Slot& slot, WaitNode& node, uint64_t now) {
  node.signal_ticks = now;
  node.mutex_was_held = is_held(node.mutex);
  if (node.mutex_was_held) enlist_relock(slot, node, now);
}

WaitNode* any_marked(Slot& slot, const WaitNode& but) {
  WaitNode* node = slot.first;
  while (node != nullptr &&
         (node == &but || object_of(*node) != object_of(but) || node->signal_ticks == 0))
    node = node->next;
  return node;
}

// See leave_condition().
void settle_marks(Slot& slot, WaitNode& node, bool timed_out) {
  if (!timed_out && node.signal_ticks == 0) {
    WaitNode* other = any_marked(slot, node);
    if (other == nullptr) return;
    node.signal_ticks = other->signal_ticks;
    node.mutex_was_held = other->mutex_was_held;
    other->signal_ticks = 0;
    leave_relock(slot, *other);
  } else if (timed_out && node.signal_ticks != 0) {
    const uint64_t when = node.signal_ticks;
    node.signal_ticks = 0;
    if (WaitNode* other = next_unmarked(slot, object_of(node)); other != nullptr && other != &node)
      mark(slot, *other, when);
  }
}

}  // namespace

bool wait_table_init(uint32_t mutex_fraction, bool every_wait) {
  window_bits = clock_is_tsc ? 21 : 20;
  locks_are_watched = mutex_fraction != 0;
  most_condition_shift = every_wait ? 0 : kMostConditionShift;
  if (locks_are_watched)
    most_lock_shift = 31 - static_cast<uint32_t>(__builtin_clz(mutex_fraction));
  if (slots == nullptr) slots = static_cast<Slot*>(map_anonymous(wait_table_bytes()));
  return slots != nullptr;
}

size_t wait_table_bytes() { return kWaitSlots * sizeof(Slot); }

void wait_table_forget() {
  for (uint32_t i = 0; slots != nullptr && i < kWaitSlots; ++i) {
    if (slots[i].nodes == 0 && slots[i].lock.load(std::memory_order_relaxed) == 0) continue;
    slots[i].first = slots[i].last = nullptr;
    slots[i].nodes = 0;
    unlock(slots[i]);
    show(slots[i]);
  }
}

bool enlist(WaitNode& node, const void* object, format::WaitKind kind, uint64_t now) {
  if (object_of(node) != nullptr) delist(node);
  Slot& slot = slot_of(object);
  const Plan how = plan(slot, now);
  if (!how.watch || object_of(node) != nullptr) return false;
  if (!lock(slot)) {
    count_lost(format::Lost::kWaitContended);
    return false;
  }
  node.stack.store(kNoRow, std::memory_order_relaxed);
  fill(node, object, kind, now, how);
  count_work(slot, how.window, most_lock_shift);
  link(slot, node);
  unlock(slot);
  return true;
}

void delist(WaitNode& node) {
  const void* object = object_of(node);
  if (object == nullptr) return;
  Slot& slot = slot_of(object);
  if (!lock(slot)) return count_lost(format::Lost::kWaitContended);
  if (object_of(node) != nullptr) unlink(slot, node);
  unlock(slot);
}

bool lock_wait_slot(const void* object) {
  if (lock(slot_of(object))) return true;
  count_lost(format::Lost::kWaitContended);
  return false;
}

void unlock_wait_slot(const void* object) { unlock(slot_of(object)); }

bool charge_release(const void* object, uint64_t now, uint32_t random, Charge* charge) {
  if (!lock_wait_slot(object)) return false;
  const bool charged = charge_release_locked(object, now, random, charge);
  unlock_wait_slot(object);
  return charged;
}

bool charge_release_locked(const void* object, uint64_t now, uint32_t random, Charge* charge) {
  Slot& slot = slot_of(object);
  bool charged = false;
  bool met_oldest = false;
  WaitNode* next;
  for (WaitNode* node = slot.first; node != nullptr; node = next) {
    next = node->next;
    if (object_of(*node) != object || !is_lock_wait(*node)) continue;
    if (!met_oldest && now > node->since) {
      met_oldest = true;
      charged = is_kept(*node, now, random);
      *charge = {now - node->since, node->shift, node->kind, node,
                 node->serial.load(std::memory_order_relaxed)};
    }
    node->since = now;
    if (now > node->window_end) unlink(slot, *node);
  }
  if (met_oldest) count_work(slot, now >> window_bits, most_lock_shift);
  return charged;
}

uint32_t stack_of(const Charge& charge) {
  const uint32_t stack = charge.victim->stack.load(std::memory_order_acquire);
  return charge.victim->serial.load(std::memory_order_relaxed) == charge.serial ? stack : kNoRow;
}

bool enlist_condition(WaitNode& node, WaitNode& relock, const void* condition,
                      const pthread_mutex_t* mutex, uint64_t now) {
  if (object_of(node) != nullptr) delist(node);
  if (object_of(relock) != nullptr) delist(relock);
  Slot& slot = slot_of(condition);
  const Plan how = plan(slot, now);
  if (!how.watch) return false;
  if (object_of(node) != nullptr || object_of(relock) != nullptr || !lock(slot)) {
    count_lost(format::Lost::kWaitContended);
    return false;
  }
  node.stack.store(kNoRow, std::memory_order_relaxed);
  relock.stack.store(kNoRow, std::memory_order_relaxed);
  fill(node, condition, format::WaitKind::kCond, now, how);
  count_work(slot, how.window, most_condition_shift);
  node.mutex = mutex;
  node.relock = &relock;
  node.signal_ticks = 0;
  node.mutex_was_held = false;
  link(slot, node);
  unlock(slot);
  return true;
}

void mark_signalled(const void* condition, bool all, uint64_t now) {
  Slot& slot = slot_of(condition);
  if (!lock(slot)) return count_lost(format::Lost::kWaitContended);
  while (WaitNode* node = next_unmarked(slot, condition)) {
    mark(slot, *node, now);
    if (!all) break;
  }
  unlock(slot);
}

uint64_t leave_condition(WaitNode& node, bool timed_out) {
  const void* condition = object_of(node);
  if (condition == nullptr) return 0;
  Slot& slot = slot_of(condition);
  if (!lock(slot)) {
    count_lost(format::Lost::kWaitContended);
    return 0;
  }
  uint64_t since = 0;
  if (object_of(node) != nullptr) {
    settle_marks(slot, node, timed_out);
    if (node.mutex_was_held) since = node.signal_ticks;
    unlink(slot, node);
  }
  unlock(slot);
  delist(*node.relock);  // nobody can enlist it any more
  return since;
}

}  // namespace mprof::preload
