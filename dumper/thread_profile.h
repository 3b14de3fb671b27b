// SPDX-License-Identifier: Apache-2.0
// Every thread of a program: its stack, what it is doing, what it waits for and who holds that.
//
// Called by main.cc and whoever serves profiles
// Live      Each thread is there once, with the best that can be had of its stack:
//             answer   its own, asked for by signal (ask_threads.h)
//             outside  of a thread that is parked in a call that a signal would end: read by call
//                      frame information (outside_stack.h)
//             wait     the one that was captured when its wait for a lock began
//           else none, and why.
// Ended     The threads that had not ended, with their last waits as the dump has them.
// Threads   One at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/label_names.h"
#include "dumper/placed_profile.h"

namespace mprof::dumper {

struct ThreadOptions {
  std::chrono::milliseconds timeout{200};
  bool rendezvous = false;  // all that can be asked stand still at one moment
  bool interrupt = false;   // asks those, too, whose calls then fail with EINTR
};

enum class StackOrigin { kNone, kAnswer, kOutside, kWait };

struct ThreadState {
  uint32_t tid = 0;
  std::string name;
  char run = 0;  // letter of /proc; 0: not known
  std::optional<format::WaitKind> wait;
  uint64_t wait_object = 0;
  uint64_t waited_ns = 0;
  uint32_t holder = 0;  // thread that holds the lock; 0: nobody, or not known
  StackOrigin origin = StackOrigin::kNone;
  StackCopy stack;
  std::string no_stack;  // why there is none
  uint32_t labels = format::kNoRow;
  uint32_t creation = format::kNoRow;  // row of the count table
};

struct ThreadsReading {
  bool running = false;
  bool rendezvous = false;
  bool all_met = false;
  std::vector<ThreadState> threads;  // by id
  std::vector<ModuleCopy> modules;   // beyond those of the dump: numbers go on from its rows
  std::vector<std::string> notes;    // how it was read, and what is missing
};

[[nodiscard]] ThreadsReading collect_threads(Dump& dump, const ThreadOptions& options);

// "running", "sleep", "mutex lock"; without how long.
[[nodiscard]] std::string state_text(const ThreadState& thread);
// The symbol of a global, else an address; empty when it waits for nothing that has a place.
[[nodiscard]] std::string object_text(const Dump& dump, const ThreadState& thread,
                                      LabelNames& names);

// One sample for each (stack, name, state, labels), as Go's goroutine profile.
struct ThreadProfile {
  PlacedProfile placed;
  std::vector<std::vector<uint32_t>> stacks;  // of each thread of the reading: locations
};
[[nodiscard]] ThreadProfile make_profile(const Dump& dump, const ThreadsReading& reading,
                                         LabelNames& names);

}  // namespace mprof::dumper
