// SPDX-License-Identifier: Apache-2.0
// A dump written row by row through the headers of format/, in a file that lives in memory only.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/elf_file.h"
#include "dumper/find_dump.h"
#include "format/bucket.h"
#include "format/count_bucket.h"
#include "format/dump.h"
#include "format/label_table.h"
#include "format/live_table.h"
#include "format/module_table.h"
#include "format/profbuf.h"
#include "format/stack_table.h"
#include "format/thread_table.h"
#include "format/trace_writer.h"

namespace mprof::testing {

class DumpImage {
 public:
  static constexpr uint32_t kProfbufWords = 64;
  static constexpr uint32_t kTraceRingBytes = 2 * format::kTraceBlockBytes;

  // Each table has two chunks, so that rows cross from one to the other.
  explicit DumpImage(uint32_t pid = 0) {
    fd_ = memfd_create("dump", MFD_CLOEXEC);
    if (fd_ < 0 || ftruncate(fd_, kMaxBytes) != 0) throw std::runtime_error("memfd");
    void* place = mmap(nullptr, kMaxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (place == MAP_FAILED) throw std::runtime_error("mmap");
    base_ = static_cast<std::byte*>(place);
    fill_header(pid);
    lay_out_tables();
    resize(end_);
    for (uint32_t root = 0; root < format::kStackRoots; ++root) claim(format::TableId::kStackNodes);
  }
  DumpImage(const DumpImage&) = delete;
  DumpImage& operator=(const DumpImage&) = delete;
  ~DumpImage() {
    munmap(base_, kMaxBytes);
    close(fd_);
  }

  [[nodiscard]] format::DumpHeader& header() {
    return *reinterpret_cast<format::DumpHeader*>(base_);
  }
  [[nodiscard]] std::byte* bytes() { return base_; }
  [[nodiscard]] uint64_t size_bytes() const { return size_; }
  void resize(uint64_t bytes) {
    if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) throw std::runtime_error("ftruncate");
    size_ = bytes;
  }
  // A descriptor of its own for a reader.
  [[nodiscard]] int duplicate() const { return dup(fd_); }

  [[nodiscard]] format::TableDirectory& directory(format::TableId table) {
    return header().tables[static_cast<size_t>(table)];
  }
  template <class Row>
  [[nodiscard]] Row& row(format::TableId table, uint32_t number) {
    format::TableDirectory& d = directory(table);
    const format::RowPlace at = format::place_of_row(d.first_rows, number);
    return *reinterpret_cast<Row*>(base_ + d.chunk_offset[at.chunk].load() +
                                   at.row_in_chunk * d.row_bytes);
  }
  uint32_t claim(format::TableId table, uint32_t count = 1) {
    return static_cast<uint32_t>(directory(table).used_rows.fetch_add(count));
  }

  // Room for twice as many rows.
  void add_chunk(format::TableId table) {
    format::TableDirectory& d = directory(table);
    uint32_t chunk = 0;
    while (d.chunk_offset[chunk].load() != 0) ++chunk;
    d.chunk_offset[chunk].store(end_);
    end_ += (format::chunk_rows(d.first_rows, chunk) * d.row_bytes + format::kCacheLine - 1) /
            format::kCacheLine * format::kCacheLine;
    resize(end_);
  }

