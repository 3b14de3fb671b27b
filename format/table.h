// SPDX-License-Identifier: Apache-2.0
// The writer's view of one table of the dump: rows by number, in chunks that never move.
//
// Called by preload/. Threads: any. Signals: safe. Allocates: no. Blocks: no. Fails: kNoRow.
// Ordering  (T) attach(): release store of the chunk pointer and the capacity <-> acquire load in
//           claim(). A thread that got a row number from claim() or through a published row may
//           use at().
#pragma once

#include "format/dump.h"

namespace mprof::format {

template <class Row>
class Table {
 public:
  void reset(TableDirectory* directory) {
    directory_ = directory;
    capacity_.store(0, std::memory_order_relaxed);
    for (auto& chunk : chunks_) chunk.store(nullptr, std::memory_order_relaxed);
  }

  // Makes chunk number `chunk` usable; chunks are attached in order.
  void attach(uint32_t chunk, void* rows) {
    chunks_[chunk].store(static_cast<Row*>(rows), std::memory_order_release);
    capacity_.store(static_cast<uint64_t>(directory_->first_rows) << chunk,
                    std::memory_order_release);  // (T)
  }

  // A new row, all zero; kNoRow when the table is full.
  [[nodiscard]] uint32_t claim() { return claim_run(1); }

  // `count` rows with consecutive numbers inside one chunk (for the byte table).
  [[nodiscard]] uint32_t claim_run(uint32_t count) {
    const uint64_t capacity = capacity_.load(std::memory_order_acquire);  // (T)
    uint64_t first = directory_->used_rows.load(std::memory_order_relaxed);
    for (;;) {
      uint64_t begin = first;
      if (begin + count > capacity) return kNoRow;
      if (count > 1) begin = skip_to_next_chunk_if_split(begin, count);
      if (begin + count > capacity) return kNoRow;
      if (directory_->used_rows.compare_exchange_weak(first, begin + count,
                                                      std::memory_order_relaxed))
        return static_cast<uint32_t>(begin);
    }
  }

  [[nodiscard]] Row* at(uint32_t row) const {
    const RowPlace place = place_of_row(directory_->first_rows, row);
    return chunks_[place.chunk].load(std::memory_order_relaxed) + place.row_in_chunk;
  }

  [[nodiscard]] uint64_t used() const {
    return directory_->used_rows.load(std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t capacity() const { return capacity_.load(std::memory_order_acquire); }
  // True when the next chunk should be made now, while there is still room.
  [[nodiscard]] bool nearly_full() const { return used() * 8 >= capacity() * 7; }
  // No claim succeeds from now on; rows that exist stay usable.
  void freeze() { capacity_.store(0, std::memory_order_relaxed); }

 private:
  [[nodiscard]] uint64_t skip_to_next_chunk_if_split(uint64_t begin, uint32_t count) const {
    const RowPlace a = place_of_row(directory_->first_rows, begin);
    const RowPlace b = place_of_row(directory_->first_rows, begin + count - 1);
    return a.chunk == b.chunk ? begin : begin + count - 1 - b.row_in_chunk;
  }

  TableDirectory* directory_ = nullptr;
  std::atomic<uint64_t> capacity_{0};
  std::atomic<Row*> chunks_[kMaxChunks]{};
};

}  // namespace mprof::format
