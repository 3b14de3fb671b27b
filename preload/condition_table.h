// SPDX-License-Identifier: Apache-2.0
// Who waits for which condition, so that a signal can be told to the waiter that it wakes.
//
// Layout    Conditions hash to slots; a slot holds the nodes of the threads that wait, oldest
//           first, under a spin lock. `waited_for[slot]` counts them: a signal looks at that byte
//           and no further while nobody is there.
// Signal    marks the oldest unmarked waiter; if the mutex is held at that moment, the waiter
//           waits for the mutex from then on, and that is published for it (wait_table.h). A
//           broadcast marks all. libc may wake another thread than the oldest: a waiter that
//           comes back unmarked takes the mark of one that is still there, and one that timed out
//           with a mark hands it on.
// Threads   any. Signals: a handler that interrupts its thread inside mprof never gets here. A
//           thread that left its wait by longjmp leaves its node behind, which is taken out before
//           its next wait or at its end.
// Allocates from the kernel once, in init. Blocks: spins for a slot; gives up and counts it.
#pragma once

#include <pthread.h>

#include "format/thread_table.h"
#include "preload/wait_table.h"

namespace mprof::preload {

// In the waiting thread's ThreadBlock; the fields belong to the slot's lock.
struct ConditionNode {
  ConditionNode* next;
  ConditionNode* previous;
  std::atomic<const void*> condition;  // nullptr: in no slot, nobody else will touch the node
  const pthread_mutex_t* mutex;
  LockWait* lock_wait;     // the same thread's
  format::ThreadRow* row;  // and its row, which shows the wait; may be nullptr
  uint32_t stack;          // of the waiter
  uint64_t signal_ticks;   // when it was woken; 0 = not yet
  bool mutex_was_held;     // at that moment, so that it waits for the mutex since then
};

inline constexpr uint32_t kConditionSlots = 1024;
extern std::atomic<uint8_t> waited_for[kConditionSlots];

inline uint32_t condition_slot_of(const void* condition) {
  return home_of(condition) % kConditionSlots;
}
inline bool is_waited_for(const void* condition) {
  return waited_for[condition_slot_of(condition)].load(std::memory_order_relaxed) != 0;
}

// `locks_too`: waits for the mutex are published.
bool condition_table_init(bool locks_too);
void condition_table_publish(bool locks_too);
size_t condition_table_bytes();
// In a forked child: nobody waits.
void condition_table_forget();

bool enter_condition(ConditionNode& node, const void* condition);
// False: nobody waits who was not signalled before.
bool mark_signalled(const void* condition, bool all, uint64_t now);
// Ends the wait; since when it has waited for the mutex, 0 if it has not.
uint64_t leave_condition(ConditionNode& node, bool timed_out);
// Takes out a node that was left behind.
void abandon_condition(ConditionNode& node);

}  // namespace mprof::preload
