// SPDX-License-Identifier: Apache-2.0
// The rate with which a thread draws its waits for the block profile.
//
// A wait as long as the rate or longer is always recorded, and a hundred threads that hand work to
// each other wait so long each time. So a thread that records a wait more often than every
// `busiest` draws with a rate that grows by an eighth at each record, up to `busiest`; it shrinks
// the same way, down to the rate that was set. A thread that does nothing but wait then records
// about one wait in `busiest`, however many they are.
//
// Unbiased: the rate follows from the records before alone, and each record has the weight that it
// was drawn with.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mprof::preload {

// Ten times the rate that was set, but a millisecond at most; with more than eight threads, more by
// their number: some 10,000 records a second are enough for any program.
constexpr uint64_t busiest_rate_ns(uint64_t set_ns, uint64_t threads) {
  constexpr uint64_t kTimes = 10;
  constexpr uint64_t kMostNs = 1000000;
  constexpr uint64_t kFewThreads = 8;
  return std::max(set_ns, std::min(set_ns * kTimes, kMostNs)) *
         std::max(uint64_t{1}, threads / kFewThreads);
}

class BlockRate {  // all zero: none was recorded
 public:
  // Of another setting than that of the last record nothing is known.
  [[nodiscard]] uint64_t ns(uint64_t set_ns) const { return set_ns == set_ns_ ? ns_ : set_ns; }

  // A wait is recorded; `is_busy`: less than `busiest_ns` after the one before.
  void note_record(uint64_t set_ns, uint64_t busiest_ns, bool is_busy) {
    const uint64_t drawn_with = ns(set_ns);
    const uint64_t step = drawn_with / 8;
    ns_ = std::clamp(is_busy ? drawn_with + step : drawn_with - step, set_ns, busiest_ns);
    set_ns_ = set_ns;
  }

 private:
  uint64_t set_ns_;
  uint64_t ns_;
};

}  // namespace mprof::preload
