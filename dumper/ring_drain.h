// SPDX-License-Identifier: Apache-2.0
// Moves what the rings of one kind hold into their journal: profbufs, or trace rings.
//
// Exactly once, also across its own death: see docs/journal-format.md. A journal of events is made
// at once; one of a trace when there is something for it.
//
// Threads   each object belongs to one thread.
// Fails     JournalError: one line, when a journal of events cannot be used. A trace that cannot
//           be drained leaves the events alone: trouble() says why.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/journal.h"

namespace mprof::dumper {

class RingDrain {
 public:
  RingDrain(Dump& dump, JournalKind kind);

  struct Look {
    double fullest = 0;  // 0 to 1
    bool news = false;
  };
  Look look();
  // One pass over all rings, that begins at `begin`. 0, or the errno for which it ended.
  [[nodiscard]] int move(format::ClockPoint begin);
  // Nothing will come any more. The same; nothing is done for a journal that says so already.
  [[nodiscard]] int complete();

  [[nodiscard]] bool is_complete() const { return !journal_ || complete_; }
  // When something was moved last, or this began.
  [[nodiscard]] std::chrono::steady_clock::time_point last_frame() const { return last_frame_; }
  // The part of a trace that is wanted is there: MPROF_TRACE_MAX and ",stop", or a file system that
  // cannot forget the oldest.
  [[nodiscard]] bool is_full() const { return full_; }
  [[nodiscard]] uint64_t units_moved() const { return units_moved_; }
  [[nodiscard]] uint64_t damaged_rings() const { return damaged_; }
  // nullptr as long as there is none.
  [[nodiscard]] const JournalWriter* journal() const { return journal_ ? &*journal_ : nullptr; }
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  struct View {
    format::ProfbufHead* head;
    const void* units;
    uint64_t count;
  };
  struct Ring {
    bool seen = false;
    uint64_t position = 0;         // of the first unit that is not in the journal
    uint64_t dropped_written = 0;  // the last `dropped` that is in the journal
    uint64_t segment = 0;          // the last one that has something of it
  };
  struct Release {
    uint32_t row;
    Ring after;
  };

  // 0, or the errno for which it cannot be had now, but later.
  int open_journal();
  void refresh_if_grown();
  [[nodiscard]] std::optional<View> view(uint32_t row) const;
  void look_at_ring(uint32_t row, const View& view, Look& look);
  void begin_ring(uint32_t row, const View& view);
  void begin_segment_if_due();
  bool collect(uint32_t& row, FrameBuilder& builder, std::vector<Release>& releases);
  bool add_ring(uint32_t row, FrameBuilder& builder, std::vector<Release>& releases);
  [[nodiscard]] uint64_t first_unit(const Ring& ring, const View& view, uint64_t written) const;
  void copy(const View& view, const SpanHead& head, std::span<uint64_t> out) const;
  void release(const View& view, uint64_t position) const;
  void release(const std::vector<Release>& releases);
  void limit();
  // That the journal may keep; 0: all.
  [[nodiscard]] uint64_t most_bytes() const;

  Dump& dump_;
  JournalKind kind_;
  std::optional<JournalWriter> journal_;
  std::vector<Ring> rings_;
  std::chrono::steady_clock::time_point last_frame_ = std::chrono::steady_clock::now();
  uint64_t heads_seen_ = 0;
  uint64_t data_seen_ = 0;
  uint64_t segment_ = 0;
  uint64_t units_moved_ = 0;
  uint64_t damaged_ = 0;
  bool can_drop_ = false;
  bool full_ = false;
  bool complete_ = false;
  std::string trouble_;
};

}  // namespace mprof::dumper
