// SPDX-License-Identifier: Apache-2.0
// The writing half of a profbuf; see profbuf.h for the protocol.
//
// Called by preload/sampled_path.cc. Threads: the owner only. Signals: only from a handler that
// did not interrupt the owner inside write(). Allocates: no. Blocks: no. Fails: drops and counts.
#pragma once

#include "format/profbuf.h"
#include "format/record.h"

namespace mprof::format {

class ProfbufWriter {
 public:
  ProfbufWriter() = default;  // detached: drops silently; a zeroed writer is a valid writer
  ProfbufWriter(ProfbufHead* head, std::atomic<uint64_t>* words, uint64_t word_count)
      : head_(head), words_(words), mask_(word_count - 1) {}

  // The row of the thread that writes from now on.
  void set_thread(uint32_t thread_row) { thread_ = thread_row; }

  // Appends one record: `record[0]` packed, `record[1]` the time. False if it was dropped.
  bool write(const uint64_t* record, uint32_t count) {
    if (head_ == nullptr) return false;
    uint64_t position = head_->written.load(std::memory_order_relaxed);  // own word
    const bool announce = head_->announced != thread_ + 1;
    const uint64_t dropped = head_->dropped.load(std::memory_order_relaxed);
    const uint64_t unreported = dropped - head_->dropped_reported;
    const uint32_t needed = count + (announce ? 2 : 0) + (unreported != 0 ? 3 : 0);
    if (!has_room(position, needed)) return drop(record[1], dropped);
    if (unreported != 0) {
      put(position, pack_record_word({RecordKind::kLost, 3, 0, 0}));
      put(position + 1, head_->first_drop_ticks.load(std::memory_order_relaxed));
      put(position + 2, unreported);
      position += 3;
    }
    if (announce) {
      put(position, pack_record_word({RecordKind::kThread, 2, 0, thread_}));
      put(position + 1, record[1]);
      position += 2;
    }
    for (uint32_t i = 0; i < count; ++i) put(position + i, record[i]);
    head_->written.store(position + count, std::memory_order_release);  // (A)
    if (unreported != 0) head_->dropped_reported = dropped;
    if (announce) head_->announced = thread_ + 1;
    return true;
  }

 private:
  void put(uint64_t position, uint64_t word) {
    words_[position & mask_].store(word, std::memory_order_relaxed);
  }

  bool has_room(uint64_t position, uint32_t needed) {
    if (position + needed - head_->released_seen <= mask_ + 1) return true;
    head_->released_seen = head_->released.load(std::memory_order_acquire);  // (B)
    return position + needed - head_->released_seen <= mask_ + 1;
  }

  [[gnu::noinline]] bool drop(uint64_t now, uint64_t dropped) {
    if (dropped == head_->dropped_reported)
      head_->first_drop_ticks.store(now, std::memory_order_relaxed);
    head_->dropped.store(dropped + 1, std::memory_order_relaxed);  // own word
    return false;
  }

  ProfbufHead* head_ = nullptr;
  std::atomic<uint64_t>* words_ = nullptr;
  uint64_t mask_ = 0;
  uint32_t thread_ = 0;
};

}  // namespace mprof::format