  uint32_t add_string(std::string_view text) {
    const uint32_t at = claim(format::TableId::kStrings, static_cast<uint32_t>(text.size()));
    memcpy(&row<char>(format::TableId::kStrings, at), text.data(), text.size());
    return at;
  }
  uint32_t add_module(std::string_view path, uint64_t start, uint64_t end) {
    const uint32_t number = claim(format::TableId::kModules);
    auto& module = row<format::ModuleRow>(format::TableId::kModules, number);
    module.path = add_string(path);
    module.path_bytes = static_cast<uint32_t>(path.size());
    module.end = end;
    module.load_bias = start;
    module.text_start = start + 0x1000;
    module.text_end = end;
    module.text_offset = 0x1000;
    module.build_id_bytes = 4;
    memcpy(module.build_id, "\xde\xad\xbe\xef", 4);
    module.start.store(start, std::memory_order_release);
    return number;
  }
  uint32_t add_node(uint32_t parent, uint64_t pc, uint32_t module) {
    const uint32_t number = claim(format::TableId::kStackNodes);
    auto& node = row<format::StackNode>(format::TableId::kStackNodes, number);
    node.pc = pc;
    node.parent = parent;
    node.module = module;
    return number;
  }
  uint32_t add_label(std::string_view key, std::string_view value, uint32_t parent) {
    return add_typed_label(key, format::LabelType::kText, add_string(value),
                           static_cast<uint32_t>(value.size()), parent);
  }
  uint32_t add_address_label(std::string_view key, uint64_t address, uint32_t module,
                             uint32_t parent) {
    return add_typed_label(key, format::LabelType::kAddress, address, module, parent);
  }
  uint32_t add_stack_label(std::string_view key, uint32_t stack, uint32_t parent) {
    return add_typed_label(key, format::LabelType::kStack, stack, 0, parent);
  }
  uint32_t add_typed_label(std::string_view key, format::LabelType type, uint64_t value,
                           uint32_t extra, uint32_t parent) {
    const uint32_t number = claim(format::TableId::kLabels);
    auto& label = label_at(number);
    label.key = add_string(key);
    label.type = type;
    label.value = value;
    label.extra = extra;
    label.parent = parent;
    label.key_bytes.store(static_cast<uint32_t>(key.size()), std::memory_order_release);
    return number;
  }
  [[nodiscard]] format::LabelRow& label_at(uint32_t number) {
    return row<format::LabelRow>(format::TableId::kLabels, number);
  }
  uint32_t add_count(format::CountKind kind, uint32_t stack, const format::CountTotals& totals,
                     uint32_t labels = format::kNoRow) {
    const uint32_t number = claim(format::TableId::kCounts);
    format::CountRow& count = count_at(number);
    count.stack = stack;
    count.labels = labels;
    count.totals[0] = totals;
    count.kind.store(static_cast<uint32_t>(kind), std::memory_order_release);
    return number;
  }
  [[nodiscard]] format::CountRow& count_at(uint32_t number) {
    return row<format::CountRow>(format::TableId::kCounts, number);
  }
  uint32_t add_bucket(uint32_t stack, const format::HeapTotals& totals,
                      uint32_t labels = format::kNoRow,
                      format::BucketKind kind = format::BucketKind::kHeap) {
    const uint32_t number = claim(format::TableId::kBuckets);
    format::BucketRow& bucket = bucket_at(number);
    bucket.stack = stack;
    bucket.labels = labels;
    bucket.totals[0] = totals;
    bucket.kind.store(static_cast<uint32_t>(kind), std::memory_order_release);
    return number;
  }
  [[nodiscard]] format::BucketRow& bucket_at(uint32_t number) {
    return row<format::BucketRow>(format::TableId::kBuckets, number);
  }
  uint32_t add_thread(uint32_t tid) {
    const uint32_t number = claim(format::TableId::kThreads);
    auto& thread = row<format::ThreadRow>(format::TableId::kThreads, number);
    strcpy(thread.name, "worker");
    thread.samples.store(10);
    thread.truncated_stacks.store(1);
    thread.tid.store(tid, std::memory_order_release);
    return number;
  }
  uint32_t add_custom(std::string_view name) {
    const uint32_t number = claim(format::TableId::kCustoms);
    auto& custom = custom_at(number);
    custom.name = add_string(name);
    custom.name_bytes.store(static_cast<uint32_t>(name.size()), std::memory_order_release);
    return number;
  }
  [[nodiscard]] format::CustomRow& custom_at(uint32_t number) {
    return row<format::CustomRow>(format::TableId::kCustoms, number);
  }
  // One with records in it.
  uint32_t add_trace_ring(uint32_t thread) {
    const uint32_t first = claim(format::TableId::kTraceData, kTraceRingBytes);
    const uint32_t number = claim(format::TableId::kTraceRings);
    format::TraceWriter writer(&row<format::ProfbufHead>(format::TableId::kTraceRings, number),
                               &row<uint8_t>(format::TableId::kTraceData, first), kTraceRingBytes,
                               thread);
    for (uint64_t i = 0; i < 20; ++i)
      writer.write({format::TraceKind::kRelease, 2'000'000 + i, 1, 3, {0, 0x1f010 + i}});
    return number;
  }
  uint32_t add_profbuf() {
    claim(format::TableId::kProfbufData, kProfbufWords * sizeof(uint64_t));
    return claim(format::TableId::kProfbufs);
  }

