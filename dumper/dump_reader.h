// SPDX-License-Identifier: Apache-2.0
// The dump as checked values: of a target that runs, of one that ended, or of damaged bytes.
//
// Called by everything in dumper/ that reads a dump.
// Threads   One Dump belongs to one thread; several Dumps of one file are fine.
// Mapping   The file is mapped read-only, beyond its end too, so that a dump that grows needs no
//           new mapping and row pointers stay valid as long as the Dump. Only the control words
//           and the heads of rings are mapped again for writing, and only on request.
//           A page that vanishes because the file shrinks would be SIGBUS; a handler puts zeros
//           there and the Dump says so in damage(). Post-mortem files go the same way: reading
//           them into memory would cost their size again and leave live dumps unprotected.
// Trust     Offsets, counts and indices are copied once, checked against the size of the file,
//           and used from the copy. What does not fit is left out and described in damage().
// Fails     DumpError where nothing is usable: not a regular file, no header, another version.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/tick_clock.h"
#include "format/bucket.h"
#include "format/count_bucket.h"
#include "format/dump.h"
#include "format/label_table.h"
#include "format/live_table.h"
#include "format/module_table.h"
#include "format/profbuf.h"
#include "format/stack_table.h"
#include "format/thread_table.h"
#include "format/trace_ring.h"

namespace mprof::dumper {

struct DumpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// kWrite: for the control words and the rings' `released`. A file that may only be read is
// opened all the same; writable() then says no.
enum class Access { kRead, kWrite };

// What the process of a dump is doing, as far as this machine can tell.
// kSnapshot: it ran when this copy of the dump was made.
enum class Life { kRunning, kEndedCleanly, kEndedWithoutCleanEnd, kSnapshot };

struct FrameRow {
  uint64_t pc = 0;  // return address, see format/stack_table.h
  uint32_t module = format::kNoRow;
};

struct StackCopy {
  std::vector<FrameRow> frames;            // leaf first
  uint32_t root = format::kStackComplete;  // kStackTruncated, kStackIncomplete
  bool damaged = false;                    // the path left the table before it met a root
};

// One consistent state of a bucket.
struct BucketCopy {
  format::BucketKind kind{};
  uint32_t stack = 0;
  uint32_t labels = format::kNoRow;
  uint64_t peak_epoch = 0;
  uint64_t cut_epoch = 0;
  format::HeapTotals totals{};
  format::HeapTotals at_cut{};
  format::HeapTotals at_peak{};
};

// One consistent state of a row of the count table.
struct CountCopy {
  format::CountKind kind{};
  uint32_t stack = format::kNoRow;  // kNoRow: it happened before mprof was there
  uint32_t labels = format::kNoRow;
  format::CountTotals totals{};
};

struct ThreadCopy {
  uint32_t tid = 0;
  uint32_t profbuf = format::kNoRow;   // row
  uint32_t creation = format::kNoRow;  // row of the count table: who made it
  std::string name;
  uint64_t start_ticks = 0;
  uint64_t end_ticks = 0;
  uint64_t inside = 0;
  uint64_t samples = 0;
  uint64_t sampled_frees = 0;
  uint64_t truncated_stacks = 0;
  uint64_t incomplete_stacks = 0;
  uint64_t cost_ticks = 0;
  uint64_t cost_measured = 0;
  uint64_t cpu_samples = 0;
  uint64_t cpu_in_mprof_ns = 0;
};

struct ModuleCopy {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t load_bias = 0;
  uint64_t text_start = 0;
  uint64_t text_end = 0;
  uint64_t text_offset = 0;
  uint64_t unloaded_ticks = 0;
  std::string path;
  std::string build_id_hex;
};

struct LabelCopy {
  std::string key;
  format::LabelType type{};
  std::string text;                  // kText
  uint64_t address = 0;              // kAddress
  uint32_t module = format::kNoRow;  // kAddress: the row of the module it lies in
  uint32_t stack = format::kNoRow;   // kStack: leaf
};

// A profbuf as format::ProfbufReader wants it. `head` may be written only if writable().
struct ProfbufView {
  format::ProfbufHead* head = nullptr;
  const std::atomic<uint64_t>* words = nullptr;
  uint64_t word_count = 0;
};

// A trace ring, in the same way.
struct TraceRingView {
  format::ProfbufHead* head = nullptr;
  const uint8_t* bytes = nullptr;
  uint64_t byte_count = 0;
};

class Dump;
// Whether a setting had other values than the one that the header has.
[[nodiscard]] bool was_changed(const Dump& dump, format::ChangedSetting setting);

// Which peak the dump speaks of; see format/bucket.h.
struct PeakMark {
  uint64_t epoch = 0;
  bool rising = false;
  friend bool operator==(const PeakMark&, const PeakMark&) = default;
};

class Dump {
 public:
  [[nodiscard]] static Dump open(const std::string& path, Access access);
  // Takes `fd` over. `name` is for messages.
  [[nodiscard]] static Dump from_fd(int fd, const std::string& name, bool writable);
  Dump(Dump&&) noexcept;
  Dump& operator=(Dump&&) noexcept;
  ~Dump();

