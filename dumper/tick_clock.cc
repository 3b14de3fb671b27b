// SPDX-License-Identifier: Apache-2.0
#include "dumper/tick_clock.h"

#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <optional>

namespace mprof::dumper {
namespace {

using format::ClockPoint;

constexpr uint64_t kGoodBaseNs = 100'000'000;
constexpr int64_t kSameBootNs = 2'000'000'000;
constexpr double kMaxNs = 9e18;

uint64_t now_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t load(const uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); }

ClockPoint read_last(const format::DumpHeader& header) {
  ClockPoint point{};
  for (int tries = 0; tries < 1000; ++tries) {
    const uint64_t before = header.clock_version.load(std::memory_order_acquire);
    point = {load(header.clock_last.ticks), load(header.clock_last.monotonic_ns)};
    std::atomic_thread_fence(std::memory_order_acquire);
    const uint64_t after = header.clock_version.load(std::memory_order_relaxed);
    if (before == after && before % 2 == 0) return point;
  }
  return {};  // a target that was killed while it wrote
}

// A cycle counter that is the target's own only if the dump was made since this machine booted.
std::optional<ClockPoint> point_of_this_machine(const format::DumpHeader& header) {
#if defined(__x86_64__)
  const auto their_boot =
      static_cast<int64_t>(header.realtime_start_ns - header.clock_first.monotonic_ns);
  const ClockPoint now{__rdtsc(), now_ns(CLOCK_MONOTONIC)};
  const auto our_boot = static_cast<int64_t>(now_ns(CLOCK_REALTIME) - now.monotonic_ns);
  const auto apart =
      static_cast<int64_t>(static_cast<uint64_t>(their_boot) - static_cast<uint64_t>(our_boot));
  if (apart < kSameBootNs && apart > -kSameBootNs) return now;
#else
  (void)header;
#endif
  return std::nullopt;
}

std::optional<double> slope(ClockPoint a, ClockPoint b) {
  if (b.ticks <= a.ticks || b.monotonic_ns <= a.monotonic_ns) return std::nullopt;
  const double ratio =
      static_cast<double>(b.monotonic_ns - a.monotonic_ns) / static_cast<double>(b.ticks - a.ticks);
  if (ratio < 1e-4 || ratio > 1e6) return std::nullopt;
  return ratio;
}

uint64_t clamped(double ns) { return static_cast<uint64_t>(std::clamp(ns, 0.0, kMaxNs)); }

}  // namespace

TickClock::TickClock(const format::DumpHeader& header)
    : first_{load(header.clock_first.ticks), load(header.clock_first.monotonic_ns)},
      last_(read_last(header)),
      realtime_start_ns_(load(header.realtime_start_ns)) {
  if (header.ticks_are_ns != 0) return;
  std::optional<double> ratio;
  if (last_.monotonic_ns - first_.monotonic_ns >= kGoodBaseNs) ratio = slope(first_, last_);
  if (!ratio)
    if (const auto now = point_of_this_machine(header)) ratio = slope(first_, *now);
  if (!ratio) ratio = slope(first_, last_);
  calibrated_ = ratio.has_value();
  ns_per_tick_ = ratio.value_or(1);
}

int64_t TickClock::since_start_ns(uint64_t ticks) const {
  if (ticks == 0) return 0;
  const auto delta = static_cast<int64_t>(ticks - first_.ticks);
  return static_cast<int64_t>(
      std::clamp(static_cast<double>(delta) * ns_per_tick_, -kMaxNs, kMaxNs));
}

uint64_t TickClock::monotonic_ns(uint64_t ticks) const {
  if (ticks == 0) return 0;
  return clamped(static_cast<double>(first_.monotonic_ns) +
                 static_cast<double>(since_start_ns(ticks)));
}

uint64_t TickClock::realtime_ns(uint64_t ticks) const {
  if (ticks == 0) return 0;
  return realtime_start_ns_ + static_cast<uint64_t>(since_start_ns(ticks));
}

uint64_t TickClock::duration_to_ns(uint64_t ticks) const {
  return clamped(static_cast<double>(ticks) * ns_per_tick_);
}

uint64_t TickClock::ticks_at_since_start_ns(int64_t ns) const {
  const double ticks = static_cast<double>(first_.ticks) + static_cast<double>(ns) / ns_per_tick_;
  return ticks >= 1.8e19 ? UINT64_MAX : static_cast<uint64_t>(std::max(ticks, 1.0));
}

uint64_t TickClock::last_realtime_ns() const {
  return realtime_ns(std::max(last_.ticks, first_.ticks));
}

}  // namespace mprof::dumper
