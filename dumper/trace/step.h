// SPDX-License-Identifier: Apache-2.0
// The steps of a trace: what every form of it is written from.
//
// The library never sees the kernel switch threads: it sees a thread when the thread calls into it,
// and then knows its core. The model (model.h) makes of that a consistent story, in which each core
// runs one thread at a time and each thread is somewhere. All forms are written from the same
// steps, so their times and totals are equal.
//
// Order     `ns` never decreases. Steps with equal times happen in the order in which they come.
// Threads   are numbered 1, 2, 3 ... in the order in which they appear; 0 is the kernel: timers,
//           devices, other processes. Numbers are never used twice.
// Story of a thread:
//   kThread -> runnable, or waiting if `is_waiting`
//   kRun: runnable -> running on `core`, which nobody has by then
//   kPreempt, kYield: running -> runnable. kBlock, kCallBlock: running -> waiting
//   kWake, kCallReturn: waiting -> runnable. kExit: running -> gone
//   All other kinds but kCoreBegin, kHeap, kCpu, kLost: the thread is running and stays so.
// End       No thread runs when the steps end, and every open region, trim and growth is closed.
#pragma once

#include <cstdint>
#include <string>

#include "format/call_names.h"
#include "format/dump.h"
#include "format/label_table.h"

namespace mprof::dumper {

enum class StepKind {
  kThread,      // appears; made by `other` at `stack`, which runs on `core`; 0: it was there before
  kCoreBegin,   // `core` is seen for the first time; kRun or kCallReturn of `thread` there follows
  kRun,         // gets `core`
  kPreempt,     // loses its core to another thread, or is found on another core
  kYield,       // gives it up: value calls of sched_yield(), or 0 at the end of recording
  kBlock,       // begins to wait: `wait`, for `object`
  kWake,        // may go on; woken by `other` at `stack`, which is running on `core`
  kCall,        // enters `call`
  kCallBlock,   // and is long in there: `core` is free from now on. Has the time of its kCall
  kCallReturn,  // a call that was long is over, on `core`; kRun follows
  kCallEnd,     // one that was short is over
  kExit,        // ends
  kHeap,        // value: live bytes; second: bytes that the heap has from the system
  kGrowBegin,   // the heap gets `value` bytes from the system
  kGrowEnd,     //
  kTrimBegin,   // gives `value` bytes back
  kTrimEnd,     //
  kCpu,         // a CPU sample of `thread` at `stack`, on `core`; later than its kThread, and else
                // anywhere in its story, or a nanosecond after it
  kLabels,      // value: label set + 1, 0: none
  kTaskBegin,   // value: task, second: its parent or 0, `text`: name
  kTaskEnd,     // value: task; it may have begun before the steps do
  kRegionBegin,  // value: task or 0, `text`: name; regions of a thread nest
  kRegionEnd,    // the innermost one that is open, with its task and name
  kLog,          // value: task or 0, `text`: category, `message`
  kLost,         // value: so many records of `thread` were dropped here, or before; 0: who knows
  kStart,        // recording begins (again)
  kStop,         // recording ends
};

struct Step {
  StepKind kind{};
  uint64_t ns = 0;  // since the start of the target
  uint32_t thread = 0;
  uint32_t core = 0;
  uint32_t other = 0;
  uint32_t stack = format::kNoRow;  // row of the stack table
  bool is_waiting = false;          // kThread
  format::WaitKind wait{};          // kBlock; kThread that waits
  format::CallName call{};          // kCall, kCallBlock, kCallReturn, kCallEnd
  uint64_t object = 0;              // kBlock: address of the lock, 0: none
  uint64_t value = 0;
  uint64_t second = 0;
  uint32_t thread_row = format::kNoRow;  // kThread: of the thread table
  std::string text;
  std::string message;
};

// Writes a form of the trace, step by step.
class StepSink {
 public:
  virtual ~StepSink() = default;
  virtual void take(const Step& step) = 0;
  // After the last step.
  virtual void finish() = 0;
};

}  // namespace mprof::dumper
