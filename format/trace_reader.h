// SPDX-License-Identifier: Apache-2.0
// The reading half of a trace ring; see trace_ring.h for the layout and profbuf.h for the protocol.
//
// Called by dumper/. Threads: one. Allocates: no (the caller's buffer). Blocks: no.
// Fails: nonsense positions are reported as damage, never believed.
#pragma once

#include <cstdint>

#include "format/profbuf_reader.h"
#include "format/trace_ring.h"

namespace mprof::format {

class TraceReader {
 public:
  TraceReader(ProfbufHead* head, const uint8_t* bytes, uint64_t byte_count)
      : head_(head), bytes_(bytes), count_(byte_count) {}

  // Copies what was written since `from` into `out`, as many bytes as fit; cut anywhere. What the
  // writer got back meanwhile may have been overwritten: see released().
  ProfbufReader::Chunk copy(uint64_t from, std::span<uint8_t> out) const {
    const uint64_t written = this->written();
    if (written - from > count_) return {written, written, true};
    const uint64_t wanted = std::min<uint64_t>(written - from, out.size());
    const uint64_t at = from & (count_ - 1);
    const uint64_t before_wrap = std::min(wanted, count_ - at);
    std::copy_n(bytes_, wanted - before_wrap, std::copy_n(bytes_ + at, before_wrap, out.begin()));
    return {from, from + wanted, false};
  }

  // Gives the bytes before the block at `position` back to the writer: reading can begin anew at a
  // block only.
  void release(uint64_t position) {
    head_->released.store(position - position % kTraceBlockBytes,
                          std::memory_order_release);  // (B)
  }

  [[nodiscard]] uint64_t released() const {
    return head_->released.load(std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t written() const {
    return head_->written.load(std::memory_order_acquire);  // (A)
  }
  [[nodiscard]] uint64_t dropped() const { return head_->dropped.load(std::memory_order_relaxed); }

 private:
  ProfbufHead* head_;
  const uint8_t* bytes_;
  uint64_t count_;
};

}  // namespace mprof::format