 private:
  static constexpr off_t kMaxBytes = 1 << 20;

  void fill_header(uint32_t pid) {
    format::DumpHeader& h = header();
    h.magic = format::kDumpMagic;
    h.version = format::kDumpVersion;
    h.header_bytes = sizeof h;
    h.pid = pid;
    h.start_time_clock_ticks = dumper::process_start_ticks(pid).value_or(0);
    h.realtime_start_ns = 1'700'000'000'000'000'000;
    h.ticks_are_ns = 1;
    h.clock_first = h.clock_last = {1'000'000, 1'000'000};
    h.heap_rate_bytes = 524288;
    h.block_rate_ns = 100000;
    h.mutex_fraction = 1024;
    h.stack_depth_frames = 64;
    h.profbuf_words = kProfbufWords;
    h.trace_ring_bytes = kTraceRingBytes;
    strcpy(h.executable, "/bin/program");
    memcpy(h.command_line, "program\0-x\0a b", sizeof "program\0-x\0a b");
  }

  void lay_out_tables() {
    constexpr std::array<uint32_t, format::kTables> kRowBytes = {sizeof(format::StackNode),
                                                                 sizeof(format::BucketRow),
                                                                 sizeof(format::CountRow),
                                                                 sizeof(format::LiveRow),
                                                                 sizeof(format::ThreadRow),
                                                                 sizeof(format::ModuleRow),
                                                                 sizeof(format::LabelRow),
                                                                 1,
                                                                 sizeof(format::CustomRow),
                                                                 sizeof(format::ProfbufHead),
                                                                 1,
                                                                 sizeof(format::ProfbufHead),
                                                                 1};
    constexpr std::array<uint32_t, format::kTables> kRows = {8,
                                                             4,
                                                             4,
                                                             8,
                                                             4,
                                                             4,
                                                             4,
                                                             256,
                                                             4,
                                                             2,
                                                             2 * kProfbufWords * sizeof(uint64_t),
                                                             2,
                                                             2 * kTraceRingBytes};
    for (uint32_t chunk = 0; chunk < 2; ++chunk)
      for (size_t t = 0; t < format::kTables; ++t) {
        format::TableDirectory& d = header().tables[t];
        d.row_bytes = kRowBytes[t];
        d.first_rows = kRows[t];
        d.chunk_offset[chunk].store(end_);
        end_ += (format::chunk_rows(kRows[t], chunk) * kRowBytes[t] + format::kCacheLine - 1) /
                format::kCacheLine * format::kCacheLine;
      }
  }

