// SPDX-License-Identifier: Apache-2.0
// Who waits for what: how a releaser finds the threads that it kept waiting.
//
// Layout    Locks and conditions hash to slots; a slot holds the nodes of the threads that wait,
//           oldest first, under a spin lock. `watched[slot]` counts them: an unlock looks at that
//           byte and no further while nobody is there.
// Charge    Go's rule: a release while somebody waits is charged with the time since the oldest
//           waiter began to wait, or since the last release that was charged for, whichever is
//           later. So what is charged for a lock is the wall time during which anyone waited.
// Thinning  A wait or a charge costs some 300 ns, too much for a lock with a million a second.
//           Time is cut into windows of about a millisecond; a busy lock is watched in one window,
//           at a place drawn anew, of every 2^shift, and what is found then counts 2^shift times.
//           `shift` follows the number of waits and charges in the windows that were watched; it is
//           0, and nothing is estimated, up to 16 of them a millisecond. Since the choice of a
//           window knows nothing of what will happen in it, sums stay unbiased. A charge that
//           ends behind its window is kept with the chance that is its share inside.
// Threads   any. Signals: a handler that interrupted its thread inside mprof never gets here. A
//           thread that left its wait by cancellation or longjmp leaves its node behind, which is
//           taken out before its next wait or at its end.
// Allocates from the kernel once, in init. Blocks: spins for a slot; gives up and counts it.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "format/label_table.h"

namespace mprof::preload {

// In the waiting thread's ThreadBlock. The fields belong to the slot's lock; the atomic ones are
// also read without it.
struct WaitNode {
  WaitNode* next;
  WaitNode* previous;
  // The lock or condition; nullptr: in no slot, and nobody else will touch the node.
  std::atomic<const void*> object;
  uint64_t since;                // began to wait, or was last charged for
  uint64_t window_end;           // watched until then
  uint32_t shift;                // counts 2^shift times
  std::atomic<uint32_t> serial;  // of this thread's waits
  format::WaitKind kind;
  std::atomic<uint32_t> stack;  // of the waiter, kNoRow until it is captured
  // Of a wait for a condition:
  const pthread_mutex_t* mutex;
  WaitNode* relock;       // the same thread's node for the mutex
  uint64_t signal_ticks;  // when it was woken; 0 = not yet
  bool mutex_was_held;    // at that moment, so that it waits for the mutex since then
};

inline constexpr uint32_t kWaitSlots = 4096;
extern std::atomic<uint8_t> watched[kWaitSlots];

inline uint32_t wait_slot_of(const void* object) {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(object) * 0x9e3779b97f4a7c15) >> 52);
}

// The whole cost of a release that nobody waits for.
inline bool is_watched(const void* object) {
  return watched[wait_slot_of(object)].load(std::memory_order_relaxed) != 0;
}

// `every_wait`: waits for conditions are never thinned out.
bool wait_table_init(uint32_t mutex_fraction, bool every_wait);
size_t wait_table_bytes();
// In a forked child: nobody waits.
void wait_table_forget();

// What a waiter fills in. `thinned`: only if the lock is watched now; false then.
bool enlist(WaitNode& node, const void* lock, format::WaitKind kind, uint64_t now);
void delist(WaitNode& node);

// The charge for a release.
struct Charge {
  uint64_t ticks;
  uint32_t shift;
  format::WaitKind kind;
  WaitNode* victim;  // the oldest waiter...
  uint32_t serial;   // ...if it still is in this wait
};
// Whether a release of `lock` at `now` is to be charged; `random` decides over a charge that
// ends behind its window.
bool charge_release(const void* lock, uint64_t now, uint32_t random, Charge* charge);

// For a release that may not be the last one needed (a reader's): looks and acts while no other
// release of the lock can. False: the slot is busy.
bool lock_wait_slot(const void* lock);
void unlock_wait_slot(const void* lock);
bool charge_release_locked(const void* lock, uint64_t now, uint32_t random, Charge* charge);

// The victim's stack, if it is known by now and still that wait's.
uint32_t stack_of(const Charge& charge);

// Waits for conditions. A signal marks the oldest unmarked waiter; if the mutex is held at that
// moment, it also enlists the waiter with it: that is what it waits for from then on. A broadcast
// marks all. Waits for a busy condition are
// thinned out in windows as those for locks are; false: not watched now.
bool enlist_condition(WaitNode& node, WaitNode& relock, const void* condition,
                      const pthread_mutex_t* mutex, uint64_t now);
void mark_signalled(const void* condition, bool all, uint64_t now);
// Ends the wait; since when it has waited for the mutex, 0 if it has not. libc may have woken
// another waiter than the oldest: a waiter that comes back unmarked takes the mark of one that is
// still there.
uint64_t leave_condition(WaitNode& node, bool timed_out);

}  // namespace mprof::preload
