// SPDX-License-Identifier: Apache-2.0
// The count buckets of a dump as block, mutex, threadcreate and cpu profiles, and as the profiles
// of the program's own.
//
// Estimates Values are sums of weighed events, each with its variance; see estimate.h. Times of
//           waits are ticks in the dump and nanoseconds here.
// Cut       None is needed: these totals only grow, and no row depends on another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/estimate.h"
#include "dumper/label_names.h"
#include "dumper/placed_profile.h"

namespace mprof::dumper {

// Those that mprof itself fills.
inline constexpr format::CountKind kCountKinds[] = {
    format::CountKind::kBlock, format::CountKind::kMutex, format::CountKind::kThreadCreate,
    format::CountKind::kCpu};
[[nodiscard]] const char* view_name(format::CountKind kind);
// The same, or the name that the program gave.
[[nodiscard]] std::string profile_name(const Dump& dump, format::CountKind kind);
// False: a setting turned it off.
[[nodiscard]] bool is_recorded(const Dump& dump, format::CountKind kind);

struct CountRowReading {
  uint32_t row = 0;
  CountCopy copy;
};
struct CountReading {
  std::vector<CountRowReading> rows;
  std::string window;  // non-empty: events of this part of the run only
};
[[nodiscard]] CountReading read_counts(const Dump& dump);

struct CountSums {
  Estimate count;
  Estimate delay_ns;  // kCpu: processor time
  // Of a profile of the program's own; `count` is what is left.
  uint64_t added = 0;
  uint64_t removed = 0;
  uint64_t samples = 0;
  uint64_t longest_ns = 0;
};
[[nodiscard]] CountSums sum(const Dump& dump, const CountReading& reading, format::CountKind kind);

[[nodiscard]] PlacedProfile make_profile(const Dump& dump, const CountReading& reading,
                                         format::CountKind kind, LabelNames& names);

}  // namespace mprof::dumper