  int fd_ = -1;
  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  uint64_t end_ = format::kHeaderBytes;
};

// The one of the file, without which no symbols are taken from it.
inline void set_build_id(format::ModuleRow& module, const std::string& path) {
  dumper::FileProblem problem;
  const auto file = dumper::ElfFile::open(path, problem);
  if (file == nullptr) throw std::runtime_error("not an ELF file: " + path);
  const std::string& hex = file->build_id_hex();
  module.build_id_bytes = static_cast<uint32_t>(hex.size() / 2);
  for (size_t i = 0; i < module.build_id_bytes; ++i)
    module.build_id[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
}

// Totals of `allocated` blocks of `size` bytes, of which `freed` were freed.
inline format::HeapTotals heap_totals(double allocated, double freed, uint64_t size) {
  format::HeapTotals t{};
  t.alloc_objects = static_cast<uint64_t>(allocated * 65536);
  t.free_objects = static_cast<uint64_t>(freed * 65536);
  t.alloc_bytes = static_cast<uint64_t>(allocated * static_cast<double>(size));
  t.free_bytes = static_cast<uint64_t>(freed * static_cast<double>(size));
  t.alloc_samples = 1;
  t.free_samples = freed > 0 ? 1 : 0;
  return t;
}

// `count` events of `ticks` each, of which each sample stands for `weight`.
inline format::CountTotals count_totals(uint64_t samples, uint64_t ticks, double weight = 1) {
  format::CountTotals totals{};
  const auto fixed_point = static_cast<uint64_t>(weight * 65536);
  for (uint64_t i = 0; i < samples; ++i) format::add_to(totals, {ticks, fixed_point});
  return totals;
}

inline format::CountKind custom_kind(uint32_t row) {
  return static_cast<format::CountKind>(static_cast<uint32_t>(format::CountKind::kFirstCustom) +
                                        row);
}

// Something in every table, and more rows than the first chunk has.
inline void fill_with_sample_content(DumpImage& image) {
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t library = image.add_module("/lib/libx.so", 0x50000, 0x60000);
  uint32_t node = format::kStackComplete;
  for (uint32_t depth = 0; depth < 10; ++depth)
    node = image.add_node(node, 0x11001 + depth * 16, depth < 5 ? program : library);
  const uint32_t labels = image.add_label("tenant", "t1", format::kNoRow);
  image.add_bucket(node, heap_totals(3, 1, 100));
  image.add_bucket(node, heap_totals(5, 0, 8), labels);
  image.add_bucket(image.add_node(format::kStackTruncated, 0x51001, library), heap_totals(7, 7, 1));
  image.add_bucket(image.add_node(format::kStackIncomplete, 0x11001, program),
                   heap_totals(1, 0, 4096), format::kNoRow, format::BucketKind::kMmap);
  image.add_bucket(node, heap_totals(2, 0, 10));
  const uint32_t wait = image.add_label("wait", "mutex", format::kNoRow);
  const uint32_t lock = image.add_address_label("lock", 0x1f010, program, wait);
  const uint32_t victim = image.add_stack_label("victim", node, lock);
  image.add_count(format::CountKind::kBlock, node, count_totals(3, 50'000, 2), lock);
  image.add_count(format::CountKind::kBlock, node, count_totals(1, 7'000'000), lock);
  image.add_count(format::CountKind::kMutex, node, count_totals(2, 80'000), victim);
  image.add_count(format::CountKind::kThreadCreate, format::kNoRow, count_totals(1, 0));
  image.add_count(format::CountKind::kThreadCreate, node, count_totals(2, 0),
                  image.add_address_label("start", 0x11500, program, format::kNoRow));
  image.add_count(format::CountKind::kCpu, node, count_totals(4, 10'000'000), labels);
  image.add_count(custom_kind(image.add_custom("program/files")), node, count_totals(3, 0));
  const uint32_t thread = image.add_thread(4711);
  image.row<format::ThreadRow>(format::TableId::kThreads, thread).cpu_samples = 5;
  image.row<format::ThreadRow>(format::TableId::kThreads, thread).cpu_in_mprof_ns = 10'000'000;
  image.header().cpu_hz = 100;
  image.header().cpu_profiled_ticks = 2'000'000'000;
  image.header().cpu_used_ns = 60'000'000;
  image.row<format::ThreadRow>(format::TableId::kThreads, thread).creation = 5;
  image.add_profbuf();
  image.add_trace_ring(thread);
  image.header().trace_sessions = 1;
}

}  // namespace mprof::testing
