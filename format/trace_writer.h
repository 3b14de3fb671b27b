// SPDX-License-Identifier: Apache-2.0
// The writing half of a trace ring; see trace_ring.h for the layout and profbuf.h for the protocol.
//
// Called by preload/trace.cc. Threads: the owner only. Signals: only from a handler that did not
// interrupt the owner inside write(). Allocates: no. Blocks: no. Fails: drops and counts.
#pragma once

#include <cstring>

#include "format/trace_ring.h"

namespace mprof::format {

// Arguments of one record, by kind; see trace_record.h.
struct TraceEvent {
  TraceKind kind;
  uint64_t ticks;
  uint32_t core;
  uint32_t stack = kNoRow;
  uint64_t arguments[kMostTraceArguments] = {};
  const char* text = nullptr;
  uint32_t text_bytes = 0;  // at most kMostTraceText
};

class TraceWriter {
 public:
  TraceWriter() = default;  // detached: drops silently; a zeroed writer is a valid writer
  // `data`: of this ring, `bytes` of them, a multiple of kTraceBlockBytes and a power of two.
  TraceWriter(ProfbufHead* head, uint8_t* data, uint64_t bytes, uint32_t thread_row)
      : head_(head), data_(data), mask_(bytes - 1), thread_(thread_row) {
    position_ = head->written.load(std::memory_order_relaxed);
  }

  [[nodiscard]] bool is_attached() const { return head_ != nullptr; }

  // Appends one record. False if it was dropped.
  bool write(const TraceEvent& event) {
    if (head_ == nullptr) return false;
    const uint64_t dropped = head_->dropped.load(std::memory_order_relaxed);  // own word
    const uint64_t most = kMostTraceRecordBytes + event.text_bytes;
    const bool opens = !is_open_ || left_in_block() < most;
    const uint64_t begin = opens ? next_block() : position_;
    if (!has_room(begin + (opens ? sizeof(TraceBlockHead) : 0) + most))
      return drop(event.ticks, dropped);
    if (opens) open_block(begin, event);
    uint8_t* const first = data_ + (position_ & mask_);
    uint8_t* out = put_loss(first, event.ticks, dropped);
    out = put_record(out, event);
    position_ += static_cast<uint64_t>(out - first);
    head_->written.store(position_, std::memory_order_release);  // (A)
    return true;
  }

 private:
  [[nodiscard]] uint64_t left_in_block() const {
    return (kTraceBlockBytes - position_ % kTraceBlockBytes) % kTraceBlockBytes;
  }
  [[nodiscard]] uint64_t next_block() const { return position_ + left_in_block(); }

  bool has_room(uint64_t end) {
    if (end - head_->released_seen <= mask_ + 1) return true;
    head_->released_seen = head_->released.load(std::memory_order_acquire);  // (B)
    return end - head_->released_seen <= mask_ + 1;
  }

  void open_block(uint64_t begin, const TraceEvent& event) {
    if (begin != position_) data_[position_ & mask_] = static_cast<uint8_t>(TraceKind::kEnd);
    const TraceBlockHead head{event.ticks, thread_, event.core};
    std::memcpy(data_ + (begin & mask_), &head, sizeof head);
    position_ = begin + sizeof head;
    ticks_ = event.ticks;
    core_ = event.core;
    object_ = 0;
    is_open_ = true;
  }

  uint8_t* put_head(uint8_t* out, TraceKind kind, uint8_t flags, uint64_t ticks) {
    *out++ = static_cast<uint8_t>(static_cast<uint8_t>(kind) | flags);
    // A release is dated before what its thread did next; a core's counter may lag a little.
    const uint64_t since = ticks > ticks_ ? ticks - ticks_ : 0;
    ticks_ += since;
    return put_varint(out, since);
  }

  uint8_t* put_loss(uint8_t* out, uint64_t ticks, uint64_t dropped) {
    const uint64_t unreported = dropped - head_->dropped_reported;
    if (unreported == 0) return out;
    const uint64_t first = head_->first_drop_ticks.load(std::memory_order_relaxed);
    out = put_head(out, TraceKind::kLost, 0, ticks);
    out = put_varint(out, unreported);
    out = put_varint(out, ticks > first ? ticks - first : 0);
    head_->dropped_reported = dropped;
    return out;
  }

  uint8_t* put_record(uint8_t* out, const TraceEvent& event) {
    const bool moved = event.core != core_;
    const bool has_stack = event.stack != kNoRow;
    const auto flags = static_cast<uint8_t>((moved ? kHasCore : 0) | (has_stack ? kHasStack : 0));
    out = put_head(out, event.kind, flags, event.ticks);
    if (moved) out = put_varint(out, core_ = event.core);
    if (has_stack) out = put_varint(out, event.stack);
    const TraceKindInfo& info = info_of(event.kind);
    for (int i = 0; i < info.arguments; ++i)
      out =
          put_varint(out, i == info.object ? object_code(event.arguments[i]) : event.arguments[i]);
    return event.kind == TraceKind::kLog ? put_text(out, event) : out;
  }

  uint64_t object_code(uint64_t object) {
    const uint64_t difference = object - object_;
    object_ = object;
    return zigzag(difference);
  }

  static uint8_t* put_text(uint8_t* out, const TraceEvent& event) {
    out = put_varint(out, event.text_bytes);
    std::memcpy(out, event.text, event.text_bytes);
    return out + event.text_bytes;
  }

  [[gnu::noinline]] bool drop(uint64_t now, uint64_t dropped) {
    if (dropped == head_->dropped_reported)
      head_->first_drop_ticks.store(now, std::memory_order_relaxed);
    head_->dropped.store(dropped + 1, std::memory_order_relaxed);
    return false;
  }

  ProfbufHead* head_ = nullptr;
  uint8_t* data_ = nullptr;
  uint64_t mask_ = 0;
  uint64_t position_ = 0;
  uint64_t ticks_ = 0;
  uint64_t object_ = 0;
  uint32_t core_ = 0;
  uint32_t thread_ = 0;
  bool is_open_ = false;
};

}  // namespace mprof::format
