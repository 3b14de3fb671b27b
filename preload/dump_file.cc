// SPDX-License-Identifier: Apache-2.0
#include "preload/dump_file.h"

#include <linux/falloc.h>
#include <string.h>
#include <sys/auxv.h>

#include <algorithm>
#include <atomic>

#include "preload/clock.h"
#include "preload/low.h"
#include "preload/spin.h"
#include "preload/sys.h"

namespace mprof::preload {

constinit format::DumpHeader* header = nullptr;
constinit Tables tables;

namespace {

using format::kMaxChunks;
using format::kPageBytes;
using format::kTables;
using format::TableDirectory;
using format::TableId;

constexpr size_t kMaxPath = 1536;
char path[kMaxPath];
char first_folder[kMaxPath];  // where the program began: a forked child may be elsewhere
dev_t dump_device;
ino_t dump_inode;
std::atomic<bool> growing;
std::atomic<bool> ended;

// What the mapping of one chunk is, so that a forked child can drop it.
struct Mapped {
  void* memory;
  size_t bytes;
};
Mapped mapped[kTables * kMaxChunks + 1];
uint32_t mapped_count;

// A disk that stays full must not cost system calls all the time: after so many failures growth is
// tried once a second, for the disk may have room again.
constexpr uint64_t kMaxGrowthFailures = 16;
constexpr uint64_t kGrowthPauseNs = 1000000000;
std::atomic<uint64_t> growth_failed_ns;

bool is_growth_paused() {
  return header->mapped_growth_failures.load(std::memory_order_relaxed) >= kMaxGrowthFailures &&
         monotonic_ns() - growth_failed_ns.load(std::memory_order_relaxed) < kGrowthPauseNs;
}

void note_growth_failure() {
  growth_failed_ns.store(monotonic_ns(), std::memory_order_relaxed);
  header->mapped_growth_failures.fetch_add(1, std::memory_order_relaxed);
}

constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// First chunk of each table. Together about 1.6 MiB of file, of which a quiet program touches a
// fraction; with rate 1 profbufs are larger, see profbuf_words_for().
struct TableShape {
  uint32_t row_bytes;
  uint32_t first_rows;
};
constexpr TableShape kShapes[kTables] = {{sizeof(format::StackNode), 16384},
                                         {sizeof(format::BucketRow), 1024},
                                         {sizeof(format::CountRow), 1024},
                                         {sizeof(format::LiveRow), 4096},
                                         {sizeof(format::ThreadRow), 256},
                                         {sizeof(format::ModuleRow), 128},
                                         {sizeof(format::LabelRow), 256},
                                         {1, 65536},
                                         {sizeof(format::CustomRow), 512},
                                         {sizeof(format::ProfbufHead), 64},
                                         {1, 0 /* kFirstProfbufs of the chosen size */},
                                         {sizeof(format::ProfbufHead), 64},
                                         {1, 4 * format::kTraceRingBytes}};
constexpr uint32_t kFirstProfbufs = 4;

// Room for a second or so between two visits of the drainer at default rates; an exact profile
// makes tens of millions of words a second.
uint32_t profbuf_words_for(uint64_t heap_rate) {
  if (heap_rate == 0 || heap_rate >= 65536) return 2048;
  return heap_rate >= 512 ? 16384 : 131072;
}

TableShape shape_of(size_t table) {
  TableShape shape = kShapes[table];
  if (shape.first_rows == 0) shape.first_rows = header->profbuf_words * 8 * kFirstProfbufs;
  return shape;
}

size_t chunk_bytes(const TableDirectory& directory, uint32_t chunk) {
  return round_up(format::chunk_rows(directory.first_rows, chunk) * directory.row_bytes,
                  kPageBytes);
}

// The one list of tables: `use` is called with each one's id and the table.
template <class Use>
void for_each_table(Use&& use) {
  use(TableId::kStackNodes, tables.stack_nodes);
  use(TableId::kBuckets, tables.buckets);
  use(TableId::kCounts, tables.counts);
  use(TableId::kLive, tables.live);
  use(TableId::kThreads, tables.threads);
  use(TableId::kModules, tables.modules);
  use(TableId::kLabels, tables.labels);
  use(TableId::kStrings, tables.strings);
  use(TableId::kCustoms, tables.customs);
  use(TableId::kProfbufs, tables.profbufs);
  use(TableId::kProfbufData, tables.profbuf_data);
  use(TableId::kTraceRings, tables.trace_rings);
  use(TableId::kTraceData, tables.trace_data);
}

void attach(TableId id, uint32_t chunk, void* rows) {
  for_each_table([&](TableId each, auto& table) {
    if (each == id) table.attach(chunk, rows);
  });
}

TableDirectory& directory_of(TableId id) { return header->tables[static_cast<size_t>(id)]; }

void reset_tables() {
  for_each_table([](TableId id, auto& table) { table.reset(&directory_of(id)); });
}

const char zeros[kPageBytes] = {};

// For file systems without fallocate (NFS before 4.2, FUSE): writes the zeros.
int write_zeros(int fd, size_t offset, size_t bytes) {
  for (size_t done = 0; done < bytes; done += kPageBytes) {
    const long written = sys::pwrite(fd, zeros, kPageBytes, offset + done);
    if (written != static_cast<long>(kPageBytes))
      return written < 0 ? static_cast<int>(-written) : ENOSPC;
  }
  return 0;
}

// Reserves file space so that a full disk is an error here and never a SIGBUS at a store. Above
// RLIMIT_FSIZE the kernel would send SIGXFSZ, so that is asked first. The error number, or 0.
int reserve(int fd, size_t offset, size_t bytes) {
  rlimit limit;
  if (sys::getrlimit(RLIMIT_FSIZE, &limit) && offset + bytes > limit.rlim_cur) return EFBIG;
  int error = EINTR;  // given by tmpfs when a signal is pending
  for (int attempt = 0; error == EINTR && attempt < 100; ++attempt)
    error = -sys::fallocate(fd, 0, offset, bytes);
  return error == EOPNOTSUPP ? write_zeros(fd, offset, bytes) : error;
}

void* map_file(int fd, size_t offset, size_t bytes) {
  return sys::mmap(bytes, MAP_SHARED, fd, offset);
}

bool remember(void* memory, size_t bytes) {
  if (mapped_count == sizeof mapped / sizeof mapped[0]) return false;
  mapped[mapped_count++] = {memory, bytes};
  return true;
}

const char* base_name(const char* whole) {
  const char* slash = strrchr(whole, '/');
  return slash == nullptr ? whole : slash + 1;
}

// `pattern` with %e, %p and %% replaced, absolute, into `path`. `attempt` > 0 adds ".N".
bool build_path(const char* pattern, const char* executable, unsigned attempt) {
  Line out;
  if (*pattern != '/') {
    if (*first_folder == '\0' && !sys::getcwd(first_folder, sizeof first_folder)) return false;
    out << first_folder << "/";
  }
  for (; *pattern != '\0'; ++pattern) {
    const char one[2] = {*pattern, '\0'};
    if (*pattern != '%')
      out << one;
    else if (*++pattern == 'e')
      out << base_name(executable);
    else if (*pattern == 'p')
      out << static_cast<uint64_t>(sys::getpid());
    else
      out << "%";
  }
  if (attempt > 0) out << "." << attempt;
  if (out.size() + 1 > sizeof path) return false;
  memcpy(path, out.text(), out.size() + 1);
  return true;
}

// Why what has the name already cannot be an earlier dump, or a link that somebody laid: a folder
// or a device was meant, and a file beside it would be a surprise.
int why_not_beside() {
  struct stat status;
  const int fd = sys::open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return 0;
  const bool is_known = sys::fstat(fd, &status) == 0;
  sys::close(fd);
  if (!is_known || S_ISREG(status.st_mode) || S_ISLNK(status.st_mode)) return 0;
  return S_ISDIR(status.st_mode) ? -EISDIR : -EEXIST;
}

// exec keeps the pid, so the program's second life meets the first one's file: the next free
// name is taken, and nothing is ever overwritten.
int open_new_file(const char* pattern, const char* executable) {
  for (unsigned attempt = 0; attempt < 100; ++attempt) {
    if (!build_path(pattern, executable, attempt)) return -ENAMETOOLONG;
    const int fd = sys::open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd != -EEXIST) return fd;
    if (const int error = why_not_beside(); error != 0) return error;
  }
  return -EEXIST;
}

void fill_identity(const char* executable) {
  uint64_t random[2] = {};
  if (const void* from_kernel = reinterpret_cast<void*>(getauxval(AT_RANDOM)))
    memcpy(random, from_kernel, sizeof random);
  header->pid = static_cast<uint32_t>(sys::getpid());
  header->parent_pid = static_cast<uint32_t>(sys::getppid());
  header->start_time_clock_ticks = own_stat_field(22);
  header->clock_first = {ticks(), monotonic_ns()};
  header->clock_last = header->clock_first;
  header->realtime_start_ns = realtime_ns();
  header->generation = mix(random[0] ^ mix(header->clock_first.monotonic_ns) ^ header->pid);
  header->ticks_are_ns = clock_is_tsc ? 0 : 1;
  const size_t length = strlen(executable);
  const size_t kept = length < sizeof header->executable ? length : sizeof header->executable - 1;
  memcpy(header->executable, executable, kept);
  read_small_file("/proc/self/cmdline", header->command_line, sizeof header->command_line);
}

void fill_settings(const format::Settings& settings) {
  header->heap_rate_bytes = settings.heap_rate;
  header->block_rate_ns = settings.block_rate_ns;
  header->mutex_fraction = settings.mutex_fraction;
  header->cpu_hz = settings.cpu_hz;
  header->stack_depth_frames = settings.stack_depth;
  header->unwind = settings.unwind;
  header->mmap_profiled = settings.mmap ? 1 : 0;
  header->trace_ring_bytes = format::kTraceRingBytes;
  header->trace_max_bytes = settings.trace_limit.bytes;
  header->trace_stops_when_full = settings.trace_limit.stops_when_full ? 1 : 0;
  format::Control& control = header->control;
  control.heap_rate_bytes.store(settings.heap_rate, std::memory_order_relaxed);
  control.block_rate_ns.store(settings.block_rate_ns, std::memory_order_relaxed);
  control.mutex_fraction.store(settings.mutex_fraction, std::memory_order_relaxed);
  control.cpu_hz.store(settings.cpu_hz, std::memory_order_relaxed);
  control.trace.store(settings.trace ? 1 : 0, std::memory_order_relaxed);
}

// Those of the trace are made when it is turned on.
constexpr size_t kTablesFromTheStart = static_cast<size_t>(TableId::kTraceRings);

// The header and every such table's first chunk, as one mapping.
size_t first_mapping_bytes() {
  size_t bytes = format::kHeaderBytes;
  for (size_t table = 0; table < kTablesFromTheStart; ++table)
    bytes += chunk_bytes(header->tables[table], 0);
  return bytes;
}

void lay_out_first_chunks(char* base) {
  size_t offset = format::kHeaderBytes;
  for (size_t table = 0; table < kTablesFromTheStart; ++table) {
    TableDirectory& directory = header->tables[table];
    directory.chunk_offset[0].store(offset, std::memory_order_relaxed);
    attach(static_cast<TableId>(table), 0, base + offset);
    offset += chunk_bytes(directory, 0);
  }
}

// The header until the file's size is known.
alignas(format::DumpHeader) char draft[sizeof(format::DumpHeader)];

const char* map_new_file(int fd, const format::Settings& settings) {
  memset(draft, 0, sizeof draft);
  header = reinterpret_cast<format::DumpHeader*>(draft);
  header->profbuf_words = profbuf_words_for(settings.heap_rate);
  for (size_t table = 0; table < kTables; ++table) {
    header->tables[table].row_bytes = shape_of(table).row_bytes;
    header->tables[table].first_rows = shape_of(table).first_rows;
  }
  const size_t bytes = first_mapping_bytes();
  const int error = reserve(fd, 0, bytes);
  if (error != 0) return error == ENOSPC ? "no space left on the device" : strerrordesc_np(error);
  char* base = static_cast<char*>(map_file(fd, 0, bytes));
  if (base == nullptr) return "it cannot be mapped";
  memcpy(base, draft, sizeof draft);
  header = reinterpret_cast<format::DumpHeader*>(base);
  mapped_count = 0;
  remember(base, bytes);
  header->version = format::kDumpVersion;
  header->header_bytes = sizeof(format::DumpHeader);
  header->file_bytes.store(bytes, std::memory_order_relaxed);
  reset_tables();
  lay_out_first_chunks(base);
  return nullptr;
}

// The one line that a user sees when there will be no dump.
bool give_up(const char* pattern, int fd, const char* problem) {
  const char* name = *path == '\0' ? pattern : path;
  char shown[1024];  // a longer name must not push the reason out of the line
  const size_t length = strnlen(name, sizeof shown - 1);
  memcpy(shown, name, length);
  shown[length] = '\0';
  Line line;
  line << "cannot write the dump " << shown << ": " << problem << "; the program runs unprofiled";
  line.say();
  if (fd >= 0) {
    sys::close(fd);
    sys::unlink(path);
  }
  header = nullptr;
  return false;
}

uint32_t chunks_of(const TableDirectory& directory) {
  uint32_t chunk = 0;
  while (chunk < kMaxChunks && directory.chunk_offset[chunk].load(std::memory_order_relaxed) != 0)
    ++chunk;
  return chunk;
}

bool add_chunk(TableId id) {
  TableDirectory& directory = directory_of(id);
  const uint32_t chunk = chunks_of(directory);
  if (chunk == kMaxChunks) return false;
  const size_t bytes = chunk_bytes(directory, chunk);
  const size_t offset = header->file_bytes.load(std::memory_order_relaxed);
  const int fd = reopen_dump();
  if (fd < 0) return false;
  void* rows = reserve(fd, offset, bytes) == 0 ? map_file(fd, offset, bytes) : nullptr;
  sys::close(fd);
  if (rows == nullptr || !remember(rows, bytes)) return false;
  header->file_bytes.store(offset + bytes, std::memory_order_relaxed);
  directory.chunk_offset[chunk].store(offset, std::memory_order_release);
  attach(id, chunk, rows);
  return true;
}

size_t used_bytes_of(const TableDirectory& directory, uint32_t chunk) {
  const uint64_t used = directory.used_rows.load(std::memory_order_relaxed);
  const uint64_t before = chunk == 0 ? 0 : format::chunk_rows(directory.first_rows, chunk);
  if (used <= before) return 0;
  const uint64_t rows =
      std::min<uint64_t>(used - before, format::chunk_rows(directory.first_rows, chunk));
  return round_up(rows * directory.row_bytes, kPageBytes);
}

// Frees the unused end of each chunk inside the file and cuts the file behind the last used byte. A
// thread that claimed a row an instant before tables were frozen may still write it, so some room
// without disk blocks stays at the end.
void give_back_unused(int fd) {
  size_t end = format::kHeaderBytes;
  for (const TableDirectory& directory : header->tables) {
    for (uint32_t chunk = 0; chunk < chunks_of(directory); ++chunk) {
      const size_t offset = directory.chunk_offset[chunk].load(std::memory_order_relaxed);
      const size_t used = used_bytes_of(directory, chunk);
      const size_t whole = chunk_bytes(directory, chunk);
      if (used < whole)
        sys::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset + used, whole - used);
      if (used != 0) end = std::max(end, offset + used);
    }
  }
  const bool has_rings = chunks_of(directory_of(TableId::kTraceData)) != 0;
  end = std::min<size_t>(
      end + 65536 + header->profbuf_words * 8 + (has_rings ? header->trace_ring_bytes : 0),
      header->file_bytes.load(std::memory_order_relaxed));
  if (sys::ftruncate(fd, end) == 0) header->file_bytes.store(end, std::memory_order_relaxed);
}

}  // namespace

