// SPDX-License-Identifier: Apache-2.0
// Who waits for which lock: how a releaser finds the threads that it kept waiting.
//
// Publish   A waiter writes what it waits for, and since when, into a line of its own. What is
//           shared is one byte, `watched`, for each of 4,096 homes that locks hash to, which it
//           sets if it is not set, and an entry for the lock, which it claims if there is none. A
//           release looks at the byte and no further while that is 0.
// Lines     Where a lock is fought for, a line of memory that one thread writes and another reads
//           costs more than all else here. So a waiter, and a release that is not due, write into
//           lines of their own thread's; what they look at is written by releases that are due.
// Charge    Go's rule: a release while somebody waits ends a stretch of waiting, which began when
//           the oldest waiter came or with the release before, whichever is later. So the
//           stretches of a lock make up the wall time during which anyone waited for it.
// Sampling  On the clock lie points, for each lock a Poisson process with a mean distance T. A
//           stretch of d ticks is recorded if a point lies in it, with p = 1 - exp(-d / T), and
//           then stands for 1/p stretches of d ticks. So long stretches are all recorded, short
//           ones by their length, and sums are unbiased. A release before the next point takes the
//           time, and that is all; the one behind it looks through the threads for waiters. T = 0
//           records every stretch. T grows with the number of threads, which each such look costs.
// Watched   set by waiters, cleared by a release that looked and found nobody. (W) Both sides
//           store, fence, and look at the other's word, so that no waiter stays unwatched.
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

inline constexpr uint32_t kLockHomes = 4096;
extern std::atomic<uint8_t> watched[kLockHomes];

inline uint32_t home_of(const void* lock) {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(lock) * 0x9e3779b97f4a7c15) >> 52);
}

// The whole cost of a release that nobody waits for.
inline bool is_watched(const void* lock) {
  return watched[home_of(lock)].load(std::memory_order_relaxed) != 0;
}

// In a forked child: nobody waits.
void wait_table_forget();

// The newest release of a watched lock by one thread, which alone writes it. Whoever sees `lock`
// sees `ticks` as it belongs to it: (P).
struct LastRelease {
  std::atomic<const void*> lock;
  std::atomic<uint64_t> ticks;
};
inline constexpr uint32_t kReleasesKept = 3;  // of locks with different homes; with `next` a line
inline uint32_t place_of_release(const void* lock) {
  return home_of(lock) * kReleasesKept / kLockHomes;
}

// Makes a thread's waits and releases known to releasers; for the life of the process.
struct LockWaitLink {
  LockWait wait;
  LastRelease releases[kReleasesKept];
  LockWaitLink* next;
};
static_assert(sizeof(LockWaitLink) == 2 * format::kCacheLine);
void add_waiter(LockWaitLink& link);
uint32_t waiter_count();  // as many threads as there were at once

void publish_wait(LockWait& wait, const void* lock, format::WaitKind kind, uint32_t stack,
                  uint64_t now);
inline void withdraw_wait(LockWait& wait) { wait.object.store(nullptr, std::memory_order_release); }

// What is known of a lock while somebody waits for it. Written by its holders, so by one thread at
// a time, but for `last_release`. It lies in one of the kProbes places from its home on.
struct alignas(format::kCacheLine) WatchedLock {
  std::atomic<uint64_t> next_point;
  std::atomic<uint64_t> mean_ticks;    // with which that was drawn
  std::atomic<uint64_t> last_release;  // the newest one that no thread keeps for itself; 0: none
  std::atomic<uint32_t> leaving;       // a reader is between its look and its release
};
// nullptr: nobody waits for this one; or its places were all taken (counted when it was waited
// for).
WatchedLock* find_watched(const void* lock);

// For a release that found its lock's byte set and no entry: the byte is another lock's, which may
// be gone. Now and then this looks whether anybody still waits for that.
void tidy_home(const void* lock, uint64_t now);

inline bool is_point_before(const WatchedLock& entry, uint64_t now) {
  return now >= entry.next_point.load(std::memory_order_relaxed);
}

// A release that is not due: by the thread of `own`, or by one that nobody can look at (nullptr).
// Whoever looks holds the lock, and so sees all releases before.
void note_other_release(WatchedLock& entry, const void* lock, uint64_t now, LockWaitLink* own);
[[gnu::always_inline]] inline void note_release(WatchedLock& entry, const void* lock, uint64_t now,
                                                LockWaitLink* own) {
  LastRelease* last = own == nullptr ? nullptr : &own->releases[place_of_release(lock)];
  if (last != nullptr && last->lock.load(std::memory_order_relaxed) == lock) [[likely]]
    last->ticks.store(now, std::memory_order_relaxed);
  else
    note_other_release(entry, lock, now, own);
}

// The entry if a point lies before `now`, or each release is `wanted`; otherwise the release is
// noted, and that was all.
[[gnu::always_inline]] inline WatchedLock* due_at(const void* lock, uint64_t now, LockWaitLink* own,
                                                  bool wanted = false) {
  WatchedLock* entry = find_watched(lock);
  if (entry == nullptr) {
    tidy_home(lock, now);
    return nullptr;
  }
  if (is_point_before(*entry, now) || wanted) return entry;
  note_release(*entry, lock, now, own);
  return nullptr;
}

struct Charge {
  uint64_t ticks;
  uint64_t weight;  // weights.h
  format::WaitKind kind;
  uint32_t victim;  // stack of the oldest waiter
};
// Whether the release at `now`, which is due, is to be recorded. Called by the holder before the
// real release. `mean_ticks`: T for few threads; `random`: 64 random bits.
bool charge_release(WatchedLock& entry, const void* lock, uint64_t now, uint64_t mean_ticks,
                    uint64_t random, Charge* charge);

// For a trace: whether anybody waits; true, too, when that is not known after a look at some.
bool may_be_waited_for(const void* lock);

// Readers of a lock leave one at a time, while somebody waits: two that leave at once must not
// each take the other for the last one. False: another one takes too long, or nobody waits
// any more.
bool begin_leaving(WatchedLock& entry, const void* lock);
void end_leaving(WatchedLock& entry);

}  // namespace mprof::preload
