// SPDX-License-Identifier: Apache-2.0
// Processor time: what the samples of a dump stand for, and what the process used.
//
// The two differ by chance, by the time of threads that got no timer, and by what was used while
// the library started and ended. Nothing of that is made up.
#pragma once

#include <cstdint>

#include "dumper/count_profile.h"

namespace mprof::dumper {

struct CpuTimes {
  uint64_t samples = 0;        // with a stack; one a period
  uint64_t sampled_ns = 0;     // what they stand for
  uint64_t signals = 0;        // that took them: timers may expire at ticks of the kernel only
  uint64_t in_mprof_ns = 0;    // sampled while mprof worked; without a stack
  uint64_t threads = 0;        // that were sampled
  uint64_t dropped = 0;        // samples that could not be kept
  uint64_t dropped_ns = 0;     // what they would have stood for
  uint64_t without_timer = 0;  // threads
  uint64_t used_ns = 0;        // by the process while the profile was on
  bool used_is_final = false;  // else as of the last time that the target looked
  uint64_t profiled_ns = 0;    // how long the profile was on

  [[nodiscard]] uint64_t all_sampled_ns() const { return sampled_ns + in_mprof_ns; }
};

// Of the rows of `reading`; the rest is of the whole run.
[[nodiscard]] CpuTimes cpu_times(const Dump& dump, const CountReading& reading);

// Between two samples of a thread. If the profile is off now: what it was on average.
[[nodiscard]] uint64_t cpu_period_ns(const Dump& dump, const CountReading& reading);

}  // namespace mprof::dumper
