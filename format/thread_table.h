// SPDX-License-Identifier: Apache-2.0
// The thread table: one row for each thread that mprof met, kept after the thread's end.
//
// Roles     The thread itself writes its row; a reader looks.
// Publish   `tid` is stored last with release when the row is made; 0 until then.
// Inside    `inside` is odd while the thread works on a sample. A reader that moved the cut epoch
//           waits until each odd value has changed; see preload/thread_state.h.
#pragma once

#include "format/dump.h"

namespace mprof::format {

struct ThreadRow {
  std::atomic<uint32_t> tid;
  std::atomic<uint32_t> profbuf;    // row + 1; 0 = none
  char name[16];                    // as prctl(PR_GET_NAME) had it when last looked at
  uint64_t start_ticks;             // first seen
  std::atomic<uint64_t> end_ticks;  // 0 = not ended, or not seen to end
  uint32_t creation;                // row + 1 in the count table of who made it; 0 = not seen
  uint32_t reserved;
  alignas(kCacheLine) std::atomic<uint64_t> inside;
  std::atomic<uint64_t> samples;  // allocations sampled
  std::atomic<uint64_t> sampled_frees;
  std::atomic<uint64_t> truncated_stacks;   // deeper than the limit
  std::atomic<uint64_t> incomplete_stacks;  // the walk could not reach the outermost frame
  std::atomic<uint64_t> cost_ticks;         // spent on samples, where measured
  std::atomic<uint64_t> cost_measured;      // how many samples were measured
};
static_assert(sizeof(ThreadRow) == 2 * kCacheLine, "both sides agree");

}  // namespace mprof::format
