// SPDX-License-Identifier: Apache-2.0
// The trace of a dump as one stream of records in the order of time: what the journal has, then
// what the rings still hold.
//
// Order     Each pass of the drainer tells when it began. What is older than that by kSettleNs is
//           in the frames up to its end, so up to there the records of all rings are merged. One
//           that comes later than it should gets the time of its predecessor and is counted.
// Memory    what the rings held at the time of one pass, two at most; at the end, what they hold
//           still. A journal whose passes do not end is read on as if they had: what waits is never
//           more than the dump times 4 and 64 MiB.
// Trust     nothing that the dump or its journal says: see decode.h, journal.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/journal.h"
#include "dumper/ring_copy.h"
#include "dumper/timeline.h"
#include "dumper/trace/decode.h"
#include "dumper/trace/record.h"

namespace mprof::dumper {

inline constexpr uint64_t kSettleNs = 2'000'000;

// How much of what happened the records tell.
struct TraceHealth {
  uint64_t records = 0;  // without kLost
  uint64_t lost = 0;     // dropped because a ring was full
  uint64_t first_lost_ns = 0;
  uint64_t gaps = 0;           // bytes are missing, or are no records; nobody knows how many
  uint64_t damaged_bytes = 0;  // of rings
  uint64_t bad_rows = 0;       // that no table has
  uint64_t late = 0;           // records that were given the time of their predecessor
  uint64_t latest_ns = 0;      // by how much at most
  uint64_t early = 0;          // records of a time when they were in the journal already
  uint64_t recorder_dropped_bytes = 0;  // of the journal: the oldest, by MPROF_TRACE_MAX
  uint64_t recorder_dropped_frames = 0;
  uint64_t damaged_journal_bytes = 0;
  uint64_t torn_journal_bytes = 0;
  uint64_t missing_journal_frames = 0;
  uint64_t begin_ns = 0;        // of the first record that is there
  uint64_t last_ns = 0;         // of the last one in the window
  std::string journal;          // path; empty: there is none
  std::string journal_trouble;  // why one that is there could not be used
  uint64_t journal_bytes = 0;   // on disk

  [[nodiscard]] bool whole() const;
  // What is missing, one line each.
  [[nodiscard]] std::vector<std::string> lines() const;
};

class DumpTrace : public TraceSource {
 public:
  // Writes nothing. The rings are copied here and now, so that a drainer at work leaves no gap
  // between them and the journal, which is read as far as it is now. Records outside the window are
  // left out.
  explicit DumpTrace(Dump& dump, const Window& window = {});
  DumpTrace(const DumpTrace&) = delete;
  DumpTrace& operator=(const DumpTrace&) = delete;

  bool next(TraceRecord& record) override;
  // Complete when next() has said false.
  [[nodiscard]] TraceHealth health() const;
  // How much of the journal is read, 0 to 1.
  [[nodiscard]] double progress() const;

 private:
  struct Ring {
    explicit Ring(TraceDecoder of_ring) : decoder(std::move(of_ring)) {}
    TraceDecoder decoder;
    TraceRecord record;       // the next one
    bool is_waiting = false;  // in the heap
    TraceDrops drops;
    uint64_t given_up = 0;  // positions up to here belong to what was dropped to save space
    uint64_t fed_last_pass = 0;
    uint64_t settled = 0;  // positions up to here are older than settled_ns_
  };
  struct Copy : RingCopy<uint8_t> {
    uint64_t unreported = 0;  // by the writer's own count
  };
  struct Next {
    uint64_t ns;
    uint32_t ring;
    bool operator<(const Next& other) const { return ns > other.ns; }  // the heap's top is oldest
  };

  void open_journal();
  bool take_oldest(TraceRecord& record);
  bool load();
  bool load_frame();
  void load_rings();
  void feed(const SpanHead& head, std::span<const uint8_t> bytes);
  void pull(uint32_t row);
  void settle(uint64_t begin_ns);
  void clamp(Ring& ring);
  void copy_rings();
  void close(uint32_t row);
  void note(const TraceRecord& record);
  [[nodiscard]] bool is_due(uint64_t ns) const;
  [[nodiscard]] static Copy copy_of(uint32_t row, const TraceRingView& view);

  Dump& dump_;
  Window window_;
  TickClock clock_;
  TraceTables tables_;
  JournalFile file_;
  std::optional<JournalReader> journal_;
  std::vector<Copy> copies_;
  std::vector<std::unique_ptr<Ring>> rings_;  // by row; nullptr: nothing known of it
  std::vector<Next> heap_;
  uint64_t most_waiting_bytes_ = 0;
  uint64_t waiting_bytes_ = 0;  // in all decoders
  uint64_t horizon_ns_ = 0;     // older records are all there
  uint64_t settled_ns_ = UINT64_MAX;
  uint64_t last_ns_ = 0;
  bool has_begun_ = false;
  bool rings_are_loaded_ = false;
  bool is_over_ = false;
  TraceHealth health_;
};

}  // namespace mprof::dumper
