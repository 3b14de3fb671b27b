// SPDX-License-Identifier: Apache-2.0
#include "dumper/dump_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <map>
#include <system_error>
#include <type_traits>
#include <utility>

#include "dumper/file_mapping.h"
#include "dumper/find_dump.h"

namespace mprof::dumper {
namespace {

using format::BucketRow;
using format::CountRow;
using format::DumpHeader;
using format::kMaxChunks;
using format::kNoRow;
using format::kTables;
using format::TableDirectory;
using format::TableId;

// A sparse file can claim any size; this much address space is reserved at most.
constexpr uint64_t kMaxDumpBytes = uint64_t{1} << 36;
constexpr uint32_t kMaxTextBytes = 1u << 16;
constexpr size_t kMaxDamageLines = 64;
// The target keeps 256 frames and adds a few of its own.
constexpr size_t kMaxStackSteps = 512;
constexpr size_t kMaxLabelSteps = 1024;
constexpr size_t kMaxLabels = 64;  // of one set; the library gives it 16 and some of its own
constexpr uint32_t kMaxPathBytes = 4096;
constexpr int kLiveTries = 200;
constexpr useconds_t kRetryPauseUs = 50;

constexpr std::array<const char*, kTables> kTableNames = {
    "stack",  "bucket", "count",   "live",         "thread",     "module",    "label",
    "string", "custom", "profbuf", "profbuf data", "trace ring", "trace data"};
static_assert(kTableNames.back() != nullptr);

struct FileDescriptor {
  int fd = -1;
  ~FileDescriptor() {
    if (fd >= 0) close(fd);
  }
};

constexpr size_t index_of(TableId table) { return static_cast<size_t>(table); }

uint32_t expected_row_bytes(TableId table, uint32_t profbuf_words) {
  switch (table) {
    case TableId::kStackNodes: return sizeof(format::StackNode);
    case TableId::kBuckets: return sizeof(BucketRow);
    case TableId::kCounts: return sizeof(CountRow);
    case TableId::kLive: return sizeof(format::LiveRow);
    case TableId::kThreads: return sizeof(format::ThreadRow);
    case TableId::kModules: return sizeof(format::ModuleRow);
    case TableId::kLabels: return sizeof(format::LabelRow);
    case TableId::kCustoms: return sizeof(format::CustomRow);
    case TableId::kStrings: return 1;
    case TableId::kProfbufs: return sizeof(format::ProfbufHead);
    case TableId::kProfbufData: return profbuf_words == 0 ? 0 : 1;
    case TableId::kTraceRings: return sizeof(format::ProfbufHead);
    case TableId::kTraceData: return 1;
    default: return 0;
  }
}

// Copies words that another process may be writing.
template <class T>
T copy_words(const T& source) {
  static_assert(sizeof(T) % sizeof(uint64_t) == 0 && std::is_trivially_copyable_v<T>);
  std::array<uint64_t, sizeof(T) / sizeof(uint64_t)> words;
  const auto* from = reinterpret_cast<const uint64_t*>(&source);
  for (size_t i = 0; i < words.size(); ++i) words[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
  return std::bit_cast<T>(words);
}

template <class T>
T copy_once(const T& source) {
  return __atomic_load_n(&source, __ATOMIC_RELAXED);
}

format::LabelType copy_once(const format::LabelType& source) {
  const auto* number = reinterpret_cast<const std::underlying_type_t<format::LabelType>*>(&source);
  return static_cast<format::LabelType>(__atomic_load_n(number, __ATOMIC_RELAXED));
}

template <class T>
T relaxed(const std::atomic<T>& source) {
  return source.load(std::memory_order_relaxed);
}

std::string hex(const uint8_t* bytes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

std::string fixed_text(const char* bytes, size_t capacity) {
  return {bytes, strnlen(bytes, capacity)};
}

uint64_t realtime_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// What is left of a TableDirectory after it was checked.
struct CheckedTable {
  uint32_t row_bytes = 0;
  uint32_t first_rows = 0;
  uint64_t claimed = 0;
  uint64_t rows = 0;
  uint64_t capacity = 0;
  std::array<uint64_t, kMaxChunks> offset{};
};

struct RawTable {
  uint32_t row_bytes;
  uint32_t first_rows;
  uint64_t used;
  std::array<uint64_t, kMaxChunks> offset;
};

RawTable copy_directory(const TableDirectory& directory) {
  RawTable raw{};
  raw.row_bytes = copy_once(directory.row_bytes);
  raw.first_rows = copy_once(directory.first_rows);
  // Before the chunks: a row is only claimed in a chunk that is there.
  raw.used = directory.used_rows.load(std::memory_order_acquire);
  for (size_t c = 0; c < kMaxChunks; ++c)
    raw.offset[c] = directory.chunk_offset[c].load(std::memory_order_acquire);
  return raw;
}

}  // namespace

struct Dump::State {
  FileDescriptor file;
  std::string path;
  bool writable = false;
  bool running = false;
  uint64_t file_bytes = 0;
  uint64_t disk_bytes = 0;
  dev_t device = 0;
  ino_t inode = 0;
  uint32_t profbuf_words = 0;
  uint32_t trace_ring_bytes = 0;
  FileMapping mapping;
  FileMapping control_window;
  // Profbuf heads by the offset of their chunk. Kept until the end: the drainer holds pointers.
  std::map<uint64_t, FileMapping> head_windows;
  std::array<CheckedTable, kTables> tables;
  std::vector<std::string> damage;

  [[nodiscard]] const DumpHeader& header() const {
    return *reinterpret_cast<const DumpHeader*>(mapping.data());
  }

  void look_at_file() {
    struct stat status {};
    if (fstat(file.fd, &status) != 0) throw DumpError(fmt::format("{}: {}", path, strerror(errno)));
    if (!S_ISREG(status.st_mode))
      throw DumpError(fmt::format("{}: not a regular file, so not a dump", path));
    file_bytes = std::min<uint64_t>(static_cast<uint64_t>(status.st_size), kMaxDumpBytes);
    disk_bytes = static_cast<uint64_t>(status.st_blocks) * 512;
    device = status.st_dev;
    inode = status.st_ino;
  }

  // Far beyond the end of the file, so that a dump that grows keeps its addresses; less where
  // the address space is limited.
  void map_file() {
    for (uint64_t bytes = kMaxDumpBytes;; bytes /= 2) {
      try {
        mapping = FileMapping(file.fd, 0, std::max(bytes, file_bytes), false);
        return;
      } catch (const std::system_error& error) {
        if (bytes <= file_bytes)
          throw DumpError(fmt::format("{}: cannot be mapped: {}", path, error.what()));
      }
    }
  }

  void note(std::string line) {
    if (damage.size() > kMaxDamageLines) return;
    if (damage.size() == kMaxDamageLines) line = "and more";
    if (std::find(damage.begin(), damage.end(), line) == damage.end())
      damage.push_back(std::move(line));
  }

  void note_torn(const char* table, uint32_t row) {
    note(fmt::format("{} table: row {} changed during each of {} attempts to copy it", table, row,
                     kLiveTries));
  }

  void check_header() {
    if (file_bytes == 0) throw DumpError(fmt::format("{}: empty, not a dump", path));
    if (file_bytes >= sizeof(uint64_t) && header().magic == 0)
      throw DumpError(fmt::format(
          "{}: an unfinished dump: the target has not got, or never got, beyond creating it",
          path));
    if (file_bytes < sizeof(uint64_t) || header().magic != format::kDumpMagic)
      throw DumpError(
          fmt::format("{}: not a dump: it does not begin with the bytes \\x89mpdump\\n", path));
    if (file_bytes >= offsetof(DumpHeader, generation) && header().version != format::kDumpVersion)
      throw DumpError(fmt::format(
          "{}: dump version {}, this mprof reads version {}; use the mprof that was installed "
          "with the libmprof.so that wrote it",
          path, header().version, format::kDumpVersion));
    if (file_bytes < sizeof(DumpHeader))
      throw DumpError(fmt::format("{}: cut off at byte {}, inside the header of {} bytes", path,
                                  file_bytes, sizeof(DumpHeader)));
    if (header().header_bytes != sizeof(DumpHeader))
      throw DumpError(fmt::format("{}: header of {} bytes at offset 12, expected {}", path,
                                  header().header_bytes, sizeof(DumpHeader)));
    profbuf_words = checked_size(header().profbuf_words, 1, "profbufs of {} words");
    trace_ring_bytes = checked_size(header().trace_ring_bytes, format::kTraceBlockBytes,
                                    "trace rings of {} bytes");
  }

  // 0: there are none, or not of that size.
  uint32_t checked_size(uint32_t size, uint64_t least, const char* what) {
    if (std::has_single_bit(size) && size >= least && size <= 1u << 28) return size;
    if (size != 0)
      note("header: " + fmt::format(fmt::runtime(what), size) + ", not a power of two");
    return 0;
  }

  void load_tables() {
    std::array<RawTable, kTables> raw;
    for (size_t t = 0; t < kTables; ++t) raw[t] = copy_directory(header().tables[t]);
    // After the directories: what they name is in the file by now.
    look_at_file();
    for (size_t t = 0; t < kTables; ++t) tables[t] = check_table(static_cast<TableId>(t), raw[t]);
  }

  CheckedTable check_table(TableId id, const RawTable& raw) {
    CheckedTable table;
    table.claimed = raw.used;
    const char* name = kTableNames[index_of(id)];
    if (raw.used == 0 && raw.offset[0] == 0) return table;
    const uint32_t row_bytes = expected_row_bytes(id, profbuf_words);
    if (row_bytes == 0) return table;  // profbufs are off, or check_header() has said why
    if (raw.row_bytes != row_bytes) {
      note(fmt::format("{} table: rows of {} bytes, expected {}; table left out", name,
                       raw.row_bytes, row_bytes));
      return table;
    }
    if (!std::has_single_bit(raw.first_rows)) {
      note(fmt::format("{} table: first chunk of {} rows, not a power of two; table left out", name,
                       raw.first_rows));
      return table;
    }
    table.row_bytes = raw.row_bytes;
    table.first_rows = raw.first_rows;
    add_chunks(table, raw, name);
    table.rows = std::min({raw.used, table.capacity, uint64_t{kNoRow}});
    if (table.rows < raw.used)
      note(fmt::format("{} table: {} rows used, {} of them are in the file of {} bytes", name,
                       raw.used, table.rows, file_bytes));
    return table;
  }

  // Chunks up to the first one that is missing or cut: row numbers have no holes.
  void add_chunks(CheckedTable& table, const RawTable& raw, const char* name) {
    for (uint32_t c = 0; c < kMaxChunks && raw.offset[c] != 0; ++c) {
      const uint64_t offset = raw.offset[c];
      if (offset % format::kCacheLine != 0 || offset < sizeof(DumpHeader) ||
          offset >= std::min(file_bytes, mapping.bytes())) {
        // The clean end may cut chunks off that were never used.
        if (raw.used > table.capacity)
          note(
              fmt::format("{} table: chunk {} at offset {} is misaligned or outside the file of "
                          "{} bytes",
                          name, c, offset, file_bytes));
        return;
      }
      const uint64_t wanted = format::chunk_rows(table.first_rows, c);
      const uint64_t room = (std::min(file_bytes, mapping.bytes()) - offset) / table.row_bytes;
      table.offset[c] = offset;
      table.capacity += std::min(wanted, room);
      if (room < wanted) return;  // the clean end cuts the file behind the last used row
    }
  }

  [[nodiscard]] uint64_t place(TableId id, uint64_t row) const {
    const CheckedTable& table = tables[index_of(id)];
    if (row >= table.rows) return 0;
    const format::RowPlace at = format::place_of_row(table.first_rows, row);
    return table.offset[at.chunk] + at.row_in_chunk * table.row_bytes;
  }

  template <class Row>
  [[nodiscard]] const Row* row(TableId id, uint64_t number) const {
    const uint64_t offset = place(id, number);
    return offset == 0 ? nullptr : reinterpret_cast<const Row*>(mapping.data() + offset);
  }

  // Of the rings whose heads are in `head_table`, and `ring_bytes` of each in `data_table`.
  format::ProfbufHead* ring_head(TableId head_table, TableId data_table, uint32_t number,
                                 uint64_t ring_bytes) {
    // The data table counts in bytes; a chunk holds whole rings.
    const CheckedTable& data = tables[index_of(data_table)];
    const bool is_there = ring_bytes != 0 && number < tables[index_of(head_table)].rows &&
                          data.first_rows % ring_bytes == 0 &&
                          (uint64_t{number} + 1) * ring_bytes <= data.rows;
    return is_there ? head_in(tables[index_of(head_table)], number) : nullptr;
  }

  format::ProfbufHead* head_in(const CheckedTable& table, uint32_t number) {
    const format::RowPlace at = format::place_of_row(table.first_rows, number);
    const uint64_t chunk_offset = table.offset[at.chunk];
    const uint64_t in_chunk = at.row_in_chunk * table.row_bytes;
    if (!writable)
      return reinterpret_cast<format::ProfbufHead*>(mapping.data() + chunk_offset + in_chunk);
    const uint64_t page_offset = chunk_offset & ~(format::kPageBytes - 1);
    const uint64_t lead = chunk_offset - page_offset;
    auto window = head_windows.find(chunk_offset);
    if (window == head_windows.end()) {
      const uint64_t bytes =
          lead + format::chunk_rows(table.first_rows, at.chunk) * table.row_bytes;
      window =
          head_windows
              .emplace(chunk_offset, FileMapping(file.fd, page_offset,
                                                 std::min(bytes, file_bytes - page_offset), true))
              .first;
    }
    if (lead + in_chunk + table.row_bytes > window->second.bytes()) return nullptr;
    return reinterpret_cast<format::ProfbufHead*>(window->second.data() + lead + in_chunk);
  }
};

namespace {

// One attempt to copy a bucket whole; see format/bucket.h for the protocol.
enum class Attempt { kDone, kSavedBusy, kTorn };

Attempt try_copy(const BucketRow& row, BucketCopy& copy) {
  const uint64_t saved = row.saved_version.load(std::memory_order_acquire);  // (W)
  const uint32_t version = row.version.load(std::memory_order_acquire);      // (V)
  copy.totals = copy_words(row.totals[version & 1]);
  copy.peak_epoch = relaxed(row.peak_epoch);
  copy.cut_epoch = relaxed(row.cut_epoch);
  copy.at_cut = copy_words(row.at_cut);
  copy.at_peak = copy_words(row.at_peak);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (relaxed(row.version) != version || relaxed(row.saved_version) != saved) return Attempt::kTorn;
  return saved % 2 == 0 ? Attempt::kDone : Attempt::kSavedBusy;
}

Attempt try_copy(const CountRow& row, CountCopy& copy) {
  const uint32_t version = row.version.load(std::memory_order_acquire);  // (V)
  copy.totals = copy_words(row.totals[version & 1]);
  std::atomic_thread_fence(std::memory_order_acquire);
  return relaxed(row.version) == version ? Attempt::kDone : Attempt::kTorn;
}

// A dead target changes nothing any more, so a second look at it is useless.
template <class Row, class Copy>
Attempt copy_totals(const Row& row, Copy& copy, bool running) {
  Attempt attempt = try_copy(row, copy);
  for (int i = 0; i < kLiveTries && attempt != Attempt::kDone && running; ++i) {
    usleep(kRetryPauseUs);
    attempt = try_copy(row, copy);
  }
  return attempt;
}

bool is_bucket_kind(uint32_t kind) {
  return kind == static_cast<uint32_t>(format::BucketKind::kHeap) ||
         kind == static_cast<uint32_t>(format::BucketKind::kMmap);
}

bool is_count_kind(uint32_t kind, uint64_t customs) {
  constexpr auto kFirstCustom = static_cast<uint32_t>(format::CountKind::kFirstCustom);
  if (kind >= kFirstCustom) return kind - kFirstCustom < customs;
  return kind >= static_cast<uint32_t>(format::CountKind::kBlock) &&
         kind <= static_cast<uint32_t>(format::CountKind::kCpu);
}

}  // namespace

Dump::Dump(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dump::Dump(Dump&&) noexcept = default;
Dump& Dump::operator=(Dump&&) noexcept = default;
Dump::~Dump() = default;

Dump Dump::open(const std::string& path, Access access) {
  // Without O_NONBLOCK a fifo would block here for ever.
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int fd = -1;
  if (access == Access::kWrite) fd = ::open(path.c_str(), O_RDWR | kFlags);
  const bool writable = fd >= 0;
  if (fd < 0) fd = ::open(path.c_str(), O_RDONLY | kFlags);
  if (fd < 0) throw DumpError(fmt::format("{}: {}", path, strerror(errno)));
  return from_fd(fd, path, writable);
}

Dump Dump::from_fd(int fd, const std::string& name, bool writable) {
  auto state = std::make_unique<State>();
  state->file.fd = fd;
  state->path = name;
  state->writable = writable;
  state->look_at_file();
  if (state->file_bytes == 0) throw DumpError(fmt::format("{}: empty, not a dump", name));
  state->map_file();
  state->check_header();
  if (writable) state->control_window = FileMapping(fd, 0, sizeof(DumpHeader), true);
  Dump dump(std::move(state));
  dump.refresh();
  return dump;
}

void Dump::refresh() {
  state_->load_tables();
  state_->running = life() == Life::kRunning;
  if (state_->mapping.shrunk())
    state_->note("the file shrank while it was read; what was cut off reads as zeros");
}

const std::string& Dump::path() const { return state_->path; }
bool Dump::writable() const { return state_->writable; }
uint64_t Dump::file_bytes() const { return state_->file_bytes; }
uint64_t Dump::disk_bytes() const { return state_->disk_bytes; }
const DumpHeader& Dump::header() const { return state_->header(); }

std::string Dump::executable() const {
  return fixed_text(header().executable, sizeof(header().executable));
}

std::vector<std::string> Dump::command_line() const {
  const char* at = header().command_line;
  const char* end = at + sizeof(header().command_line);
  std::vector<std::string> arguments;
  while (at < end) {
    arguments.push_back(fixed_text(at, static_cast<size_t>(end - at)));
    at += arguments.back().size() + 1;
  }
  while (!arguments.empty() && arguments.back().empty()) arguments.pop_back();
  return arguments;
}

std::string Dump::allocator() const {
  const std::string name = text(header().allocator_name, 4096);
  return name.substr(0, name.find('\0'));
}

format::Control* Dump::control() const {
  if (!writable()) return nullptr;
  return &reinterpret_cast<DumpHeader*>(state_->control_window.data())->control;
}

Life Dump::life() const {
  const format::EndState end = header().end_state.load(std::memory_order_acquire);
  if (end == format::EndState::kSnapshot) return Life::kSnapshot;
  if (end == format::EndState::kClean) return Life::kEndedCleanly;
  const bool alive =
      is_process_of(copy_once(header().pid), copy_once(header().start_time_clock_ticks),
                    state_->device, state_->inode);
  return alive ? Life::kRunning : Life::kEndedWithoutCleanEnd;
}

TickClock Dump::clock() const { return TickClock(header()); }

uint64_t Dump::end_realtime_ns() const {
  const uint64_t now = realtime_now_ns();
  switch (life()) {
    case Life::kRunning: return now;
    case Life::kSnapshot:
    case Life::kEndedCleanly: return copy_once(header().end_realtime_ns);
    default: break;
  }
  const TickClock ticks = clock();
  uint64_t last = ticks.last_realtime_ns();
  for (uint64_t i = 0; i < rows(TableId::kLive); ++i) {
    const format::LiveRow* row = live_row(static_cast<uint32_t>(i));
    const uint64_t seen = ticks.realtime_ns(copy_once(row->ticks));
    if (relaxed(row->address) != 0 && seen < now) last = std::max(last, seen);
  }
  return last;
}

PeakMark Dump::peak_mark() const {
  const uint64_t epoch = header().peak_epoch.load(std::memory_order_acquire);
  return {epoch, epoch % 2 == 1};
}

uint64_t Dump::rows(TableId table) const { return state_->tables[index_of(table)].rows; }
uint64_t Dump::claimed_rows(TableId table) const { return state_->tables[index_of(table)].claimed; }
uint64_t Dump::capacity_rows(TableId table) const {
  return state_->tables[index_of(table)].capacity;
}

std::optional<BucketCopy> Dump::bucket(uint32_t number) const {
  const auto* row = state_->row<BucketRow>(TableId::kBuckets, number);
  if (row == nullptr) return std::nullopt;
  const uint32_t kind = row->kind.load(std::memory_order_acquire);
  if (kind == 0) return std::nullopt;
  if (!is_bucket_kind(kind)) {
    state_->note(fmt::format("bucket table: row {} is of unknown kind {}", number, kind));
    return std::nullopt;
  }
  BucketCopy copy;
  copy.kind = static_cast<format::BucketKind>(kind);
  copy.stack = copy_once(row->stack);
  copy.labels = copy_once(row->labels);
  // kSavedBusy: a writer that stopped amid saving. An epoch is stored behind its copy, so where it
  // fits, the copy is whole.
  if (copy_totals(*row, copy, state_->running) == Attempt::kTorn) {
    state_->note_torn("bucket", number);
    return std::nullopt;
  }
  return copy;
}

std::optional<CountCopy> Dump::count(uint32_t number) const {
  const auto* row = state_->row<CountRow>(TableId::kCounts, number);
  if (row == nullptr) return std::nullopt;
  const uint32_t kind = row->kind.load(std::memory_order_acquire);
  if (kind == 0) return std::nullopt;
  if (!is_count_kind(kind, rows(TableId::kCustoms))) {
    state_->note(fmt::format("count table: row {} is of unknown kind {}", number, kind));
    return std::nullopt;
  }
  CountCopy copy;
  copy.kind = static_cast<format::CountKind>(kind);
  copy.stack = copy_once(row->stack);
  copy.labels = copy_once(row->labels);
  if (copy_totals(*row, copy, state_->running) == Attempt::kTorn) {
    state_->note_torn("count", number);
    return std::nullopt;
  }
  return copy;
}

std::optional<ThreadCopy> Dump::thread(uint32_t number) const {
  const format::ThreadRow* row = thread_row(number);
  if (row == nullptr) return std::nullopt;
  ThreadCopy copy;
  copy.tid = row->tid.load(std::memory_order_acquire);
  if (copy.tid == 0) return std::nullopt;
  copy.profbuf = relaxed(row->profbuf) - 1;  // 0 = none becomes kNoRow
  copy.creation = copy_once(row->creation) - 1;
  copy.name = fixed_text(row->name, sizeof(row->name));
  copy.start_ticks = copy_once(row->start_ticks);
  copy.end_ticks = relaxed(row->end_ticks);
  copy.inside = row->inside.load(std::memory_order_acquire);
  copy.samples = relaxed(row->samples);
  copy.sampled_frees = relaxed(row->sampled_frees);
  copy.truncated_stacks = relaxed(row->truncated_stacks);
  copy.incomplete_stacks = relaxed(row->incomplete_stacks);
  copy.cost_ticks = relaxed(row->cost_ticks);
  copy.cost_measured = relaxed(row->cost_measured);
  copy.cpu_samples = relaxed(row->cpu_samples);
  copy.cpu_in_mprof_ns = relaxed(row->cpu_in_mprof_ns);
  return copy;
}

std::optional<ModuleCopy> Dump::module(uint32_t number) const {
  const auto* row = state_->row<format::ModuleRow>(TableId::kModules, number);
  if (row == nullptr) return std::nullopt;
  ModuleCopy copy;
  copy.start = row->start.load(std::memory_order_acquire);
  if (copy.start == 0) return std::nullopt;
  copy.end = copy_once(row->end);
  copy.load_bias = copy_once(row->load_bias);
  copy.text_start = copy_once(row->text_start);
  copy.text_end = copy_once(row->text_end);
  copy.text_offset = copy_once(row->text_offset);
  copy.unloaded_ticks = relaxed(row->unloaded_ticks);
  copy.path =
      text(copy_once(row->path), std::min(uint32_t{copy_once(row->path_bytes)}, kMaxPathBytes));
  const uint32_t id_bytes = copy_once(row->build_id_bytes);
  if (id_bytes > sizeof(row->build_id))
    state_->note(fmt::format("module table: row {} has a build id of {} bytes, {} at most", number,
                             id_bytes, sizeof(row->build_id)));
  else
    copy.build_id_hex = hex(row->build_id, id_bytes);
  return copy;
}

std::optional<std::string> Dump::custom(uint32_t number) const {
  const auto* row = state_->row<format::CustomRow>(TableId::kCustoms, number);
  if (row == nullptr) return std::nullopt;
  const uint32_t name_bytes = row->name_bytes.load(std::memory_order_acquire);
  if (name_bytes == 0) return std::nullopt;
  const uint32_t first = copy_once(row->name);
  std::string name = text(first, name_bytes);
  if (name.size() == name_bytes) return name;
  state_->note(
      fmt::format("custom table: row {} has a name of {} bytes at {}, which is not in the "
                  "string table; that profile is left out",
                  number, name_bytes, first));
  return std::nullopt;
}

StackCopy Dump::stack(uint32_t leaf) const {
  StackCopy copy;
  uint32_t at = leaf;
  while (at >= format::kStackRoots) {
    const auto* node = state_->row<format::StackNode>(TableId::kStackNodes, at);
    const uint32_t parent = node == nullptr ? kNoRow : copy_once(node->parent);
    if (parent >= at || copy.frames.size() >= kMaxStackSteps) {
      state_->note(fmt::format("stack table: the path from row {} breaks at row {}", leaf, at));
      copy.damaged = true;
      copy.root = format::kStackIncomplete;
      return copy;
    }
    copy.frames.push_back({copy_once(node->pc), copy_once(node->module)});
    at = parent;
  }
  copy.root = at;
  return copy;
}

std::optional<LabelCopy> Dump::label(uint32_t number, const format::LabelRow& row) const {
  const uint32_t key_bytes = row.key_bytes.load(std::memory_order_acquire);
  if (key_bytes == 0) return std::nullopt;
  LabelCopy label;
  label.key = text(copy_once(row.key), key_bytes);
  label.type = copy_once(row.type);
  const uint64_t value = copy_once(row.value);
  const uint32_t extra = copy_once(row.extra);
  const auto narrow = static_cast<uint32_t>(std::min(value, uint64_t{kNoRow}));
  switch (label.type) {
    case format::LabelType::kText: label.text = text(narrow, extra); return label;
    case format::LabelType::kStack: label.stack = narrow; return label;
    case format::LabelType::kAddress:
      label.address = value;
      label.module = extra;
      return label;
  }
  state_->note(fmt::format("label table: row {} is of unknown type {}", number,
                           static_cast<uint32_t>(label.type)));
  return std::nullopt;
}

std::vector<LabelCopy> Dump::labels(uint32_t set) const {
  std::vector<LabelCopy> found;
  for (size_t steps = 0; set != kNoRow; ++steps) {
    const auto* row = state_->row<format::LabelRow>(TableId::kLabels, set);
    const uint32_t parent = row == nullptr ? set : copy_once(row->parent);
    if ((parent >= set && parent != kNoRow) || row == nullptr || steps >= kMaxLabelSteps ||
        found.size() == kMaxLabels) {
      state_->note(fmt::format("label table: a label set breaks at row {}", set));
      break;
    }
    auto copy = label(set, *row);
    const bool newer = copy && std::any_of(found.begin(), found.end(),
                                           [&](const LabelCopy& l) { return l.key == copy->key; });
    if (copy && !newer) found.push_back(std::move(*copy));
    set = parent;
  }
  return found;
}

std::optional<ProfbufView> Dump::profbuf(uint32_t number) const {
  const uint64_t bytes = uint64_t{state_->profbuf_words} * sizeof(uint64_t);
  format::ProfbufHead* head =
      state_->ring_head(TableId::kProfbufs, TableId::kProfbufData, number, bytes);
  if (head == nullptr) return std::nullopt;
  const auto* words =
      state_->row<std::atomic<uint64_t>>(TableId::kProfbufData, uint64_t{number} * bytes);
  return ProfbufView{head, words, state_->profbuf_words};
}

std::optional<TraceRingView> Dump::trace_ring(uint32_t number) const {
  const uint64_t bytes = state_->trace_ring_bytes;
  format::ProfbufHead* head =
      state_->ring_head(TableId::kTraceRings, TableId::kTraceData, number, bytes);
  if (head == nullptr) return std::nullopt;
  return TraceRingView{head, state_->row<uint8_t>(TableId::kTraceData, uint64_t{number} * bytes),
                       bytes};
}

std::string Dump::text(uint32_t first, uint32_t bytes) const {
  const CheckedTable& table = state_->tables[index_of(TableId::kStrings)];
  const uint64_t offset = state_->place(TableId::kStrings, first);
  if (offset == 0) return {};
  // A string lies inside one chunk.
  const format::RowPlace at = format::place_of_row(table.first_rows, first);
  const uint64_t in_chunk = format::chunk_rows(table.first_rows, at.chunk) - at.row_in_chunk;
  const uint64_t count =
      std::min({uint64_t{bytes}, in_chunk, table.rows - first, uint64_t{kMaxTextBytes}});
  return {reinterpret_cast<const char*>(state_->mapping.data() + offset), count};
}

const format::ThreadRow* Dump::thread_row(uint32_t number) const {
  return state_->row<format::ThreadRow>(TableId::kThreads, number);
}

const format::LiveRow* Dump::live_row(uint32_t number) const {
  return state_->row<format::LiveRow>(TableId::kLive, number);
}

bool was_changed(const Dump& dump, format::ChangedSetting setting) {
  return (relaxed(dump.header().changed_settings) & setting) != 0;
}

const std::vector<std::string>& Dump::damage() const { return state_->damage; }
void Dump::add_damage(std::string line) const { state_->note(std::move(line)); }

}  // namespace mprof::dumper
