// SPDX-License-Identifier: Apache-2.0
// Parts of profiles in memory, for the tests of what is done with them.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dumper/profile.h"

namespace mprof::test {

inline dumper::Profile counts() {
  dumper::Profile profile;
  profile.types = {{"events", "count"}};
  profile.period_type = {"events", "count"};
  profile.period = 1;
  return profile;
}

inline dumper::Sample count_of(std::vector<uint32_t> stack, int64_t value) {
  return {std::move(stack), {value}, {}, {}};
}

inline std::vector<std::string> names(const dumper::Profile& profile,
                                      const dumper::Sample& sample) {
  std::vector<std::string> result;
  for (uint32_t location : sample.locations)
    for (const dumper::Line& line : profile.locations[location].lines)
      result.push_back(profile.functions[line.function].name);
  return result;
}

// Of the std::invalid_argument that the action throws; "" if it throws none.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace mprof::test
