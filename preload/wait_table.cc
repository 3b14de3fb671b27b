// SPDX-License-Identifier: Apache-2.0
#include "preload/wait_table.h"

#include <algorithm>

#include "format/weights.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/spin.h"

namespace mprof::preload {

constinit std::atomic<uint8_t> watched[kLockHomes];

namespace {

using format::kNoRow;

constexpr uint32_t kEntries = 2048;
constexpr uint32_t kProbes = 8;
WatchedLock entries[kEntries];
// Whose they are; nullptr: free. All waiters and releases look here.
alignas(format::kCacheLine) std::atomic<const void*> locks[kEntries];

uint32_t place(const void* lock, uint32_t probe) { return (home_of(lock) + probe) % kEntries; }

std::atomic<LockWaitLink*> waiters;
std::atomic<uint32_t> waiters_added;

// Beyond so many threads a look through all of them is made less often.
constexpr uint32_t kFewThreads = 32;

struct OldestWaiter {
  uint64_t start_ticks;  // UINT64_MAX: nobody waits
  uint32_t stack;
  format::WaitKind kind;
};

OldestWaiter find_oldest(const void* lock) {
  OldestWaiter oldest{UINT64_MAX, kNoRow, format::WaitKind::kMutex};
  LockWaitLink* link = waiters.load(std::memory_order_acquire);
  for (; link != nullptr; link = link->next) {
    const LockWait& wait = link->wait;
    if (wait.object.load(std::memory_order_acquire) != lock) continue;  // (P)
    const uint64_t start = wait.start_ticks.load(std::memory_order_relaxed);
    const uint32_t stack = wait.stack.load(std::memory_order_relaxed);
    const format::WaitKind kind = wait.kind.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    // A waiter may have given up at its deadline and wait for another lock by now.
    if (start >= oldest.start_ticks || wait.object.load(std::memory_order_relaxed) != lock)
      continue;
    oldest = {start, stack, kind};
  }
  return oldest;
}

struct NewestRelease {
  uint64_t ticks;    // 0: none is known
  uint32_t threads;  // looked at
};

// A thread that makes room for another lock leaves this one's time in the entry first: who does not
// find it with the thread any more finds it there.
NewestRelease find_newest_release(const WatchedLock& entry, const void* lock) {
  NewestRelease newest{0, 0};
  LockWaitLink* link = waiters.load(std::memory_order_acquire);
  for (; link != nullptr; link = link->next) {
    ++newest.threads;
    const LastRelease& last = link->releases[place_of_release(lock)];
    if (last.lock.load(std::memory_order_acquire) != lock) continue;  // (P)
    const uint64_t ticks = last.ticks.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (last.lock.load(std::memory_order_relaxed) == lock)
      newest.ticks = std::max(newest.ticks, ticks);
  }
  newest.ticks = std::max(newest.ticks, entry.last_release.load(std::memory_order_relaxed));
  return newest;
}

void raise(std::atomic<uint64_t>& value, uint64_t to) {
  uint64_t before = value.load(std::memory_order_relaxed);
  while (before < to && !value.compare_exchange_weak(before, to, std::memory_order_relaxed)) {
  }
}

void reset(WatchedLock& entry) {
  entry.next_point.store(0, std::memory_order_relaxed);
  entry.last_release.store(0, std::memory_order_relaxed);
}

bool take_over(uint32_t at, const void* from, const void* lock) {
  if (!locks[at].compare_exchange_strong(from, lock, std::memory_order_acq_rel)) return false;
  reset(entries[at]);
  return true;
}

bool try_claim(const void* lock) {
  for (uint32_t probe = 0; probe < kProbes; ++probe)
    if (take_over(place(lock, probe), nullptr, lock)) return true;
  // A lock that was destroyed, or is never released again, has left its entry behind.
  for (uint32_t probe = 0; probe < kProbes; ++probe) {
    const uint32_t at = place(lock, probe);
    const void* other = locks[at].load(std::memory_order_relaxed);
    if (find_oldest(other).start_ticks == UINT64_MAX && take_over(at, other, lock)) return true;
  }
  return false;
}

// Two waiters can come at once and claim two entries: the first one is found, the other stays
// unused until a look finds nobody.
void watch(const void* lock) {
  std::atomic<uint8_t>& flag = watched[home_of(lock)];
  if (flag.load(std::memory_order_relaxed) == 0) flag.store(1, std::memory_order_relaxed);
  if (find_watched(lock) == nullptr && !try_claim(lock)) count_lost(format::Lost::kWaitContended);
}

void free_entries(const void* lock) {
  for (uint32_t probe = 0; probe < kProbes; ++probe) {
    const uint32_t at = place(lock, probe);
    if (locks[at].load(std::memory_order_relaxed) != lock) continue;
    reset(entries[at]);
    locks[at].store(nullptr, std::memory_order_release);
  }
}

// Clears the byte of a home, unless somebody waits for a lock that is at home there. (W)
void clear_home(const void* lock) {
  watched[home_of(lock)].store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (LockWaitLink* link = waiters.load(std::memory_order_acquire); link; link = link->next) {
    const void* object = link->wait.object.load(std::memory_order_relaxed);
    if (object != nullptr && home_of(object) == home_of(lock)) watch(object);
  }
}

// Nobody waits, as far as was seen.
void unwatch(const void* lock) {
  free_entries(lock);
  clear_home(lock);
}

uint64_t next_point_after(uint64_t now, uint64_t mean_ticks, uint64_t random) {
  return mean_ticks == 0 ? 0 : now + 1 + format::draw_distance(random, mean_ticks);
}

}  // namespace

WatchedLock* find_watched(const void* lock) {
  for (uint32_t probe = 0; probe < kProbes; ++probe) {
    const uint32_t at = place(lock, probe);
    if (locks[at].load(std::memory_order_acquire) == lock) return &entries[at];
  }
  return nullptr;
}

void tidy_home(const void* lock, uint64_t now) {
  constexpr uint64_t kRarely = 1023;
  if ((now & kRarely) == 0) clear_home(lock);
}

void wait_table_forget() {
  waiters.store(nullptr, std::memory_order_relaxed);
  waiters_added.store(0, std::memory_order_relaxed);
  for (std::atomic<uint8_t>& flag : watched)
    if (flag.load(std::memory_order_relaxed) != 0) flag.store(0, std::memory_order_relaxed);
  for (uint32_t at = 0; at < kEntries; ++at) {  // pages that were never written stay so
    if (locks[at].load(std::memory_order_relaxed) == nullptr) continue;
    entries[at].leaving.store(0, std::memory_order_relaxed);
    reset(entries[at]);
    locks[at].store(nullptr, std::memory_order_relaxed);
  }
}

void add_waiter(LockWaitLink& link) {
  LockWaitLink* first = waiters.load(std::memory_order_relaxed);
  do {
    link.next = first;
  } while (!waiters.compare_exchange_weak(first, &link, std::memory_order_release,
                                          std::memory_order_relaxed));
  waiters_added.fetch_add(1, std::memory_order_relaxed);
}

uint32_t waiter_count() { return waiters_added.load(std::memory_order_relaxed); }

void publish_wait(LockWait& wait, const void* lock, format::WaitKind kind, uint32_t stack,
                  uint64_t now) {
  wait.start_ticks.store(now, std::memory_order_relaxed);
  wait.stack.store(stack, std::memory_order_relaxed);
  wait.kind.store(kind, std::memory_order_relaxed);
  wait.object.store(lock, std::memory_order_release);   // (P)
  std::atomic_thread_fence(std::memory_order_seq_cst);  // (W)
  watch(lock);
}

void note_other_release(WatchedLock& entry, const void* lock, uint64_t now, LockWaitLink* own) {
  if (own == nullptr) return raise(entry.last_release, now);
  LastRelease& last = own->releases[place_of_release(lock)];
  if (const void* before = last.lock.load(std::memory_order_relaxed))
    if (WatchedLock* left = find_watched(before))
      raise(left->last_release, last.ticks.load(std::memory_order_relaxed));
  last.lock.store(nullptr, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
  last.ticks.store(now, std::memory_order_relaxed);
  last.lock.store(lock, std::memory_order_release);  // (P)
}

bool charge_release(WatchedLock& entry, const void* lock, uint64_t now, uint64_t mean_ticks,
                    uint64_t random, Charge* charge) {
  const uint64_t point = entry.next_point.load(std::memory_order_relaxed);
  const NewestRelease last = find_newest_release(entry, lock);
  raise(entry.last_release, now);
  const OldestWaiter oldest = find_oldest(lock);
  uint64_t drawn_with = entry.mean_ticks.load(std::memory_order_relaxed);
  mean_ticks *= std::max(1u, last.threads / kFewThreads);
  entry.next_point.store(next_point_after(now, mean_ticks, random), std::memory_order_relaxed);
  entry.mean_ticks.store(mean_ticks, std::memory_order_relaxed);
  if (oldest.start_ticks == UINT64_MAX) {
    unwatch(lock);
    return false;
  }
  const uint64_t since = std::max(last.ticks, oldest.start_ticks);
  if (now < since) return false;
  // A point before the stretch began says nothing about it; the next one may lie in it.
  if (point <= since) {
    if (next_point_after(since, mean_ticks, mix(random)) > now) return false;
    drawn_with = mean_ticks;
  }
  *charge = {now - since, format::stretch_weight(now - since, drawn_with), oldest.kind,
             oldest.stack};
  return true;
}

bool may_be_waited_for(const void* lock) {
  uint32_t looked_at = 0;
  for (LockWaitLink* link = waiters.load(std::memory_order_acquire); link; link = link->next)
    if (link->wait.object.load(std::memory_order_relaxed) == lock || ++looked_at > kFewThreads)
      return true;
  return false;
}

bool begin_leaving(WatchedLock& entry, const void* lock) {
  const bool locked = spin_until([&] {
    uint32_t nobody = 0;
    return entry.leaving.compare_exchange_weak(nobody, 1, std::memory_order_acquire);
  });
  if (!locked) count_lost(format::Lost::kWaitContended);
  // While it waited, a look may have found nobody, and the entry be another lock's.
  if (!locked || locks[&entry - entries].load(std::memory_order_relaxed) == lock) return locked;
  end_leaving(entry);
  return false;
}

void end_leaving(WatchedLock& entry) { entry.leaving.store(0, std::memory_order_release); }

}  // namespace mprof::preload
