// SPDX-License-Identifier: Apache-2.0
// The live table: the sampled blocks that are still allocated.
//
// Roles     Any thread of the target inserts and removes; a reader looks.
// Layout    Rows are recycled. The target's index over them (chain heads, free lists) lives in its
//           own memory, in preload/live_index.h.
// Publish   (L) `address` is stored last with release on insert, and first on removal (0): a row
//           with an address is whole.
// Trust     A reader's copy may be torn by a removal and an insert in between; it reads `address`
//           before and after.
// Reported  A block that the program reported itself (mprof_alloc) has its address with the top bit
//           set: the memory that an arena got from malloc begins where its first block does.
#pragma once

#include "format/dump.h"

namespace mprof::format {

struct LiveRow {
  std::atomic<uint64_t> address;  // 0 = free
  uint64_t size_bytes;
  uint64_t weight;
  uint64_t ticks;  // when it was allocated
  uint32_t bucket;
  uint32_t next;    // chain or free list: row + 1, 0 ends
  uint32_t thread;  // row of the allocating thread
  uint32_t batch;   // free list of batches, see preload/live_index.h
};
static_assert(sizeof(LiveRow) == 48, "both sides agree");

}  // namespace mprof::format
