// SPDX-License-Identifier: Apache-2.0
// The label table: label sets as chains of (key, value), append-only.
//
// A set is the number of its newest row; `parent` leads to the rest of it and is always a lower
// number. A key that occurs twice on the way counts with its newest value. kNoRow is the empty
// set.
// Insert    find_or_add() as in stack_table.h: the thread whose CAS of the chain head fails looks
//           again; its row then stays unused (`key_bytes` 0).
// Ordering  (S) release CAS of the chain head <-> acquire load of it. (P) `key_bytes` is stored
//           with release once the row is whole <-> acquire load by readers.
// Signals   Lock-free, safe.
#pragma once

#include "format/table.h"

namespace mprof::format {

enum class LabelType : uint32_t {
  kText,     // `value`: string, see kStrings, of `extra` bytes
  kAddress,  // `value`: of data or code; `extra`: row of the module it lies in, or kNoRow
  kStack,    // `value`: row of the stack table
};

struct LabelRow {
  std::atomic<uint32_t> key_bytes;
  uint32_t key;  // string, see kStrings
  uint32_t parent;
  uint32_t next;  // in the target's hash chain: row + 1, 0 ends
  LabelType type;
  uint32_t extra;
  uint64_t value;
};
static_assert(sizeof(LabelRow) == 32, "both sides agree");

// The keys that mprof itself uses.
inline constexpr const char* kLabelWait = "wait";           // text: what was waited for, kWaitNames
inline constexpr const char* kLabelLock = "lock";           // address of the lock
inline constexpr const char* kLabelLockSite = "lock_site";  // stack that allocated its block
inline constexpr const char* kLabelVictim = "victim";       // stack of a waiter, in mutex profiles
inline constexpr const char* kLabelStart = "start";         // address: start function of a thread

enum class WaitKind : uint32_t {
  kMutex,
  kRwlockRead,
  kRwlockWrite,
  kSpin,
  kCond,
  kCondRelock,
  kSemaphore,
  kBarrier,
  kJoin,
  kFutex,
  // These are no contention and in no profile; a thread's state shows them.
  kSleep,
  kPoll,
  kSignal,
  kCount,
};
inline constexpr const char* kWaitNames[] = {
    "mutex",   "rwlock read", "rwlock write", "spin",  "cond", "cond relock", "semaphore",
    "barrier", "join",        "futex",        "sleep", "poll", "signal"};
static_assert(sizeof kWaitNames / sizeof *kWaitNames == static_cast<size_t>(WaitKind::kCount));

struct LabelKey {
  uint32_t parent;
  uint32_t key;
  uint32_t key_bytes;
  LabelType type;
  uint32_t extra;
  uint64_t value;
};

// The target's own index over the rows: chain heads in anonymous memory, zero = empty.
class LabelIndex {
 public:
  static constexpr uint32_t kHeads = 1u << 13;
  static constexpr uint64_t kIndexBytes = kHeads * sizeof(std::atomic<uint32_t>);

  void reset(Table<LabelRow>* rows, void* zeroed_heads) {
    rows_ = rows;
    heads_ = static_cast<std::atomic<uint32_t>*>(zeroed_heads);
  }

  template <class Claim>
  [[nodiscard]] uint32_t find_or_add(const LabelKey& key, Claim&& claim) {
    std::atomic<uint32_t>& head = heads_[hash(key) & (kHeads - 1)];
    uint32_t newest = head.load(std::memory_order_acquire);  // (S)
    uint32_t row = find(newest, 0, key);
    if (row != kNoRow) return row;
    row = claim();
    if (row == kNoRow) return kNoRow;
    for (;;) {
      fill(row, key, newest);
      const uint32_t looked_until = newest;
      if (head.compare_exchange_strong(newest, row + 1, std::memory_order_release,
                                       std::memory_order_acquire)) {                // (S)
        rows_->at(row)->key_bytes.store(key.key_bytes, std::memory_order_release);  // (P)
        return row;
      }
      const uint32_t twin = find(newest, looked_until, key);
      if (twin != kNoRow) return twin;
    }
  }

 private:
  static uint64_t hash(const LabelKey& key) {
    uint64_t h = key.value * 0x9e3779b97f4a7c15 + key.parent;
    h = (h ^ (h >> 31)) * 0xc2b2ae3d27d4eb4f + key.key + static_cast<uint64_t>(key.type);
    return h ^ (h >> 29) ^ (h >> 47);
  }

  [[nodiscard]] uint32_t find(uint32_t link, uint32_t end_link, const LabelKey& key) const {
    while (link != end_link && link != 0) {
      const LabelRow* row = rows_->at(link - 1);
      if (row->value == key.value && row->parent == key.parent && row->key == key.key &&
          row->type == key.type && row->extra == key.extra)
        return link - 1;
      link = row->next;
    }
    return kNoRow;
  }

  void fill(uint32_t number, const LabelKey& key, uint32_t newest) {
    LabelRow* row = rows_->at(number);
    row->key = key.key;
    row->parent = key.parent;
    row->next = newest;
    row->type = key.type;
    row->extra = key.extra;
    row->value = key.value;
  }

  Table<LabelRow>* rows_ = nullptr;
  std::atomic<uint32_t>* heads_ = nullptr;
};

}  // namespace mprof::format