  // Looks again at the size of the file, the chunks and the counts of rows.
  void refresh();

  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] bool writable() const;
  [[nodiscard]] uint64_t file_bytes() const;  // as of the last refresh
  [[nodiscard]] uint64_t disk_bytes() const;  // blocks that the file occupies
  // Scalars of the mapping; they may change under the reader's eyes while the target runs.
  [[nodiscard]] const format::DumpHeader& header() const;
  [[nodiscard]] std::string executable() const;
  [[nodiscard]] std::vector<std::string> command_line() const;
  [[nodiscard]] std::string allocator() const;
  // The control words, nullptr unless writable().
  [[nodiscard]] format::Control* control() const;
  [[nodiscard]] Life life() const;
  [[nodiscard]] TickClock clock() const;
  // Time of the end, or of the last sign of life, or now if it runs; nanoseconds of real time.
  [[nodiscard]] uint64_t end_realtime_ns() const;
  [[nodiscard]] PeakMark peak_mark() const;

  // Rows that are there, as of the last refresh: the used ones, clamped by what the file holds.
  [[nodiscard]] uint64_t rows(format::TableId table) const;
  // Rows that the target claims to have used, unchecked; for messages.
  [[nodiscard]] uint64_t claimed_rows(format::TableId table) const;
  // Rows that the chunks in place have room for.
  [[nodiscard]] uint64_t capacity_rows(format::TableId table) const;

  // Each gives nothing for a row that is not there or was never published.
  [[nodiscard]] std::optional<BucketCopy> bucket(uint32_t row) const;
  [[nodiscard]] std::optional<CountCopy> count(uint32_t row) const;
  [[nodiscard]] std::optional<ThreadCopy> thread(uint32_t row) const;
  [[nodiscard]] std::optional<ModuleCopy> module(uint32_t row) const;
  // The name of a profile of the program's own.
  [[nodiscard]] std::optional<std::string> custom(uint32_t row) const;
  [[nodiscard]] StackCopy stack(uint32_t leaf) const;
  [[nodiscard]] std::vector<LabelCopy> labels(uint32_t set) const;
  [[nodiscard]] std::optional<ProfbufView> profbuf(uint32_t row) const;
  [[nodiscard]] std::optional<TraceRingView> trace_ring(uint32_t row) const;
  // The bytes of a string; cut where the table ends.
  [[nodiscard]] std::string text(uint32_t first, uint32_t bytes) const;
  // The row's own memory, nullptr if it is not there. For fields that are read once.
  [[nodiscard]] const format::ThreadRow* thread_row(uint32_t row) const;
  [[nodiscard]] const format::LiveRow* live_row(uint32_t row) const;

  // What is wrong with the file, one line each, in the order found.
  [[nodiscard]] const std::vector<std::string>& damage() const;
  // Adds a line, unless the same one is there; a long list ends in "and more".
  void add_damage(std::string line) const;

 private:
  struct State;
  explicit Dump(std::unique_ptr<State> state);
  [[nodiscard]] std::optional<LabelCopy> label(uint32_t number, const format::LabelRow& row) const;
  std::unique_ptr<State> state_;
};

}  // namespace mprof::dumper
