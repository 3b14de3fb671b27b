// SPDX-License-Identifier: Apache-2.0
// Ticks of the target's cycle counter as times. A straight line through two points; unknown ticks
// (0) give 0.
#pragma once

#include <cstdint>

#include "format/dump.h"

namespace mprof::dumper {

class TickClock {
 public:
  TickClock() = default;
  // Reads the two points of the header. When they are too close together and the dump is from
  // this boot of this machine, a third one is taken here and now.
  explicit TickClock(const format::DumpHeader& header);

  [[nodiscard]] double ns_per_tick() const { return ns_per_tick_; }
  // False: only one point is known and this machine cannot add another.
  [[nodiscard]] bool calibrated() const { return calibrated_; }
  [[nodiscard]] uint64_t monotonic_ns(uint64_t ticks) const;
  [[nodiscard]] uint64_t realtime_ns(uint64_t ticks) const;
  // Nanoseconds since the target started; negative before.
  [[nodiscard]] int64_t since_start_ns(uint64_t ticks) const;
  [[nodiscard]] uint64_t duration_to_ns(uint64_t ticks) const;
  // The other way; for the ends of a time window.
  [[nodiscard]] uint64_t ticks_at_since_start_ns(int64_t ns) const;
  // Newest moment that the target noted by itself.
  [[nodiscard]] uint64_t last_realtime_ns() const;

 private:
  format::ClockPoint first_{};
  format::ClockPoint last_{};
  uint64_t realtime_start_ns_ = 0;
  double ns_per_tick_ = 1;
  bool calibrated_ = true;
};

}  // namespace mprof::dumper
