// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/decode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "format/call_names.h"
#include "format/label_table.h"

namespace mprof::dumper {
namespace {

using format::kNoRow;
using format::kTraceBlockBytes;
using format::TraceBlockHead;
using format::TraceKind;

// Which argument is an age; -1: none.
constexpr int age_of(TraceKind kind) {
  switch (kind) {
    case TraceKind::kLost:
    case TraceKind::kRelock:
    case TraceKind::kGrow:
    case TraceKind::kTrim: return 1;
    case TraceKind::kThread: return 2;
    default: return -1;
  }
}

constexpr auto kWaitKinds = static_cast<uint64_t>(format::WaitKind::kCount);
constexpr auto kCalls = static_cast<uint64_t>(format::CallName::kCount);

// Whether numbers that stand for names do.
bool is_named(const TraceRecord& record) {
  switch (record.kind) {
    case TraceKind::kThread: return record.arguments[1] <= kWaitKinds;
    case TraceKind::kWait:
    case TraceKind::kRelease: return record.arguments[0] < kWaitKinds;
    case TraceKind::kCall: return record.arguments[0] < kCalls;
    default: return true;
  }
}

}  // namespace

void TraceDecoder::feed(const SpanHead& head, std::span<const uint8_t> bytes) {
  const bool is_first = fed_ == 0 && pieces_.empty() && is_whole_;
  const uint64_t known = fed_ - head.from;
  const bool joins = (head.flags & kSpanDamaged) == 0 && head.from <= fed_;
  if (joins && known > bytes.size()) return;
  if (joins) bytes = bytes.subspan(known);
  fed_ = head.to;
  if (!joins) {
    is_whole_ = false;
    pieces_.push_back({head.from, {}, !(is_first && begins_late_)});
  } else if (pieces_.empty()) {
    pieces_.push_back({head.from + known, {}, false});
  }
  Piece& last = pieces_.back();
  if (pieces_.size() == 1) {
    last.bytes.erase(last.bytes.begin(), last.bytes.begin() + static_cast<int64_t>(taken_));
    last.from += taken_;
    piece_bytes_ -= taken_;
    taken_ = 0;
  }
  piece_bytes_ += bytes.size();
  last.bytes.insert(last.bytes.end(), bytes.begin(), bytes.end());
}

void TraceDecoder::close(const TraceDrops& drops) {
  is_closed_ = true;
  drops_ = drops;
}

bool TraceDecoder::next(TraceRecord& record) {
  for (;;) {
    const Got got = pieces_.empty() ? Got::kCut : step(record);
    if (got == Got::kRecord) return true;
    if (got == Got::kCut && !begin_next_piece()) return is_closed_ && next_at_end(record);
  }
}

// A piece that ends inside a record goes on when more is fed, unless a gap follows it.
bool TraceDecoder::begin_next_piece() {
  const bool is_last = pieces_.size() <= 1;
  if (is_last && !is_closed_) return false;
  if (!pieces_.empty() && taken_ < pieces_.front().bytes.size()) {
    damaged_bytes_ += pieces_.front().bytes.size() - taken_;
    gap_due_ = true;
  }
  if (!pieces_.empty()) {
    piece_bytes_ -= pieces_.front().bytes.size();
    pieces_.pop_front();
  }
  taken_ = 0;
  is_open_ = false;
  return !pieces_.empty();
}

TraceDecoder::Got TraceDecoder::step(TraceRecord& record) {
  Piece& piece = pieces_.front();
  gap_due_ = gap_due_ || std::exchange(piece.follows_gap, false);
  const std::span<const uint8_t> bytes = std::span(piece.bytes).subspan(taken_);
  if (bytes.empty()) return Got::kCut;
  const uint64_t in_block = (piece.from + taken_) % kTraceBlockBytes;
  if (in_block == 0) return open_block(bytes, record);
  const uint64_t left_in_block = kTraceBlockBytes - in_block;
  const uint64_t there = std::min<uint64_t>(bytes.size(), left_in_block);
  if (!is_open_) {
    taken_ += there;
    return Got::kNothing;
  }
  const uint8_t* in = bytes.data();
  const Got got = read(in, in + there, record);
  if (got == Got::kRecord) taken_ += static_cast<uint64_t>(in - bytes.data());
  if (got == Got::kCut && there < left_in_block) return Got::kCut;
  if (got != Got::kRecord && got != Got::kNothing) give_up_block(left_in_block);
  return got == Got::kRecord ? got : Got::kNothing;
}

TraceDecoder::Got TraceDecoder::open_block(std::span<const uint8_t> bytes, TraceRecord& record) {
  TraceBlockHead head{};
  if (bytes.size() < sizeof head) return Got::kCut;
  std::memcpy(&head, bytes.data(), sizeof head);
  taken_ += sizeof head;
  if (head.core >= kMostCores) {
    give_up_block(kTraceBlockBytes);
    return Got::kNothing;
  }
  is_open_ = true;
  ticks_ = head.ticks;
  core_ = head.core;
  object_ = 0;
  thread_ = row(head.thread, tables_.threads);
  if (!gap_due_) return Got::kNothing;
  gap_due_ = false;
  ++gaps_;
  const uint64_t ns = ns_of(ticks_);
  fill_lost(record, ns, 0, last_ns_ == 0 ? 0 : ns - std::min(last_ns_, ns));
  return Got::kRecord;
}

void TraceDecoder::give_up_block(uint64_t left_in_block) {
  damaged_bytes_ += left_in_block;
  is_open_ = false;
  is_whole_ = false;
  gap_due_ = true;
}

// Nothing of the state changes before the record is whole.
TraceDecoder::Got TraceDecoder::read(const uint8_t*& in, const uint8_t* end, TraceRecord& record) {
  const uint8_t first = *in++;
  const auto kind = static_cast<TraceKind>(first & format::kTraceKindMask);
  if (kind >= TraceKind::kCount) return Got::kBad;
  if (kind == TraceKind::kEnd) {
    is_open_ = false;
    return Got::kNothing;
  }
  uint64_t since = 0;
  uint64_t core = core_;
  uint64_t stack = kNoRow;
  if (!format::get_varint(in, end, since)) return Got::kCut;
  if ((first & format::kHasCore) != 0 && !format::get_varint(in, end, core)) return Got::kCut;
  if ((first & format::kHasStack) != 0 && !format::get_varint(in, end, stack)) return Got::kCut;
  record.kind = kind;
  record.thread = thread_;
  record.text.clear();
  const Got got = read_arguments(in, end, record);
  if (got != Got::kRecord) return got;
  if (core >= kMostCores) return Got::kBad;
  const int object = format::info_of(kind).object;
  const uint64_t address = object < 0 ? 0 : object_ + format::unzigzag(record.arguments[object]);
  if (object >= 0) record.arguments[object] = address;
  if (!check(record)) return Got::kBad;
  if (object >= 0) object_ = address;
  ticks_ += since;
  core_ = static_cast<uint32_t>(core);
  record.core = core_;
  record.stack = row(stack, tables_.stacks);
  record.ns = last_ns_ = ns_of(ticks_);
  return Got::kRecord;
}

TraceDecoder::Got TraceDecoder::read_arguments(const uint8_t*& in, const uint8_t* end,
                                               TraceRecord& record) {
  const int count = format::info_of(record.kind).arguments;
  for (int i = 0; i < count; ++i)
    if (!format::get_varint(in, end, record.arguments[i])) return Got::kCut;
  for (size_t i = static_cast<size_t>(count); i < format::kMostTraceArguments; ++i)
    record.arguments[i] = 0;
  return record.kind == TraceKind::kLog ? read_text(in, end, record) : Got::kRecord;
}

TraceDecoder::Got TraceDecoder::read_text(const uint8_t*& in, const uint8_t* end,
                                          TraceRecord& record) const {
  uint64_t bytes = 0;
  if (!format::get_varint(in, end, bytes)) return Got::kCut;
  if (bytes > format::kMostTraceText) return Got::kBad;
  if (bytes > static_cast<uint64_t>(end - in)) return Got::kCut;
  record.text.assign(reinterpret_cast<const char*>(in), bytes);
  in += bytes;
  return Got::kRecord;
}

// False: a record of that kind has no such arguments.
bool TraceDecoder::check(TraceRecord& record) {
  if (!is_named(record)) return false;
  uint64_t* const arguments = record.arguments;
  if (const int age = age_of(record.kind); age >= 0)
    arguments[age] = clock_.duration_to_ns(arguments[age]);
  if (record.kind == TraceKind::kThread || record.kind == TraceKind::kCreate)
    arguments[0] = row(arguments[0], tables_.threads);
  if (record.kind == TraceKind::kLabels && arguments[0] > tables_.labels) {
    arguments[0] = 0;
    ++bad_rows_;
  }
  if (record.kind == TraceKind::kLost) lost_ += arguments[0];
  return true;
}

uint32_t TraceDecoder::row(uint64_t number, uint64_t rows) {
  if (number < rows || number == kNoRow) return static_cast<uint32_t>(number);
  ++bad_rows_;
  return kNoRow;
}

uint64_t TraceDecoder::ns_of(uint64_t ticks) const {
  return static_cast<uint64_t>(std::max<int64_t>(clock_.since_start_ns(ticks), 0));
}

void TraceDecoder::fill_lost(TraceRecord& record, uint64_t ns, uint64_t count,
                             uint64_t age_ns) const {
  record = TraceRecord{};
  record.kind = TraceKind::kLost;
  record.ns = ns;
  record.thread = thread_;
  record.core = core_;
  record.arguments[0] = count;
  record.arguments[1] = age_ns;
}

// What is missing behind the last record. Drops of which no kLost record came are what the sum of
// all of these lacks, or what the writer noted where some are missing.
bool TraceDecoder::next_at_end(TraceRecord& record) {
  if (gap_due_) {
    gap_due_ = false;
    ++gaps_;
    fill_lost(record, last_ns_, 0, 0);
    return true;
  }
  uint64_t unreported = drops_.all - std::min(drops_.all, lost_);
  if (!is_whole_) unreported = std::min(unreported, drops_.unreported);
  if (unreported == 0) return false;
  fill_lost(record, std::max(last_ns_, ns_of(drops_.first_ticks)), unreported, 0);
  drops_ = {};
  return true;
}

}  // namespace mprof::dumper
