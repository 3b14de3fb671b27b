// SPDX-License-Identifier: Apache-2.0
// The dump: one file-backed shared mapping that holds everything a profile is made of.
//
// Roles     One target process writes (all of its threads); any number of readers look, at any
//           time: while the target runs, after it ended, on another machine. A reader writes only
//           `control` and, if it is the drainer, the `released` word of each profbuf.
// Layout    DumpHeader (two pages), then chunks of table rows. A table is a list of chunks that
//           double in size; a chunk is appended to the file when the table fills, and neither
//           moves nor shrinks. Offsets from the start of the file, never pointers; little endian.
// Rows      A row is claimed by moving `used_rows`, then filled, then published by the word that
//           its own header names. Rows are never deleted, except that live rows are recycled.
// Full      A table that cannot grow (disk, limits) declines: lost[kTableFull] grows.
// Death     Every store leaves a file that can be read: at most the one sample that each thread
//           was working on is missing.
// Trust     A reader believes no offset, count, index or length before it has checked it.
//
// Any change to a layout here, or to the meaning of a field, bumps kDumpVersion.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mprof::format {

inline constexpr uint64_t kDumpMagic = 0x0a706d7564706d89;  // "\x89mpdump\n"
inline constexpr uint32_t kDumpVersion = 4;
inline constexpr size_t kCacheLine = 64;
inline constexpr size_t kPageBytes = 4096;
inline constexpr uint32_t kNoRow = 0xffffffff;

static_assert(std::atomic<uint64_t>::is_always_lock_free, "usable in signal handlers");
static_assert(std::atomic<uint32_t>::is_always_lock_free, "usable in signal handlers");

enum class TableId : uint32_t {
  kStackNodes,   // StackNode, stack_table.h
  kBuckets,      // BucketRow, bucket.h
  kCounts,       // CountRow, count_bucket.h
  kLive,         // LiveRow, live_table.h
  kThreads,      // ThreadRow, thread_table.h
  kModules,      // ModuleRow, module_table.h
  kLabels,       // LabelRow, label_table.h
  kStrings,      // bytes: paths and label texts
  kCustoms,      // CustomRow, count_bucket.h
  kProfbufs,     // ProfbufHead, profbuf.h
  kProfbufData,  // bytes: the records of profbuf n begin at n * profbuf_words * 8
  kTraceRings,   // ProfbufHead, trace_ring.h; this and the next have no chunk before a trace is on
  kTraceData,    // bytes: the blocks of trace ring n begin at n * trace_ring_bytes
  kCount,
};
inline constexpr size_t kTables = static_cast<size_t>(TableId::kCount);

// Rows of chunk 0: `first_rows`, a power of two. Chunk c > 0 holds first_rows << (c - 1), so
// that each chunk doubles the table.
inline constexpr size_t kMaxChunks = 24;
struct TableDirectory {
  uint32_t row_bytes;
  uint32_t first_rows;
  std::atomic<uint64_t> used_rows;
  std::atomic<uint64_t> chunk_offset[kMaxChunks];  // 0 = not there
};
static_assert(sizeof(TableDirectory) == 16 + 8 * kMaxChunks);

struct RowPlace {
  uint32_t chunk;
  uint64_t row_in_chunk;
};
constexpr uint64_t chunk_rows(uint32_t first_rows, uint32_t chunk) {
  return chunk == 0 ? first_rows : static_cast<uint64_t>(first_rows) << (chunk - 1);
}
constexpr RowPlace place_of_row(uint32_t first_rows, uint64_t row) {
  if (row < first_rows) return {0, row};
  const auto chunk = static_cast<uint32_t>(64 - __builtin_clzll(row / first_rows));
  return {chunk, row - chunk_rows(first_rows, chunk)};
}
static_assert(place_of_row(8, 7).chunk == 0 && place_of_row(8, 8).chunk == 1 &&
              place_of_row(8, 16).chunk == 2 && place_of_row(8, 31).row_in_chunk == 15);

// Why something is not in the profile. Each is a count of samples (or of the thing named).
enum class Lost : uint32_t {
  kTableFull,      // a block or mapping for which a table could not grow
  kReentered,      // a signal handler allocated while its thread was inside mprof
  kContended,      // a row stayed locked by a thread that was not running
  kNoThreadState,  // no memory for a thread's own block
  kFreeContended,  // a free that found its row locked: the block was shown live until reused
  kAfterEnd,       // a sample after the clean end that needed a row that was not there
  kNoProfbuf,      // an event of a thread that got no profbuf; the totals have it
  kWaitContended,  // a wait or release that found no place in mprof's own table of waiters
  kNotCounted,     // a wait, release or new thread whose row or labels had no room, or were locked
  kLabelsFull,     // a label or name of the program that came after too many different ones
  kNoCpuTimer,     // a thread that got no CPU timer: none of its time is in the profile
  kCpuDropped,     // CPU samples that had no room, were contended, or came before the dump did
  kValueNotAdded,  // a value that did not get into a profile of the program's own: no room, or
                   // twice
  kTraceLost,      // a trace record of a thread that got no ring, or of a signal handler that
                   // interrupted mprof
  kCount,
};
inline constexpr size_t kLostReasons = static_cast<size_t>(Lost::kCount);
inline constexpr const char* kLostNames[kLostReasons] = {"table full",
                                                         "re-entered from a signal handler",
                                                         "row contended",
                                                         "no thread state",
                                                         "free contended",
                                                         "after the end",
                                                         "no profbuf",
                                                         "wait table contended",
                                                         "wait or thread not counted",
                                                         "too many labels",
                                                         "no CPU timer",
                                                         "CPU sample dropped",
                                                         "value not added to a profile",
                                                         "trace record without a ring"};