int reopen_dump() {
  const int fd = sys::open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;
  if (fd < 0 ||
      (sys::fstat(fd, &status) == 0 && status.st_dev == dump_device && status.st_ino == dump_inode))
    return fd;
  sys::close(fd);
  return -1;
}

bool create_dump(const format::Settings& settings) {
  char executable[1024];
  sys::readlink("/proc/self/exe", executable, sizeof executable);
  const int fd = open_new_file(settings.out, executable);
  if (fd < 0) return give_up(settings.out, fd, strerrordesc_np(-fd));
  struct stat status;
  if (const int result = sys::fstat(fd, &status); result != 0)
    return give_up(settings.out, fd, strerrordesc_np(-result));
  dump_device = status.st_dev;
  dump_inode = status.st_ino;
  if (const char* problem = map_new_file(fd, settings)) return give_up(settings.out, fd, problem);
  sys::close(fd);
  fill_identity(executable);
  fill_settings(settings);
  ended.store(false, std::memory_order_relaxed);
  growing.store(false, std::memory_order_relaxed);
  // A reader takes the file for a dump from here on.
  std::atomic_ref(header->magic).store(format::kDumpMagic, std::memory_order_release);
  return true;
}

void abandon_dump() {
  header = nullptr;
  for (uint32_t i = 0; i < mapped_count; ++i) sys::munmap(mapped[i].memory, mapped[i].bytes);
  mapped_count = 0;
}

