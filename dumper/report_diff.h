// SPDX-License-Identifier: Apache-2.0
// `mprof diff`: what each function has in a profile B beyond what it has in a profile A. Functions
// are told apart by name, as in `mprof top`, so builds and runs with other addresses compare; code
// without names, by the file it is in.
//
// Threads   any.
// Fails     std::invalid_argument: profiles of different values, or a value type they do not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dumper/report_top.h"

namespace mprof::dumper {

struct DiffOptions {
  TopSort by = TopSort::kFlat;  // which value of a function is compared
  size_t rows = 20;             // 0: all
  std::string value_type;       // by name; "": B's default
  std::string unit = "auto";
  size_t width_columns = 0;  // of the terminal; 0: do not shorten anything
};

struct DiffValue {
  int64_t a = 0;
  int64_t b = 0;
  int64_t difference = 0;  // b - a
  double variance = 0;     // of the difference; A and B are taken for independent
};

struct DiffRow {
  TopRow function;  // as it is in B, or in A if B does not have it
  DiffValue value;
};

struct DiffReport {
  ValueType type;
  std::vector<DiffRow> rows;  // those that differ, the largest difference first
  size_t equal_functions = 0;
  DiffValue total;
  // Both sides have variances. A file has none, so the error of what is compared with it is not
  // known.
  bool is_estimate = false;
  std::string note;  // why drop_frames was not applied
};

[[nodiscard]] DiffReport compute_diff(const Profile& a, const Profile& b,
                                      const DiffOptions& options);

// What stands for A and B above the table.
struct DiffSide {
  std::string name;
  const Profile& profile;
};
[[nodiscard]] std::string format_diff(const DiffSide& a, const DiffSide& b,
                                      const DiffReport& report, const DiffOptions& options);

}  // namespace mprof::dumper
