// SPDX-License-Identifier: Apache-2.0
// What a profile says about itself: where it is from, what is missing from it, how sure it is.
#pragma once

#include <string>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/cpu_times.h"
#include "dumper/heap_profile.h"

namespace mprof::dumper {

[[nodiscard]] std::vector<std::string> comments_for(const Dump& dump, const HeapReading& reading,
                                                    HeapView view);
[[nodiscard]] std::vector<std::string> comments_for(const Dump& dump, const CountReading& reading,
                                                    format::CountKind kind);
// Of a profile that is no sum: `notes` say how it was read.
[[nodiscard]] std::vector<std::string> comments_for(const Dump& dump,
                                                    const std::vector<std::string>& notes,
                                                    const char* view);

// "12.50MB ± 1.20MB", or without the error where the value is exact.
[[nodiscard]] std::string estimate_text(const Estimate& estimate, const char* unit);
[[nodiscard]] std::string duration_text(const Estimate& ns);
// What the settings of a count profile mean for its values.
[[nodiscard]] std::string rate_text(const Dump& dump, format::CountKind kind);
// How much processor time was sampled, of how much that was used; and for how long.
[[nodiscard]] std::vector<std::string> cpu_lines(const CpuTimes& times);
// "3 now: 5 added, 2 removed".
[[nodiscard]] std::string contents_text(const CountSums& sums);
// Arguments as one line a shell would take, control characters replaced.
[[nodiscard]] std::string command_text(const std::vector<std::string>& arguments);
// "3.2 s", "2 min 5 s".
[[nodiscard]] std::string duration_text(double ns);
// "2026-01-31 12:00:00 UTC".
[[nodiscard]] std::string time_text(uint64_t realtime_ns);
[[nodiscard]] const char* unwind_name(format::UnwindMode mode);

// Stacks of sampled allocations over all threads.
struct StackCounts {
  uint64_t samples = 0;
  uint64_t truncated = 0;
  uint64_t incomplete = 0;
};
[[nodiscard]] StackCounts stack_counts(const Dump& dump);
// One line for each reason for which something was lost; empty if nothing was.
[[nodiscard]] std::vector<std::string> loss_lines(const Dump& dump);

}  // namespace mprof::dumper
