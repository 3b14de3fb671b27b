// SPDX-License-Identifier: Apache-2.0
// The count buckets of a dump as block, mutex and threadcreate profiles.
//
// Estimates Values are sums of weighed events, each with its variance; see estimate.h. Times are
//           ticks in the dump and nanoseconds here.
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

inline constexpr format::CountKind kCountKinds[] = {
    format::CountKind::kBlock, format::CountKind::kMutex, format::CountKind::kThreadCreate};
[[nodiscard]] const char* view_name(format::CountKind kind);
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
  Estimate delay_ns;
  uint64_t samples = 0;
  uint64_t longest_ns = 0;
};
[[nodiscard]] CountSums sum(const Dump& dump, const CountReading& reading, format::CountKind kind);

[[nodiscard]] PlacedProfile make_profile(const Dump& dump, const CountReading& reading,
                                         format::CountKind kind, LabelNames& names);

}  // namespace mprof::dumper
