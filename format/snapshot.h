// SPDX-License-Identifier: Apache-2.0
// A copy of a dump that shows one moment of a running target.
//
// Roles     Written by `mprof` or by the target itself, from a mapping of the whole dump, after the
//           cut (bucket.h); read like any dump.
// Layout    Everything stands at the offset that it has in the dump; what is not copied is a hole.
// Buckets   have the totals of the cut and no saved ones. Buckets and counts are copied each as one
//           consistent state; first, so that all that they name is there when its turn comes.
// Events    are left out: `Control` and profbufs are empty.
// Header    last, so that the file is no dump before it is whole.
// Death     A target that ended is copied as it ended; its copy has the life that it had.
// Trust     Nothing outside the mapping is read, whatever the dump says.
#pragma once

#include "format/bucket.h"
#include "format/count_bucket.h"
#include "format/dump.h"

namespace mprof::format {

// Letters, digits, '-', '_' and '.', not beginning with a dot.
inline constexpr size_t kMaxSnapshotName = 64;
inline constexpr const char* kSnapshotNames =
    "letters, digits, '-', '_' and '.', not beginning with '.', 64 characters at most";
// What is subtracted since a reset; no other snapshot is called so.
inline constexpr const char* kBaselineName = "baseline";

constexpr bool is_snapshot_name(const char* name) {
  size_t length = 0;
  for (const char* c = name; *c != '\0'; ++c, ++length) {
    const bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                       (*c >= '0' && *c <= '9') || *c == '-' || *c == '_' || *c == '.';
    if (!plain) return false;
  }
  return length != 0 && length <= kMaxSnapshotName && *name != '.';
}
static_assert(is_snapshot_name("before-load_2.a") && !is_snapshot_name("a/b") &&
              !is_snapshot_name("..") && !is_snapshot_name(""));

struct SnapshotSource {
  const char* base;  // the whole dump
  uint64_t bytes;    // of the mapping
};

// What is known of the moment from before the cut.
struct SnapshotMoment {
  uint64_t cut_epoch;  // 0: the target has ended
  uint64_t peak_epoch;
  uint64_t realtime_ns;
};

template <class T>
T load_relaxed(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}

// Words that another thread or process may be writing.
inline void copy_words(void* to, const void* from, size_t bytes) {
  auto* out = static_cast<uint64_t*>(to);
  const auto* in = static_cast<const uint64_t*>(from);
  for (size_t i = 0; i < bytes / sizeof(uint64_t); ++i) out[i] = load_relaxed(in[i]);
}

// One try at a consistent state of a row. False: it changed meanwhile.
inline bool try_copy(const BucketRow& row, const SnapshotMoment& moment, BucketRow& out) {
  const uint64_t saved = row.saved_version.load(std::memory_order_acquire);  // (W)
  const uint32_t version = row.version.load(std::memory_order_acquire);      // (V)
  const uint64_t cut_epoch = row.cut_epoch.load(std::memory_order_relaxed);
  const bool is_saved = moment.cut_epoch != 0 && cut_epoch == moment.cut_epoch;
  out.stack = load_relaxed(row.stack);
  out.labels = load_relaxed(row.labels);
  out.shard = load_relaxed(row.shard);
  out.peak_epoch.store(row.peak_epoch.load(std::memory_order_relaxed), std::memory_order_relaxed);
  copy_words(&out.totals[0], is_saved ? &row.at_cut : &row.totals[version & 1], sizeof(HeapTotals));
  copy_words(&out.at_peak, &row.at_peak, sizeof(HeapTotals));
  std::atomic_thread_fence(std::memory_order_acquire);
  return row.version.load(std::memory_order_relaxed) == version &&
         row.saved_version.load(std::memory_order_relaxed) == saved;
}

inline bool try_copy(const CountRow& row, const SnapshotMoment&, CountRow& out) {
  const uint32_t version = row.version.load(std::memory_order_acquire);  // (V)
  out.stack = load_relaxed(row.stack);
  out.labels = load_relaxed(row.labels);
  out.shard = load_relaxed(row.shard);
  copy_words(&out.totals[0], &row.totals[version & 1], sizeof(CountTotals));
  std::atomic_thread_fence(std::memory_order_acquire);
  return row.version.load(std::memory_order_relaxed) == version;
}

// `put(data, bytes, offset)` writes and gives 0 or an error number; `pause()` waits a little.
template <class Put, class Pause>
class SnapshotWriter {
 public:
  // `copy` is for the header: zeroed memory of kHeaderBytes, too large for some stacks.
  SnapshotWriter(const SnapshotSource& source, const SnapshotMoment& moment, void* copy, Put put,
                 Pause pause)
      : source_(source),
        moment_(moment),
        copy_(static_cast<DumpHeader*>(copy)),
        put_(put),
        pause_(pause) {}

  // 0 or an error number: that of put(), kDamaged or kBusy.
  static constexpr int kDamaged = 22;  // EINVAL: what the dump says of itself cannot be
  static constexpr int kBusy = 11;     // EAGAIN: a row changed at each of many looks
  int write() {
    int error = copy_rows<BucketRow>(TableId::kBuckets);
    if (error == 0) error = copy_rows<CountRow>(TableId::kCounts);
    for (size_t table = 0; error == 0 && table < kTables; ++table)
      error = copy_raw(static_cast<TableId>(table));
    return error == 0 ? write_header() : error;
  }

 private:
  static constexpr int kTries = 2000;

  [[nodiscard]] const DumpHeader& header() const {
    return *reinterpret_cast<const DumpHeader*>(source_.base);
  }

