// SPDX-License-Identifier: Apache-2.0
// The thread table: one row for each thread that mprof met, kept after the thread's end.
//
// Roles     The thread itself writes its row; a reader looks.
// Publish   `tid` is stored last with release when the row is made; 0 until then.
// Inside    `inside` is odd while the thread works on a sample. A reader that moved the cut epoch
//           waits until each odd value has changed; see preload/thread_state.h.
// Waits     What the thread waits for, if the hooks see it: `wait_kind` is stored last with
// release,
//           and set to 0 first when the wait is over. A thread that waits in a call which a signal
//           would end with EINTR, even with SA_RESTART, is parked: `parked` is odd, and the
//           registers are those of the caller of the call. Nobody signals a parked thread; its
//           stack stands still and can be read from outside.
// Answers   To a request for stacks; see Control. `answer` is stored last with release.
#pragma once

#include "format/dump.h"

namespace mprof::format {

// Why a thread must not be sent mprof's signal: bits of ThreadRow::unsignalled.
enum Unsignalled : uint32_t {
  kSignalBlocked = 1,     // it would stay pending, and the program could see it
  kSmallSignalStack = 2,  // mprof's handler does not fit on its alternate signal stack
};

struct ThreadRow {
  std::atomic<uint32_t> tid;
  std::atomic<uint32_t> profbuf;    // row + 1; 0 = none
  char name[16];                    // as prctl(PR_GET_NAME) had it when last looked at
  uint64_t start_ticks;             // first seen
  std::atomic<uint64_t> end_ticks;  // 0 = not ended, or not seen to end
  uint32_t creation;                // row + 1 in the count table of who made it; 0 = not seen
  std::atomic<uint32_t> labels;     // the program's label set in force, + 1; 0 = none
  alignas(kCacheLine) std::atomic<uint64_t> inside;
  std::atomic<uint64_t> samples;  // allocations sampled
  std::atomic<uint64_t> sampled_frees;
  std::atomic<uint64_t> truncated_stacks;   // deeper than the limit
  std::atomic<uint64_t> incomplete_stacks;  // the walk could not reach the outermost frame
  std::atomic<uint64_t> cost_ticks;         // spent on samples, where measured
  std::atomic<uint64_t> cost_measured;      // how many samples were measured
  alignas(kCacheLine) std::atomic<uint32_t> wait_kind;  // WaitKind + 1, 0 = none known
  std::atomic<uint32_t> wait_stack;                     // row of the stack table, or kNoRow
  std::atomic<uint64_t> wait_object;                    // address
  std::atomic<uint64_t> wait_start_ticks;
  std::atomic<uint64_t> parked;
  std::atomic<uint64_t> parked_pc;
  std::atomic<uint64_t> parked_sp;
  std::atomic<uint64_t> parked_fp;
  alignas(kCacheLine) std::atomic<uint64_t> cpu_samples;
  std::atomic<uint64_t> cpu_in_mprof_ns;  // sampled while it worked on a sample: no stack
  std::atomic<uint64_t> cpu_next_ns;      // its processor time at the next sample; 0 = not set
  std::atomic<uint32_t> cpu_timer;        // the kernel's number + 1; 0 = none
  std::atomic<uint32_t> answer;           // number of the request
  std::atomic<uint32_t> answer_stack;     // row of the stack table, or kNoRow
  std::atomic<uint32_t> unsignalled;      // bits of Unsignalled
  std::atomic<uint64_t> answer_ticks;
};
static_assert(sizeof(ThreadRow) == 4 * kCacheLine, "both sides agree");

}  // namespace mprof::format
