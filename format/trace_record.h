// SPDX-License-Identifier: Apache-2.0
// What a trace ring carries: records of bytes, as small as they can be without looking back far.
//
// A record: a byte with the kind in bits 0-5 and flags in 6-7; then unsigned LEB128 numbers: ticks
// since the record before it (the first one of a block: since the block's own time); with kHasCore
// the core that the thread is on from here on; with kHasStack a row of the stack table; then the
// arguments of the kind, in the order given here; kLog ends with a length and that many bytes.
// `object` is an address: the difference to the last one in the block (0 at its begin), zigzag, so
// that a lock which is taken again and again costs a byte. `age`: ticks before the record's time.
//
//   kind          arguments                          what happened
//   kEnd          -                                  nothing more in this block
//   kLost         count, age of the first            so many records were dropped here
//   kStart        session                            tracing begins; kThread records follow
//   kStop         session                            tracing ends
//   kThread       thread row, wait kind + 1, age,    a thread that was there before; if it waits,
//                 object                             for what and since when, and 0, 0, 0 if not
//   kCreate       thread row                         this thread made another one
//   kBegin        -                                  this thread begins to run
//   kExit         object                             this thread ends; its pthread_t
//   kWait         wait kind, object                  it begins to wait
//   kWaitEnd      WaitEnd                            it goes on; 0: it has what it waited for
//   kRelock       object, age                        its wait for a condition was over that long
//                                                    ago; since then it waits for this mutex
//   kRelease      wait kind, object                  it gave up or signalled what others wait for
//   kCall         CallName                           it enters a system call
//   kCallEnd      -                                  and has left it
//   kYield        calls                              sched_yield(), so often since the last kYield
//   kHeap         live bytes, mapped bytes           the heap as it is now
//   kGrow         bytes, age                         the heap got so much from the system
//   kTrim         bytes, age                         the heap gave so much back
//   kCpu          -                                  a CPU sample
//   kLabels       label set + 1                      it has other labels; 0: none
//   kTaskBegin    task, parent, name                 a task of the program's
//   kTaskEnd      task
//   kRegionBegin  task, name                         a region of this thread; they nest
//   kRegionEnd    task, name
//   kLog          task, category + 1, text           a line of the program's
//
// Names and categories are rows of the string table at which a zero-terminated text begins. Task 0
// is none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::format {

enum class TraceKind : uint8_t {
  kEnd,
  kLost,
  kStart,
  kStop,
  kThread,
  kCreate,
  kBegin,
  kExit,
  kWait,
  kWaitEnd,
  kRelock,
  kRelease,
  kCall,
  kCallEnd,
  kYield,
  kHeap,
  kGrow,
  kTrim,
  kCpu,
  kLabels,
  kTaskBegin,
  kTaskEnd,
  kRegionBegin,
  kRegionEnd,
  kLog,
  kCount,
};

enum class WaitEnd : uint8_t {
  kGotIt,
  kAtOnce,  // there was nothing to wait for, or the call failed at once
  kGaveUp,  // its time was over, or a signal came
};

inline constexpr uint8_t kTraceKindMask = 0x3f;
inline constexpr uint8_t kHasCore = 0x40;
inline constexpr uint8_t kHasStack = 0x80;
inline constexpr size_t kMostTraceArguments = 4;
inline constexpr size_t kMostTraceText = 1024;

struct TraceKindInfo {
  const char* name;
  uint8_t arguments;
  int8_t object;  // which of them is an object; -1: none
};
inline constexpr TraceKindInfo kTraceKinds[] = {
    {"end", 0, -1},        {"lost", 2, -1},     {"start", 1, -1},        {"stop", 1, -1},
    {"thread", 4, 3},      {"create", 1, -1},   {"begin", 0, -1},        {"exit", 1, 0},
    {"wait", 2, 1},        {"wait end", 1, -1}, {"relock", 2, 0},        {"release", 2, 1},
    {"call", 1, -1},       {"call end", 0, -1}, {"yield", 1, -1},        {"heap", 2, -1},
    {"grow", 2, -1},       {"trim", 2, -1},     {"cpu", 0, -1},          {"labels", 1, -1},
    {"task begin", 3, -1}, {"task end", 1, -1}, {"region begin", 2, -1}, {"region end", 2, -1},
    {"log", 2, -1},
};
static_assert(sizeof kTraceKinds / sizeof *kTraceKinds == static_cast<size_t>(TraceKind::kCount));

constexpr const TraceKindInfo& info_of(TraceKind kind) {
  return kTraceKinds[static_cast<size_t>(kind)];
}

constexpr uint64_t zigzag(uint64_t difference) {
  return difference << 1 ^ (static_cast<int64_t>(difference) < 0 ? ~uint64_t{0} : 0);
}
constexpr uint64_t unzigzag(uint64_t code) { return code >> 1 ^ (0 - (code & 1)); }
static_assert(unzigzag(zigzag(5)) == 5 && unzigzag(zigzag(uint64_t(-5))) == uint64_t(-5));
static_assert(zigzag(1) == 2 && zigzag(uint64_t(-1)) == 1);

inline constexpr size_t kMostVarintBytes = 10;
// Of any record but for its text, kLost before it included.
inline constexpr size_t kMostTraceRecordBytes = 128;

inline uint8_t* put_varint(uint8_t* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// False when it does not end before `end`, or has more than 64 bits.
inline bool get_varint(const uint8_t*& in, const uint8_t* end, uint64_t& value) {
  value = 0;
  for (unsigned shift = 0; in != end && shift < 64; shift += 7) {
    const uint64_t byte = *in++;
    if (shift == 63 && byte > 1) return false;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

}  // namespace mprof::format