  static bool is_copied_by_row(TableId table) {
    return table == TableId::kBuckets || table == TableId::kCounts;
  }
  static bool is_of_events(TableId table) {
    return table == TableId::kProfbufs || table == TableId::kProfbufData ||
           table == TableId::kTraceRings || table == TableId::kTraceData;
  }

  // Notes in the copied header what of a table is there, chunk by chunk, and has it copied.
  template <class Copy>
  int for_each_chunk(TableId id, Copy&& copy) {
    const TableDirectory& from = header().tables[static_cast<size_t>(id)];
    TableDirectory& to = copy_->tables[static_cast<size_t>(id)];
    to.row_bytes = load_relaxed(from.row_bytes);
    to.first_rows = load_relaxed(from.first_rows);
    const uint64_t used = from.used_rows.load(std::memory_order_acquire);
    if (used == 0) return 0;
    if (to.row_bytes == 0 || to.first_rows == 0 || (to.first_rows & (to.first_rows - 1)) != 0)
      return kDamaged;
    uint64_t before = 0;
    for (uint32_t chunk = 0; chunk < kMaxChunks && before < used; ++chunk) {
      const uint64_t offset = from.chunk_offset[chunk].load(std::memory_order_acquire);
      const uint64_t room = chunk_rows(to.first_rows, chunk);
      const uint64_t rows = used - before < room ? used - before : room;
      if (offset == 0) break;  // claimed in a chunk that is not there yet
      if (offset % kCacheLine != 0 || offset < kHeaderBytes || offset > source_.bytes ||
          (source_.bytes - offset) / to.row_bytes < rows)
        return kDamaged;
      if (const int error = copy(offset, rows * to.row_bytes); error != 0) return error;
      to.chunk_offset[chunk].store(offset, std::memory_order_relaxed);
      before += rows;
    }
    to.used_rows.store(before, std::memory_order_relaxed);
    return 0;
  }

  int copy_raw(TableId id) {
    if (is_copied_by_row(id) || is_of_events(id)) return 0;
    return for_each_chunk(id, [&](uint64_t offset, uint64_t bytes) {
      return put_(source_.base + offset, bytes, offset);
    });
  }

  template <class Row>
  int copy_rows(TableId id) {
    if (header().tables[static_cast<size_t>(id)].row_bytes != sizeof(Row)) return kDamaged;
    return for_each_chunk(id, [&](uint64_t offset, uint64_t bytes) {
      for (uint64_t done = 0; done + sizeof(Row) <= bytes; done += sizeof(Row))
        if (const int error = copy_row<Row>(offset + done); error != 0) return error;
      return 0;
    });
  }

  // One that is not published yet is copied as zeros: the file must not end before it.
  template <class Row>
  int copy_row(uint64_t offset) {
    const Row& row = *reinterpret_cast<const Row*>(source_.base + offset);
    const uint32_t kind = row.kind.load(std::memory_order_acquire);
    Row copy{};
    if (kind == 0) return put_(&copy, sizeof copy, offset);
    copy.kind.store(kind, std::memory_order_relaxed);
    bool done = try_copy(row, moment_, copy);
    for (int i = 0; !done && i < kTries && moment_.cut_epoch != 0; ++i) {
      pause_();
      done = try_copy(row, moment_, copy);
    }
    if (!done && moment_.cut_epoch != 0) return kBusy;
    return put_(&copy, sizeof copy, offset);
  }

  // The words between and around the directories, which are filled already. The clock's last point
  // is written by the target now and then.
  void copy_header_words() {
    constexpr size_t kBegin = offsetof(DumpHeader, tables);
    constexpr size_t kEnd = kBegin + sizeof(DumpHeader::tables);
    auto* to = reinterpret_cast<char*>(copy_);
    for (int i = 0; i < kTries; ++i) {
      const uint64_t version = header().clock_version.load(std::memory_order_acquire);
      copy_words(to, source_.base, kBegin);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (version % 2 == 0 && header().clock_version.load(std::memory_order_relaxed) == version)
        break;
      if (moment_.cut_epoch != 0) pause_();
    }
    copy_words(to + kEnd, source_.base + kEnd, sizeof(DumpHeader) - kEnd);
  }

  void note_moment() {
    copy_->snapshot_epoch = moment_.cut_epoch != 0 ? moment_.cut_epoch : 1;
    copy_->signal_number.store(0, std::memory_order_relaxed);
    copy_->trace_on.store(0, std::memory_order_relaxed);  // the rings are not copied
    copy_->trace_sessions.store(0, std::memory_order_relaxed);
    if (moment_.cut_epoch == 0) return;
    copy_->peak_epoch.store(moment_.peak_epoch, std::memory_order_relaxed);
    copy_->end_realtime_ns = moment_.realtime_ns;
    copy_->end_state.store(EndState::kSnapshot, std::memory_order_relaxed);
  }

  void clear_control() {
    constexpr size_t kBegin = offsetof(DumpHeader, control);
    auto* words = reinterpret_cast<uint64_t*>(reinterpret_cast<char*>(copy_) + kBegin);
    for (size_t i = 0; i < sizeof(Control) / sizeof(uint64_t); ++i) words[i] = 0;
  }

  int write_header() {
    copy_header_words();
    note_moment();
    clear_control();
    const uint64_t magic = copy_->magic;
    copy_->magic = 0;
    if (const int error = put_(copy_, kHeaderBytes, 0); error != 0) return error;
    return put_(&magic, sizeof magic, 0);
  }

  SnapshotSource source_;
  SnapshotMoment moment_;
  DumpHeader* copy_;
  Put put_;
  Pause pause_;
};

}  // namespace mprof::format
