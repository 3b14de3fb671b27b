// SPDX-License-Identifier: Apache-2.0
// Rows of the bucket and count tables by their key: found in a chain, or made and pushed to it.
//
// Called by preload/buckets.cc, counts.cc. Threads: any. Signals: safe. Allocates: rows of the
// dump. Blocks: no. Fails: kNoRow.
// Ordering  (C) release CAS of the chain's head <-> acquire load of it.
#pragma once

#include "preload/dump_file.h"

namespace mprof::preload {

struct RowKey {
  uint32_t kind;
  uint32_t stack;
  uint32_t labels;
  uint32_t shard;
};

// Threads that hammer one call site would hand its row's cache line around at 100 ns a time: they
// have rows of their own, and readers add them up.
inline uint32_t shard_of(uint32_t thread) {
  constexpr uint32_t kShards = 4;
  return thread % kShards;
}

// A link is row + 1, 0 ends the chain.
template <class Row>
uint32_t find_keyed_row(const format::Table<Row>& table, uint32_t link, const RowKey& key) {
  while (link != 0) {
    const Row* row = table.at(link - 1);
    if (row->kind.load(std::memory_order_relaxed) == key.kind && row->stack == key.stack &&
        row->labels == key.labels && row->shard == key.shard)
      return link - 1;
    link = row->next;
  }
  return format::kNoRow;
}

// The row of this key in the chain that begins at `head`.
template <class Row>
uint32_t find_or_make_row(format::Table<Row>& table, format::TableId id,
                          std::atomic<uint32_t>& head, const RowKey& key) {
  uint32_t newest = head.load(std::memory_order_acquire);  // (C)
  const uint32_t found = find_keyed_row(table, newest, key);
  if (found != format::kNoRow) return found;
  const uint32_t number = claim_row(table, id);
  if (number == format::kNoRow) return format::kNoRow;
  Row* row = table.at(number);
  row->stack = key.stack;
  row->labels = key.labels;
  row->shard = key.shard;
  do {
    // A twin that another thread made meanwhile only splits the sums.
    row->next = newest;
    row->kind.store(key.kind, std::memory_order_release);
  } while (!head.compare_exchange_weak(newest, number + 1, std::memory_order_release,
                                       std::memory_order_acquire));  // (C)
  return number;
}

}  // namespace mprof::preload
