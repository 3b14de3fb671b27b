// SPDX-License-Identifier: Apache-2.0
// What the events tell about time: the profile of a window, the heap over time, allocation rates,
// lifetimes. All estimates, weighted like the totals; exact at rate 1.
//
// Memory    per bucket, or per interval of the table; never the events.
// Fails     TimeError, one line, for a time that is not understood.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/events.h"

namespace mprof::dumper {

struct TimeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A point of time as a person gives it.
struct TimePoint {
  enum class From { kStart, kEnd, kRealtime };
  From from = From::kStart;
  int64_t ns = 0;  // kEnd: negative, before the end; kRealtime: since 1970
};
// "1.5s", "200ms", "2m", "1h", "3" (seconds) since the start; "-10s" before the end; RFC 3339.
// `option` is for the message.
[[nodiscard]] TimePoint parse_time(std::string_view option, std::string_view text);

// A window in nanoseconds since the start, both ends included.
struct Window {
  int64_t from_ns = 0;
  int64_t to_ns = INT64_MAX;
};
// `end_ns`: what kEnd is relative to. Throws when the window is empty.
[[nodiscard]] Window make_window(const std::optional<TimePoint>& from,
                                 const std::optional<TimePoint>& to, const TickClock& clock,
                                 int64_t end_ns);
// The last moment of the dump in nanoseconds since the start.
[[nodiscard]] int64_t end_of(const Dump& dump);

// What a bucket did. `alloc - free` is the live part of each.
struct WindowTotals {
  format::HeapTotals within;  // allocations and frees in the window; its live part is a difference
  format::HeapTotals born;    // allocations in the window, and of those the frees in it: what
                              // stayed is never negative
  format::HeapTotals until;   // from the start to the end of the window: the heap at that moment
};
struct WindowProfile {
  Window window;
  std::vector<WindowTotals> buckets;  // by row of the bucket table
  // By row of the count table. A wait belongs to the window in which it ended.
  std::vector<format::CountTotals> counts;
  StreamHealth health;
};
[[nodiscard]] WindowProfile profile_of_window(const Dump& dump, const Window& window);

struct Interval {
  uint64_t alloc_objects = 0;
  uint64_t alloc_bytes = 0;
  uint64_t free_objects = 0;
  uint64_t free_bytes = 0;
  uint64_t lost = 0;       // events dropped since a moment in this interval
  int64_t live_bytes = 0;  // at its end; where events were lost, an estimate between the losses
};
struct Timeline {
  Window window;
  int64_t interval_ns = 1;
  std::vector<Interval> intervals;
  StreamHealth health;
};
inline constexpr size_t kMaxIntervals = 100'000;
// `window` must be finite: see make_window() and end_of().
[[nodiscard]] Timeline make_timeline(const Dump& dump, const Window& window, size_t intervals);
[[nodiscard]] std::string timeline_table(const Timeline& timeline, const TickClock& clock);
[[nodiscard]] std::string timeline_csv(const Timeline& timeline);

// Classes of lifetimes: below 1 us, below 10 us, ..., below 10^10 us (2.8 hours), longer.
inline constexpr size_t kLifetimeClasses = 12;
struct Lifetimes {
  std::array<uint64_t, kLifetimeClasses> freed_bytes{};
  std::array<uint64_t, kLifetimeClasses> freed_objects{};  // 16 fractional bits
  uint64_t alloc_bytes = 0;
  uint64_t alloc_objects = 0;

  void add(const Lifetimes& other);
  [[nodiscard]] uint64_t freed_bytes_within_us(uint64_t us) const;  // a power of ten
  [[nodiscard]] uint64_t freed_bytes_total() const;
  [[nodiscard]] uint64_t live_bytes() const;
};
struct LifetimeReport {
  std::vector<Lifetimes> buckets;  // by row of the bucket table
  Lifetimes total;
  StreamHealth health;
};
// Of the blocks that were freed in the window; allocations count when they lie in it.
[[nodiscard]] LifetimeReport measure_lifetimes(const Dump& dump, const Window& window);

// The name of the site of a bucket; buckets of one name are added up.
using SiteName = std::function<std::string(uint32_t bucket)>;
// The total as a histogram, then the `sites` sites with most bytes freed within a millisecond.
[[nodiscard]] std::string lifetimes_table(const LifetimeReport& report, const SiteName& site_name,
                                          size_t sites, const TickClock& clock);
[[nodiscard]] std::string lifetimes_csv(const LifetimeReport& report, const SiteName& site_name);

}  // namespace mprof::dumper
