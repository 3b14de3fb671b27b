// SPDX-License-Identifier: Apache-2.0
// A set of numbers that mostly follow one another: small as long as they do.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace mprof::dumper {

class NumberSet {
 public:
  // False: it was there.
  bool insert(uint64_t number) {
    const auto after = ranges_.upper_bound(number);
    const auto before = after == ranges_.begin() ? ranges_.end() : std::prev(after);
    if (before != ranges_.end() && number <= before->second) return false;
    const bool joins_before = before != ranges_.end() && before->second + 1 == number;
    const bool joins_after = after != ranges_.end() && after->first == number + 1;
    const uint64_t last = joins_after ? after->second : number;
    if (joins_after) ranges_.erase(after);
    if (joins_before)
      before->second = last;
    else
      ranges_.emplace(number, last);
    return true;
  }

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first to last
};

}  // namespace mprof::dumper
