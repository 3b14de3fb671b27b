// SPDX-License-Identifier: Apache-2.0
// The bytes of one trace ring, in pieces of any size, as checked records.
//
// Begin     at a block; after a gap, at the next one.
// Gaps      are kLost records: with a count where the writer dropped, with 0 where bytes are
// missing
//           or are no records; their age reaches back to the record before.
// Trust     No byte is believed. What is no record costs the rest of its block; rows beyond the
//           tables become kNoRow.
// Memory    the bytes that were fed and not asked for yet.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "dumper/journal.h"
#include "dumper/tick_clock.h"
#include "dumper/trace/record.h"
#include "format/trace_ring.h"

namespace mprof::dumper {

// Rows that the tables of the dump have.
struct TraceTables {
  uint64_t threads = 0;
  uint64_t stacks = 0;
  uint64_t labels = 0;
};

// What a ring dropped, as its head has it.
struct TraceDrops {
  uint64_t all = 0;
  uint64_t unreported = 0;  // since the last kLost record, as the writer noted it
  uint64_t first_ticks = 0;
};

// No machine has so many; a core is an index for those who read a trace.
inline constexpr uint64_t kMostCores = 1u << 16;

class TraceDecoder {
 public:
  // `begins_late`: what came before the first bytes was dropped on purpose, and is no gap.
  TraceDecoder(const TickClock& clock, const TraceTables& tables, bool begins_late)
      : clock_(clock), tables_(tables), begins_late_(begins_late) {}

  // Bytes that are known already are skipped.
  void feed(const SpanHead& head, std::span<const uint8_t> bytes);
  // Nothing more will be fed.
  void close(const TraceDrops& drops);
  // False: not before more is fed.
  bool next(TraceRecord& record);

  // Behind the last byte that was fed, and behind the last record that was asked for.
  [[nodiscard]] uint64_t fed() const { return fed_; }
  [[nodiscard]] uint64_t position() const {
    return pieces_.empty() ? fed_ : pieces_.front().from + taken_;
  }
  // What it has in memory.
  [[nodiscard]] uint64_t waiting_bytes() const {
    return piece_bytes_ + pieces_.size() * sizeof(Piece);
  }
  [[nodiscard]] uint64_t gaps() const { return gaps_; }
  [[nodiscard]] uint64_t damaged_bytes() const { return damaged_bytes_; }
  [[nodiscard]] uint64_t bad_rows() const { return bad_rows_; }
  [[nodiscard]] uint64_t lost() const { return lost_; }  // by kLost records of the writer
  // It has every byte that was written since the ring was made.
  [[nodiscard]] bool whole() const { return is_whole_; }

 private:
  struct Piece {
    uint64_t from;
    std::vector<uint8_t> bytes;
    bool follows_gap;
  };
  enum class Got { kRecord, kNothing, kCut, kBad };

  Got step(TraceRecord& record);
  Got open_block(std::span<const uint8_t> bytes, TraceRecord& record);
  Got read(const uint8_t*& in, const uint8_t* end, TraceRecord& record);
  Got read_arguments(const uint8_t*& in, const uint8_t* end, TraceRecord& record);
  Got read_text(const uint8_t*& in, const uint8_t* end, TraceRecord& record) const;
  bool check(TraceRecord& record);
  void give_up_block(uint64_t left_in_block);
  bool begin_next_piece();
  bool next_at_end(TraceRecord& record);
  void fill_lost(TraceRecord& record, uint64_t ns, uint64_t count, uint64_t age_ns) const;
  [[nodiscard]] uint64_t ns_of(uint64_t ticks) const;
  uint32_t row(uint64_t number, uint64_t rows);

  const TickClock& clock_;
  const TraceTables& tables_;
  std::deque<Piece> pieces_;
  uint64_t piece_bytes_ = 0;  // of all pieces
  uint64_t taken_ = 0;        // bytes of the first piece
  uint64_t fed_ = 0;
  bool begins_late_;
  bool is_whole_ = true;
  bool is_open_ = false;  // the block at this position
  bool gap_due_ = false;  // to be told at the next block
  // Within the block.
  uint64_t ticks_ = 0;
  uint64_t object_ = 0;
  uint32_t core_ = 0;
  uint32_t thread_ = format::kNoRow;
  uint64_t last_ns_ = 0;

  bool is_closed_ = false;
  TraceDrops drops_;
  uint64_t gaps_ = 0;
  uint64_t damaged_bytes_ = 0;
  uint64_t bad_rows_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace mprof::dumper
