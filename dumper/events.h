// SPDX-License-Identifier: Apache-2.0
// Events: the records of the profbufs, from the journal and from what the rings still hold, as
// checked values.
//
// Events of one thread come in order. Threads are interleaved in blocks, so a reader that needs
// the order of time over all threads must not assume it; none here does.
//
// Memory    one journal frame, and a few words for each profbuf.
// Trust     Words that are no record are damage: counted, and the stream goes on with the next
//           frame of that profbuf.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/journal.h"
#include "format/record.h"

namespace mprof::dumper {

struct Event {
  format::RecordKind kind{};  // kAlloc, kFree, kCounted or kLost
  uint32_t profbuf = 0;
  uint32_t thread = format::kNoRow;  // row of the thread table
  uint32_t row = format::kNoRow;     // of the bucket table; kCounted: of the count table
  uint64_t ticks = 0;                // kLost: of the first one lost
  uint64_t size_bytes = 0;           // kAlloc, kFree
  uint64_t weight = 0;               // format/weights.h
  uint64_t bytes = 0;                // kAlloc, kFree: what the sample stands for
  uint64_t alloc_ticks = 0;          // kFree
  uint64_t value = 0;                // kCounted: of one event; format/count_bucket.h
  uint64_t lost = 0;                 // kLost: how many records

  [[nodiscard]] bool is_of_heap() const {
    return kind == format::RecordKind::kAlloc || kind == format::RecordKind::kFree;
  }
};
using EventSink = std::function<void(const Event&)>;

// How much of what happened the events tell.
struct StreamHealth {
  uint64_t events = 0;            // kAlloc, kFree and kCounted
  uint64_t lost_reported = 0;     // by kLost records
  uint64_t lost_at_the_end = 0;   // dropped, and no kLost record came after
  uint64_t first_lost_ticks = 0;  // 0: nothing lost
  uint64_t gaps = 0;              // a profbuf did not go on where it had ended
  uint64_t damaged_records = 0;   // words that are no record; the rest of that piece was skipped
  uint64_t damaged_journal_bytes = 0;
  uint64_t torn_journal_bytes = 0;  // at its end; the rings still have what they were to hold
  uint64_t missing_journal_frames = 0;
  uint64_t first_ticks = 0;  // of events; 0: there are none
  uint64_t last_ticks = 0;
  std::string journal;          // path; empty: there is none
  std::string journal_trouble;  // why a journal that is there could not be used
  bool journal_complete = false;

  [[nodiscard]] uint64_t lost() const { return lost_reported + lost_at_the_end; }
  [[nodiscard]] bool whole() const {
    return lost() == 0 && gaps == 0 && damaged_records == 0 && damaged_journal_bytes == 0 &&
           missing_journal_frames == 0 && journal_trouble.empty();
  }
  // What is missing, one line each.
  [[nodiscard]] std::vector<std::string> lines(const TickClock& clock) const;
};

// Turns spans of profbufs into events. A record that is cut goes on in the next span.
class EventParser {
 public:
  // Rows of profbufs at or above `max_rows` are damage.
  EventParser(const EventSink& sink, uint32_t max_rows) : sink_(sink), max_rows_(max_rows) {}

  void feed(const ProfbufSpan& span);
  // Where the stream of a profbuf ended; nothing for one that was not seen.
  [[nodiscard]] std::optional<uint64_t> position(uint32_t row) const;
  [[nodiscard]] StreamHealth health() const;

 private:
  struct Stream {
    bool seen = false;
    uint32_t thread = format::kNoRow;
    uint32_t carried_words = 0;
    uint64_t carried[format::kMaxRecordWords];
    uint64_t position = 0;
    uint64_t reported = 0;
    uint64_t dropped = 0;
    uint64_t first_drop_ticks = 0;
  };

  static constexpr size_t kBadRecord = SIZE_MAX;
  Stream& stream_of(uint32_t row);
  void join(Stream& stream, const SpanHead& head);
  size_t complete_carried(Stream& stream, uint32_t row, std::span<const uint64_t> words);
  void parse(Stream& stream, uint32_t row, std::span<const uint64_t> words);
  size_t parse_one(Stream& stream, uint32_t row, std::span<const uint64_t> words);
  void deliver(Stream& stream, uint32_t row, format::RecordWord head, const uint64_t* words);
  void note_time(uint64_t ticks);
  void note_loss(uint64_t ticks);

  const EventSink& sink_;
  uint32_t max_rows_;
  std::vector<Stream> streams_;
  StreamHealth health_;
};

// Every event of a dump: its journal, then what the rings hold beyond it. Writes nothing. Of a
// running target the rings are copied first, so that a drainer at work leaves no gap between them
// and the journal.
StreamHealth read_events(const Dump& dump, const EventSink& sink);

}  // namespace mprof::dumper
