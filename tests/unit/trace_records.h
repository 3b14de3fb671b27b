// SPDX-License-Identifier: Apache-2.0
// A plain decoder of trace rings, written from format/trace_record.h and format/trace_ring.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "format/trace_ring.h"

namespace mprof::test {

struct TraceRow {
  format::TraceKind kind{};
  uint64_t ticks = 0;
  uint32_t thread = 0;
  uint32_t core = 0;
  uint32_t stack = format::kNoRow;
  std::vector<uint64_t> arguments;
  std::string text;

  bool operator==(const TraceRow&) const = default;
};

// Takes a ring's bytes as a reader does: from where it stopped before, whole records only.
class TraceRowReader {
 public:
  explicit TraceRowReader(uint64_t position = 0) : position_(position) {}

  std::vector<TraceRow> read(std::span<const uint8_t> bytes) {
    std::vector<TraceRow> rows;
    for (size_t at = 0; at < bytes.size();) {
      const uint64_t in_block = (position_ + at) % format::kTraceBlockBytes;
      if (in_block == 0) {
        begin_block(take(bytes, at, sizeof(format::TraceBlockHead)));
      } else if (bytes[at] == 0) {
        at += std::min<size_t>(format::kTraceBlockBytes - in_block, bytes.size() - at);
      } else {
        rows.push_back(read_record(bytes, at));
      }
    }
    position_ += bytes.size();
    return rows;
  }

 private:
  static const uint8_t* take(std::span<const uint8_t> bytes, size_t& at, size_t count) {
    if (bytes.size() - at < count) throw std::runtime_error("a record that is cut");
    at += count;
    return bytes.data() + at - count;
  }

  void begin_block(const uint8_t* bytes) {
    format::TraceBlockHead head;
    std::memcpy(&head, bytes, sizeof head);
    state_ = {};
    state_.ticks = head.ticks;
    state_.thread = head.thread;
    state_.core = head.core;
    object_ = 0;
  }

  static uint64_t varint(std::span<const uint8_t> bytes, size_t& at) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const uint64_t byte = *take(bytes, at, 1);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  uint64_t object(uint64_t code) { return object_ += (code & 1) != 0 ? ~(code >> 1) : code >> 1; }

  TraceRow read_record(std::span<const uint8_t> bytes, size_t& at) {
    const uint8_t head = bytes[at++];
    state_.kind = static_cast<format::TraceKind>(head & 0x3f);
    if (state_.kind >= format::TraceKind::kCount) throw std::runtime_error("a kind that is none");
    state_.ticks += varint(bytes, at);
    if ((head & 0x40) != 0) state_.core = static_cast<uint32_t>(varint(bytes, at));
    TraceRow row = state_;
    if ((head & 0x80) != 0) row.stack = static_cast<uint32_t>(varint(bytes, at));
    const format::TraceKindInfo& info = format::info_of(row.kind);
    for (int i = 0; i < info.arguments; ++i) {
      const uint64_t value = varint(bytes, at);
      row.arguments.push_back(i == info.object ? object(value) : value);
    }
    if (row.kind != format::TraceKind::kLog) return row;
    const uint64_t length = varint(bytes, at);
    row.text.assign(reinterpret_cast<const char*>(take(bytes, at, length)), length);
    return row;
  }

  uint64_t position_;
  TraceRow state_;
  uint64_t object_ = 0;
};

}  // namespace mprof::test