enum class UnwindMode : uint32_t { kAuto, kFramePointer, kDwarf };

// How the life of the target ended, as far as the target could say so itself.
// A snapshot of a target that ran ends where it was taken.
enum class EndState : uint32_t { kRunning = 0, kClean = 1, kSnapshot = 2 };

// One point at which the tick counter and the clocks were read together.
struct ClockPoint {
  uint64_t ticks;
  uint64_t monotonic_ns;
};

// With signals that a controller sends (sigqueue), so that they are told from the program's own.
inline constexpr int kSignalCookie = 0x6d70;

// Written by `mprof`, read by the target, but for `applied_epoch`. One controller at a time: it
// holds a lock of the file (flock) while it changes more than `cut_epoch`.
struct Control {
  // A reader that wants a consistent cut adds one; see bucket.h.
  alignas(kCacheLine) std::atomic<uint64_t> cut_epoch;
  // Settings that are wanted. They count from the time that `epoch`, stored last with release, is
  // another one than `applied_epoch`, which the target sets once they are in force.
  alignas(kCacheLine) std::atomic<uint32_t> epoch;
  std::atomic<uint32_t> applied_epoch;
  std::atomic<uint64_t> heap_rate_bytes;
  std::atomic<uint64_t> block_rate_ns;
  std::atomic<uint32_t> mutex_fraction;
  std::atomic<uint32_t> cpu_hz;  // 0: off
  std::atomic<uint32_t> trace;   // 1: on
  // Stacks of threads: a thread that is signalled answers the request of this number, in its row of
  // the thread table. `rendezvous`: so many threads are to wait for each other before they answer.
  alignas(kCacheLine) std::atomic<uint32_t> stacks_request;
  std::atomic<uint32_t> rendezvous;
  std::atomic<uint32_t> arrived;  // by the threads
  std::atomic<uint32_t> released;
};

// Settings that were changed while the target ran.
enum ChangedSetting : uint32_t {
  kHeapRateChanged = 1,
  kBlockRateChanged = 2,
  kMutexFractionChanged = 4,
  kCpuHzChanged = 8,
};

struct DumpHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;  // sizeof(DumpHeader)
  // Identity: exec keeps pid and start time, so a random number is added.
  uint64_t generation;
  uint64_t start_time_clock_ticks;  // field 22 of /proc/PID/stat
  uint32_t pid;
  uint32_t parent_pid;
  uint64_t realtime_start_ns;
  // Times in rows and records are ticks of the cycle counter, or nanoseconds of CLOCK_MONOTONIC
  // when `ticks_are_ns`. Two points give the line between them; the second is moved forward now
  // and then, by the target.
  uint32_t ticks_are_ns;
  uint32_t reserved0;
  ClockPoint clock_first;
  std::atomic<uint64_t> clock_version;  // odd while clock_last is being written
  ClockPoint clock_last;
  // Settings in force.
  uint64_t heap_rate_bytes;
  uint64_t block_rate_ns;
  uint32_t mutex_fraction;
  uint32_t cpu_hz;
  uint32_t stack_depth_frames;
  UnwindMode unwind;
  uint32_t mmap_profiled;
  uint32_t profbuf_words;  // records of one profbuf, in 64-bit words; a power of two
  std::atomic<EndState> end_state;
  uint32_t allocator_name;  // string of the library that malloc is forwarded to, see kStrings
  uint64_t end_realtime_ns;
  std::atomic<uint64_t> file_bytes;
  uint64_t anonymous_bytes;  // what the library keeps outside the dump
  TableDirectory tables[kTables];
  // The heap's own totals, for the peak; see bucket.h.
  alignas(kCacheLine) std::atomic<int64_t> live_bytes;
  alignas(kCacheLine) std::atomic<int64_t> peak_bytes;
  std::atomic<uint64_t> peak_epoch;  // odd: the heap is at its peak right now
  std::atomic<uint32_t> threads_seen;
  // The signal by which threads are asked, and that CPU timers send; 0: none, nobody may signal.
  std::atomic<uint32_t> signal_number;
  alignas(kCacheLine) std::atomic<uint64_t> lost[kLostReasons];
  std::atomic<uint64_t> first_lost_ticks;
  std::atomic<uint64_t> mapped_growth_failures;  // chunks that could not be added
  // CPU profile: how long it was on, without the time since `cpu_on_ticks` (0: it is off).
  std::atomic<uint64_t> cpu_profiled_ticks;
  std::atomic<uint64_t> cpu_on_ticks;
  // Processor time of the process while the profile was on, as last looked at.
  std::atomic<uint64_t> cpu_used_ns;
  // Bits of ChangedSetting: the rates above are those of the end, and there were others.
  std::atomic<uint32_t> changed_settings;
  // The trace: whether it is on, and how often it was turned on.
  std::atomic<uint32_t> trace_on;
  std::atomic<uint32_t> trace_sessions;
  uint32_t trace_ring_bytes;  // a power of two, of trace_ring.h's blocks
  // How much of the trace its journal keeps, 0: all; the newest, or no more than that.
  uint64_t trace_max_bytes;
  uint32_t trace_stops_when_full;
  uint32_t reserved1;
  // In a snapshot (snapshot.h): the cut epoch whose totals it has, 1 if the target had ended. 0 in
  // a target's own dump.
  uint64_t snapshot_epoch;
  Control control;
  alignas(kCacheLine) char executable[1024];  // zero-terminated, cut if longer
  char command_line[2048];                    // arguments, each zero-terminated, cut if longer
};
static_assert(sizeof(DumpHeader) % kCacheLine == 0);
inline constexpr size_t kHeaderBytes = 2 * kPageBytes;
static_assert(sizeof(DumpHeader) <= kHeaderBytes);

}  // namespace mprof::format
