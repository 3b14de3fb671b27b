// SPDX-License-Identifier: Apache-2.0
// The reading half of a profbuf; see profbuf.h for the protocol.
//
// Called by dumper/drain.cc. Threads: one. Allocates: no (the caller's buffer). Blocks: no.
// Fails: nonsense positions are reported as damage, never believed.
#pragma once

#include <algorithm>
#include <span>

#include "format/profbuf.h"

namespace mprof::format {

class ProfbufReader {
 public:
  ProfbufReader(ProfbufHead* head, const std::atomic<uint64_t>* words, uint64_t word_count)
      : head_(head), words_(words), mask_(word_count - 1) {}

  struct Chunk {
    uint64_t begin = 0;  // position of the first word
    uint64_t end = 0;
    bool damaged = false;  // positions made no sense; [begin, end) is empty
  };

  // Copies what was written since `from` into `out`, as many words as fit. Whole records are not
  // the reader's business: the stream is cut anywhere and goes on with the next call.
  Chunk copy(uint64_t from, std::span<uint64_t> out) const {
    const uint64_t written = head_->written.load(std::memory_order_acquire);  // (A)
    if (written - from > mask_ + 1) return {written, written, true};
    const uint64_t count = std::min<uint64_t>(written - from, out.size());
    for (uint64_t i = 0; i < count; ++i)
      out[i] = words_[(from + i) & mask_].load(std::memory_order_relaxed);
    return {from, from + count, false};
  }

  // Gives the words before `position` back to the writer.
  void release(uint64_t position) {
    head_->released.store(position, std::memory_order_release);  // (B)
  }

  [[nodiscard]] uint64_t released() const {
    return head_->released.load(std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t written() const { return head_->written.load(std::memory_order_acquire); }
  [[nodiscard]] uint64_t dropped() const { return head_->dropped.load(std::memory_order_relaxed); }

 private:
  ProfbufHead* head_;
  const std::atomic<uint64_t>* words_;
  uint64_t mask_;
};

}  // namespace mprof::format
