// SPDX-License-Identifier: Apache-2.0
// Who waits for which lock: how a releaser finds the threads that it kept waiting.
//
// Publish   A waiter writes what it waits for, and since when, into a line of its own; nothing is
//           shared but `watched`, a byte for each of 4,096 slots that locks hash to, which it sets
//           if it is not set. A release looks at that byte and no further while it is 0.
// Charge    Go's rule: a release while somebody waits ends a stretch of waiting, which began when
//           the oldest waiter came or with the release before, whichever is later. So the
//           stretches of a lock make up the wall time during which anyone waited for it.
// Sampling  On the clock lie points, for each slot a Poisson process with a mean distance T. A
//           stretch of d ticks is recorded if a point lies in it, with p = 1 - exp(-d / T), and
//           then stands for 1/p stretches of d ticks. So long stretches are all recorded, short
//           ones by their length, and sums are unbiased. A release before the next point takes the
//           time, and that is all; the one behind it looks through the threads for waiters. T = 0
//           records every stretch. T grows with the number of threads, which each such look costs.
// Watched   set by waiters, cleared by a release that looked and found nobody: (W) both sides
// store,
//           fence, and look at the other's word, so a waiter is never left unwatched.
// Threads   any. Signals: safe, but a handler must not wait while its thread publishes.
// Allocates: no. Blocks: no; begin_leaving() spins, and gives up.
#pragma once

#include <atomic>
#include <cstdint>

#include "format/dump.h"
#include "format/label_table.h"

namespace mprof::preload {

// In the ThreadBlock of the waiter, which alone writes it (but see condition_table.h); read by
// releasers. Whoever sees `object` sees the rest as it belongs to it: (P) release <-> acquire.
struct alignas(format::kCacheLine) LockWait {
  std::atomic<const void*> object;  // nullptr: no wait
  std::atomic<uint64_t> start_ticks;
  std::atomic<uint32_t> stack;
  std::atomic<format::WaitKind> kind;
};

inline constexpr uint32_t kLockSlots = 4096;
extern std::atomic<uint8_t> watched[kLockSlots];

inline uint32_t lock_slot_of(const void* lock) {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(lock) * 0x9e3779b97f4a7c15) >> 52);
}

// The whole cost of a release that nobody waits for.
inline bool is_watched(const void* lock) {
  return watched[lock_slot_of(lock)].load(std::memory_order_relaxed) != 0;
}

// In a forked child: nobody waits.
void wait_table_forget();

// Makes a thread's waits known to releasers; for the life of the process.
struct LockWaitLink {
  LockWait wait;
  LockWaitLink* next;
};
void add_waiter(LockWaitLink& link);

void publish_wait(LockWait& wait, const void* lock, format::WaitKind kind, uint32_t stack,
                  uint64_t now);
inline void withdraw_wait(LockWait& wait) { wait.object.store(nullptr, std::memory_order_release); }

// Written by holders, so by one thread at a time for each lock; locks that share a slot share its
// points, which does them no harm, and its last release, which can shorten a stretch of theirs.
struct alignas(32) LockSlot {
  std::atomic<uint64_t> next_point;
  std::atomic<uint64_t> mean_ticks;  // with which it was drawn
  std::atomic<uint64_t> last_release;
  std::atomic<uint32_t> leaving;  // a reader is between its look and its release
};
extern LockSlot lock_slots[kLockSlots];

inline bool is_point_before(const void* lock, uint64_t now) {
  return now >= lock_slots[lock_slot_of(lock)].next_point.load(std::memory_order_relaxed);
}
inline void note_release(const void* lock, uint64_t now) {
  lock_slots[lock_slot_of(lock)].last_release.store(now, std::memory_order_relaxed);
}

// Before the release of a watched lock: false if no point lies before `now`, and then that was all.
inline bool is_release_due(const void* lock, uint64_t now) {
  if (is_point_before(lock, now)) return true;
  note_release(lock, now);
  return false;
}

struct Charge {
  uint64_t ticks;
  uint64_t weight;  // weights.h
  format::WaitKind kind;
  uint32_t victim;  // stack of the oldest waiter
};
// Whether the release of `lock` at `now`, which is due, is to be recorded. Called by the holder
// before the real release. `mean_ticks`: T for few threads; `random`: 64 random bits.
bool charge_release(const void* lock, uint64_t now, uint64_t mean_ticks, uint64_t random,
                    Charge* charge);

// Readers of a lock leave one at a time, while somebody waits: two that leave at once must not
// each take the other for the last one. False: another one takes too long.
bool begin_leaving(const void* lock);
void end_leaving(const void* lock);

}  // namespace mprof::preload
