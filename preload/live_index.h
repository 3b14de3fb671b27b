// SPDX-License-Identifier: Apache-2.0
// The target's index over the live table: address -> row, and the rows that are free.
//
// Layout    A chain for each hash value; the head's top bit is the chain's lock. Free rows lie in
//           lists of the threads (LiveFreeList) and, in batches, in one global list, so that rows
//           freed by one thread come back to another that allocates.
// Threads   any. Signals: a handler that interrupted its thread inside mprof never gets here.
// Allocates from the kernel once, in init(). Blocks: waits for a chain that another thread holds
//           for a few instructions; gives up when that thread does not run for long.
// Ordering  (H) head: acquire CAS that sets the lock bit <-> release store that clears it.
//           (G) global list: release CAS on push <-> acquire load on pop; the upper half of the
//           word is a tag that grows, against ABA.
// Fails     insert(): false. remove(): kBusy, and then the row stays until a block with the same
//           address is freed; both are counted by the caller.
#pragma once

#include "format/live_table.h"
#include "format/table.h"

namespace mprof::preload {

struct LiveFreeList {  // owned by one thread
  uint32_t first;      // row + 1
  uint32_t count;
};

class LiveIndex {
 public:
  // `heads` is a power of two. False if the kernel has no memory.
  bool init(uint32_t heads);
  [[nodiscard]] size_t bytes() const { return heads_ == nullptr ? 0 : (mask_ + 1) * 4; }

  // A row to fill, from `own` or new; kNoRow when there is none.
  uint32_t take_row(LiveFreeList& own);
  void give_row(LiveFreeList& own, uint32_t row);
  void give_all(LiveFreeList& own);  // when the thread ends

  // Publishes `row`, filled but for address and next.
  bool insert(uint32_t row, const void* block);

  // Whether the block is in the table. Only for a block that the caller owns: then the answer
  // holds.
  [[nodiscard]] bool contains(const void* block) const;

  // The values of a block's row. For a block that the caller does not own, as of a moment ago.
  enum class Found { kNo, kYes, kBusy };
  Found find(const void* block, format::LiveRow* copy) const;

  enum class Removal { kNotThere, kRemoved, kBusy };
  // Takes the block's row out and copies it; the caller gives the row back.
  Removal remove(const void* block, format::LiveRow* copy, uint32_t* row);

 private:
  static constexpr uint32_t kLocked = 0x80000000;
  static constexpr uint32_t kBatchRows = 64;

  std::atomic<uint32_t>& head_of(const void* block) const;
  void push_batch(LiveFreeList& own);
  bool pop_batch(LiveFreeList& own);

  std::atomic<uint32_t>* heads_ = nullptr;
  uint32_t mask_ = 0;
  alignas(format::kCacheLine) std::atomic<uint64_t> batches_{0};  // tag << 32 | row + 1
};

extern LiveIndex live_index;

}  // namespace mprof::preload
