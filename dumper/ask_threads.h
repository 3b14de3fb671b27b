// SPDX-License-Identifier: Apache-2.0
// Asks threads of a running target for their stacks, by the signal that its dump names.
//
// Request   A number, one higher for each; a thread answers with it in its row, see
//           format/dump.h Control. One controller at a time: the lock of the dump's file.
// Called by thread_profile.cc, which has chosen the threads by signal_thread.h and has just made
//           sure that the process is the dump's.
// Fails     DumpError, one line: the dump cannot be locked.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

struct AskedThread {
  uint32_t tid = 0;
  uint32_t row = format::kNoRow;  // of the thread table; kNoRow: it will get one
};

struct Answers {
  uint32_t request = 0;
  std::set<uint32_t> sent;  // thread ids that were signalled
  bool all_met = false;     // rendezvous: every one of them stood still at one moment
};

// Returns when all have answered, or after `longest`. `must_leave_alone(thread)` is asked at the
// last moment. The rows of the dump then have the answers.
[[nodiscard]] Answers ask_for_stacks(
    Dump& dump, const std::vector<AskedThread>& threads, bool rendezvous,
    std::chrono::milliseconds longest,
    const std::function<bool(const AskedThread&)>& must_leave_alone);

// Whether the thread of that row has answered this request.
[[nodiscard]] bool has_answered(const Dump& dump, uint32_t row, uint32_t request);

}  // namespace mprof::dumper
