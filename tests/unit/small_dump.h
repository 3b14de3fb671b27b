// SPDX-License-Identifier: Apache-2.0
// A dump as small as the reader accepts it, with profbufs and buckets that a test fills the way
// libmprof.so does: each sample goes into its bucket and into a profbuf. With trace rings if
// wanted.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/find_dump.h"
#include "format/bucket.h"
#include "format/count_bucket.h"
#include "format/dump.h"
#include "format/profbuf.h"
#include "format/profbuf_writer.h"
#include "format/thread_table.h"
#include "format/trace_writer.h"
#include "format/weights.h"

namespace mprof::testing {

class TempDir {
 public:
  TempDir() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base == nullptr ? "/tmp" : base) + "/mprof-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp: " + path_);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    if (std::system(("rm -rf '" + path_ + "'").c_str()) != 0) std::abort();
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class SmallDump {
 public:
  static constexpr uint32_t kProfbufs = 8;
  static constexpr uint32_t kBuckets = 64;
  static constexpr uint32_t kCounts = 16;
  static constexpr uint32_t kThreads = 8;
  static constexpr uint32_t kTraceRings = 8;
  static constexpr uint64_t kStartTicks = 1'000'000'000;  // ticks are nanoseconds
  static constexpr uint64_t kStartRealtimeNs = 1'700'000'000'000'000'000;

  // `pid` 0: a target that has ended. Without `trace_ring_bytes` nothing was ever traced.
  SmallDump(std::string path, uint32_t profbuf_words, uint32_t pid = 0,
            uint32_t trace_ring_bytes = 0)
      : path_(std::move(path)), words_(profbuf_words), trace_ring_bytes_(trace_ring_bytes) {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes())) != 0)
      throw std::runtime_error("cannot make " + path_);
    base_ = static_cast<char*>(::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
    if (base_ == MAP_FAILED) throw std::runtime_error("cannot map " + path_);
    fill_header(pid);
    for (uint32_t row = 0; row < kProfbufs; ++row)
      writers_.emplace_back(head(row), data(row), words_);
    for (uint32_t row = 0; row < kProfbufs; ++row) writers_[row].set_thread(row);
    for (uint32_t row = 0; trace_ring_bytes_ != 0 && row < kTraceRings; ++row)
      trace_writers_.emplace_back(trace_head(row), trace_data(row), trace_ring_bytes_, row);
  }
  SmallDump(const SmallDump&) = delete;
  SmallDump& operator=(const SmallDump&) = delete;
  ~SmallDump() { ::munmap(base_, bytes()); }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string journal_path() const { return path_ + ".journal"; }
  [[nodiscard]] std::string trace_path() const { return path_ + ".trace"; }
  [[nodiscard]] format::DumpHeader* header() {
    return std::launder(reinterpret_cast<format::DumpHeader*>(base_));
  }
  [[nodiscard]] format::ProfbufHead* head(uint32_t row) {
    return reinterpret_cast<format::ProfbufHead*>(base_ + kHeadsAt) + row;
  }
  [[nodiscard]] std::atomic<uint64_t>* data(uint32_t row) {
    return reinterpret_cast<std::atomic<uint64_t>*>(base_ + kDataAt) + uint64_t{row} * words_;
  }
  [[nodiscard]] format::BucketRow* bucket(uint32_t row) {
    return reinterpret_cast<format::BucketRow*>(base_ + kBucketsAt) + row;
  }
  [[nodiscard]] format::CountRow* count(uint32_t row) {
    return reinterpret_cast<format::CountRow*>(base_ + kCountsAt) + row;
  }
  [[nodiscard]] format::ThreadRow* thread(uint32_t row) {
    return reinterpret_cast<format::ThreadRow*>(base_ + kThreadsAt) + row;
  }
  [[nodiscard]] format::ProfbufWriter& writer(uint32_t row) { return writers_[row]; }
  [[nodiscard]] format::ProfbufHead* trace_head(uint32_t row) {
    return reinterpret_cast<format::ProfbufHead*>(base_ + trace_heads_at()) + row;
  }
  [[nodiscard]] uint8_t* trace_data(uint32_t row) {
    return reinterpret_cast<uint8_t*>(base_ + trace_data_at()) + uint64_t{row} * trace_ring_bytes_;
  }
  // Of the thread of that row.
  [[nodiscard]] format::TraceWriter& trace_writer(uint32_t row) { return trace_writers_[row]; }

  // One sample, in both books. True if its event was not dropped.
  bool alloc(uint32_t row, uint32_t bucket_row, uint64_t ticks, uint64_t size,
             uint64_t weight = format::kWeightOne) {
    format::HeapTotals& totals = bucket(bucket_row)->totals[0];
    totals.alloc_objects += weight;
    totals.alloc_bytes += format::weighted_bytes(size, weight);
    totals.alloc_samples += 1;
    return write_event(row, format::RecordKind::kAlloc, bucket_row, {ticks, size}, weight);
  }
  bool free(uint32_t row, uint32_t bucket_row, uint64_t ticks, uint64_t size, uint64_t alloc_ticks,
            uint64_t weight = format::kWeightOne) {
    format::HeapTotals& totals = bucket(bucket_row)->totals[0];
    totals.free_objects += weight;
    totals.free_bytes += format::weighted_bytes(size, weight);
    totals.free_samples += 1;
    return write_event(row, format::RecordKind::kFree, bucket_row, {ticks, size, alloc_ticks},
                       weight);
  }
  bool counted(uint32_t row, uint32_t count_row, uint64_t ticks, uint64_t value,
               uint64_t weight = format::kWeightOne) {
    const auto kind = static_cast<uint32_t>(format::CountKind::kBlock);
    count(count_row)->kind.store(kind);
    format::add_to(count(count_row)->totals[0], {value, weight});
    return write_event(row, format::RecordKind::kCounted, count_row, {ticks, value}, weight);
  }
  // Only the event.
  bool write_event(uint32_t row, format::RecordKind kind, uint32_t argument,
                   std::vector<uint64_t> payload, uint64_t weight = format::kWeightOne) {
    const bool weighted = weight != format::kWeightOne;
    if (weighted) payload.push_back(weight);
    const auto count = static_cast<uint8_t>(payload.size() + 1);
    const uint16_t flags = weighted ? format::kWeighted : 0;
    payload.insert(payload.begin(), format::pack_record_word({kind, count, flags, argument}));
    return writers_[row].write(payload.data(), count);
  }
  void end_cleanly(uint64_t ticks) {
    header()->end_realtime_ns = kStartRealtimeNs + ticks - kStartTicks;
    header()->end_state.store(format::EndState::kClean);
  }

 private:
  static constexpr uint64_t kHeadsAt = format::kHeaderBytes;
  static constexpr uint64_t kBucketsAt = kHeadsAt + kProfbufs * sizeof(format::ProfbufHead);
  static constexpr uint64_t kCountsAt = kBucketsAt + kBuckets * sizeof(format::BucketRow);
  static constexpr uint64_t kThreadsAt = kCountsAt + kCounts * sizeof(format::CountRow);
  static constexpr uint64_t kDataAt = kThreadsAt + kThreads * sizeof(format::ThreadRow);
  static_assert(kDataAt % format::kCacheLine == 0);

  [[nodiscard]] uint64_t data_bytes() const {
    return uint64_t{kProfbufs} * words_ * sizeof(uint64_t);
  }
  [[nodiscard]] uint64_t trace_heads_at() const { return kDataAt + data_bytes(); }
  [[nodiscard]] uint64_t trace_data_at() const {
    return trace_heads_at() + kTraceRings * sizeof(format::ProfbufHead);
  }
  [[nodiscard]] uint64_t trace_data_bytes() const {
    return uint64_t{kTraceRings} * trace_ring_bytes_;
  }
  [[nodiscard]] uint64_t bytes() const { return trace_data_at() + trace_data_bytes(); }

  void table(format::TableId id, uint32_t row_bytes, uint64_t rows, uint64_t offset) {
    format::TableDirectory& directory = header()->tables[static_cast<size_t>(id)];
    directory.row_bytes = row_bytes;
    directory.first_rows = static_cast<uint32_t>(rows);
    directory.chunk_offset[0].store(offset);
    directory.used_rows.store(rows);
  }

  void fill_header(uint32_t pid) {
    format::DumpHeader* h = header();
    h->version = format::kDumpVersion;
    h->header_bytes = sizeof(format::DumpHeader);
    h->generation = 0x1234567890abcdef;
    h->pid = pid;
    h->start_time_clock_ticks = dumper::process_start_ticks(pid).value_or(0);
    h->realtime_start_ns = kStartRealtimeNs;
    h->ticks_are_ns = 1;
    h->clock_first = h->clock_last = {kStartTicks, kStartTicks};
    h->heap_rate_bytes = 1;
    h->profbuf_words = words_;
    h->file_bytes.store(bytes());
    table(format::TableId::kProfbufs, sizeof(format::ProfbufHead), kProfbufs, kHeadsAt);
    table(format::TableId::kBuckets, sizeof(format::BucketRow), kBuckets, kBucketsAt);
    table(format::TableId::kCounts, sizeof(format::CountRow), kCounts, kCountsAt);
    table(format::TableId::kThreads, sizeof(format::ThreadRow), kThreads, kThreadsAt);
    table(format::TableId::kProfbufData, 1, data_bytes(), kDataAt);
    h->trace_ring_bytes = trace_ring_bytes_;
    if (trace_ring_bytes_ != 0) {
      table(format::TableId::kTraceRings, sizeof(format::ProfbufHead), kTraceRings,
            trace_heads_at());
      table(format::TableId::kTraceData, 1, trace_data_bytes(), trace_data_at());
      h->trace_sessions.store(1);
    }
    for (uint32_t row = 0; row < kBuckets; ++row)
      bucket(row)->kind.store(static_cast<uint32_t>(format::BucketKind::kHeap));
    for (uint32_t row = 0; row < kCounts; ++row) {
      count(row)->labels = format::kNoRow;  // published by counted()
    }
    for (uint32_t row = 0; row < kThreads; ++row) thread(row)->tid.store(row + 1);
    h->magic = format::kDumpMagic;
  }

  std::string path_;
  uint32_t words_;
  uint32_t trace_ring_bytes_;
  char* base_ = nullptr;
  std::vector<format::ProfbufWriter> writers_;
  std::vector<format::TraceWriter> trace_writers_;
};

}  // namespace mprof::testing
