// SPDX-License-Identifier: Apache-2.0
#include "dumper/cpu_times.h"

#include <algorithm>

#include "dumper/profile.h"
#include "dumper/timeline.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

uint64_t lost(const Dump& dump, format::Lost reason) {
  return dump.header().lost[static_cast<size_t>(reason)].load(std::memory_order_relaxed);
}

uint64_t saturating_product(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

// The events know it better than the header of a process that was killed.
int64_t last_moment_ns(const Dump& dump) {
  if (dump.life() == Life::kEndedWithoutCleanEnd) return end_of(dump);
  return static_cast<int64_t>(dump.end_realtime_ns() - dump.header().realtime_start_ns);
}

uint64_t profiled_ns(const Dump& dump) {
  const TickClock clock = dump.clock();
  const uint64_t before =
      clock.duration_to_ns(dump.header().cpu_profiled_ticks.load(std::memory_order_relaxed));
  const uint64_t on_ticks = dump.header().cpu_on_ticks.load(std::memory_order_relaxed);
  if (on_ticks == 0) return before;
  const int64_t since =
      saturating_add(last_moment_ns(dump), saturating_negate(clock.since_start_ns(on_ticks)));
  return before + static_cast<uint64_t>(std::max<int64_t>(since, 0));
}

}  // namespace

CpuTimes cpu_times(const Dump& dump, const CountReading& reading) {
  const CountSums sums = sum(dump, reading, format::CountKind::kCpu);
  CpuTimes times;
  times.samples = static_cast<uint64_t>(sums.count.value);
  times.signals = sums.samples;
  times.sampled_ns = static_cast<uint64_t>(std::min(sums.delay_ns.value, 9e18));
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kThreads));
  for (uint32_t row = 0; row < rows; ++row) {
    const auto thread = dump.thread(row);
    if (!thread) continue;
    times.in_mprof_ns += thread->cpu_in_mprof_ns;
    times.threads += thread->cpu_samples + thread->cpu_in_mprof_ns != 0 ? 1 : 0;
  }
  times.dropped = lost(dump, format::Lost::kCpuDropped);
  times.dropped_ns = saturating_product(times.dropped, cpu_period_ns(dump, reading));
  times.without_timer = lost(dump, format::Lost::kNoCpuTimer);
  times.profiled_ns = profiled_ns(dump);
  times.used_ns = dump.header().cpu_used_ns.load(std::memory_order_relaxed);
  times.used_is_final = dump.life() == Life::kEndedCleanly;
  return times;
}

uint64_t cpu_period_ns(const Dump& dump, const CountReading& reading) {
  if (const uint32_t hz = dump.header().cpu_hz; hz != 0)
    return std::max<uint64_t>(kNsPerSecond / hz, 1);
  const CountSums sums = sum(dump, reading, format::CountKind::kCpu);
  if (sums.count.value < 1) return kNsPerSecond / format::kUsualCpuHz;
  const double mean_ns = sums.delay_ns.value / sums.count.value;
  return static_cast<uint64_t>(std::clamp(mean_ns, 1.0, 9e18));
}

}  // namespace mprof::dumper