void freeze_tables() {
  ended.store(true, std::memory_order_relaxed);
  for_each_table([](TableId, auto& table) { table.freeze(); });
}

void cut_dump() {
  const int fd = reopen_dump();
  if (fd < 0) return;
  give_back_unused(fd);
  sys::close(fd);
}

const char* dump_path() { return path; }

void update_clock() {
  if (clocks_stand_still()) return;
  uint64_t version = header->clock_version.load(std::memory_order_relaxed);
  if ((version & 1) != 0 || !header->clock_version.compare_exchange_strong(
                                version, version + 1, std::memory_order_acquire))
    return;
  header->clock_last = {ticks(), monotonic_ns()};
  header->clock_version.store(version + 2, std::memory_order_release);
}

bool grow_table(format::TableId table, uint64_t seen_capacity) {
  if (ended.load(std::memory_order_relaxed) || is_growth_paused()) return false;
  // One grower at a time; whoever comes second goes on with the room there is, or declines.
  if (growing.exchange(true, std::memory_order_acquire)) return false;
  const TableDirectory& directory = directory_of(table);
  const uint32_t chunks = chunks_of(directory);
  const uint64_t capacity = chunks == 0 ? 0 : uint64_t{directory.first_rows} << (chunks - 1);
  const bool grown = capacity != seen_capacity || add_chunk(table);
  if (!grown) note_growth_failure();
  growing.store(false, std::memory_order_release);
  return grown;
}

bool grow_full_table(format::TableId table, uint64_t seen_capacity) {
  if (grow_table(table, seen_capacity)) return true;
  // What grows now may be another table: then it is this one's turn.
  return spin_until([] { return !growing.load(std::memory_order_acquire); }) &&
         grow_table(table, seen_capacity);
}

void count_lost(format::Lost reason, uint64_t by) {
  if (header == nullptr) return;
  if (ended.load(std::memory_order_relaxed) && reason == format::Lost::kTableFull)
    reason = format::Lost::kAfterEnd;
  uint64_t none = 0;
  header->first_lost_ticks.compare_exchange_strong(none, ticks(), std::memory_order_relaxed);
  header->lost[static_cast<size_t>(reason)].fetch_add(by, std::memory_order_relaxed);
}

uint32_t add_string(const char* text, uint32_t bytes) {
  const uint32_t at = claim_row(tables.strings, TableId::kStrings, bytes);
  if (at != format::kNoRow) memcpy(tables.strings.at(at), text, bytes);
  return at;
}

}  // namespace mprof::preload
