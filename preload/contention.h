// SPDX-License-Identifier: Apache-2.0
// The slow half of the lock hooks: timing a wait, charging a release, recording both.
//
// Block     Each wait that the hooks see is timed; docs/sampling.md says which ones are recorded.
// Mutex     A waiter for a lock publishes its wait; a release that finds somebody waiting is
//           charged, with the releaser's stack, after the real release.
// Called by preload/hooks_mutex.cc, hooks_rwlock.cc, hooks_wait.cc. Threads: any. Signals: a
// handler that interrupted its own thread in here goes straight to the real function. Allocates:
// rows of the dump. Blocks: no. errno: kept.
#pragma once

#include "preload/stacks.h"
#include "preload/thread_state.h"
#include "preload/trace.h"

namespace mprof::preload {

// Ready before the first wait is seen.
void contention_init(uint64_t block_rate_ns, uint32_t mutex_fraction);
// Other settings, while threads wait and release.
void contention_set(uint64_t block_rate_ns, uint32_t mutex_fraction);
// A trace is on, or no more: waits are published whatever the settings say.
void contention_trace(bool on);
// Whether anything is recorded at all; hooks pass through otherwise.
extern std::atomic<bool> contention_on;
extern std::atomic<bool> records_every_wait;  // MPROF_BLOCK_RATE=1

// True outside mprof and while there is a dump.
bool may_record();

// Lives in the frame of a hook's slow half. If the thread leaves that frame by cancellation or
// longjmp, the wait is not recorded.
struct Wait {
  format::WaitKind kind;
  const void* object;
  CallSite site;
  uint64_t start_ticks;  // 0: not timed
  ThreadBlock* thread;   // with which others know of it; nullptr: they do not
  uint32_t process;
  uint32_t stack;  // kNoRow: not captured for this wait alone
};

// Before the real call. `is_lock`: a release of `object` may be charged for this wait.
void begin_wait(Wait& wait, bool is_lock);
// After it; kAtOnce: it was no wait.
void end_wait(Wait& wait, format::WaitEnd end);

// A release, in two halves around the real one.
struct Release {
  const void* lock;
  uint64_t now;
  Charge charge;
  bool is_charged;
  bool is_traced;
  format::WaitKind held;  // how it was held
};
Release begin_release(WatchedLock& entry, const void* lock, format::WaitKind held, uint64_t now);
// The same inside a Guard.
Release charge(WatchedLock& entry, const void* lock, format::WaitKind held, uint64_t now);
void end_release(const Release& release, CallSite site);

// A wait for a condition is two waits: until the signal, and for the mutex.
struct ConditionWait {
  Wait wait;
  const pthread_mutex_t* mutex;
};
// `now`: when the mutex was given up.
void begin_condition_wait(ConditionWait& wait, uint64_t now);
// kGaveUp: it timed out. `ns_late`: how long after its deadline it came back then; else 0.
void end_condition_wait(ConditionWait& wait, format::WaitEnd end, uint64_t ns_late);
// For a thread that is cancelled there.
void abandon_condition_wait(void* wait);

// A signal, before the real one. If a trace is to say, after it, that it was sent: when; else 0.
uint64_t note_signal(const void* condition, bool all);

}  // namespace mprof::preload
