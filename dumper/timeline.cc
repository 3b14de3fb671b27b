// SPDX-License-Identifier: Apache-2.0
#include "dumper/timeline.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "format/weights.h"

#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

using format::RecordKind;

constexpr double kNsPerSecond = 1e9;
constexpr double kMaxSeconds = 9e9;  // 285 years; fits nanoseconds in 63 bits
constexpr size_t kBarWidth = 32;

struct Unit {
  std::string_view suffix;
  double seconds;
};
// Longer suffixes first: "ms" before "s".
constexpr Unit kUnits[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1},
                           {"m", 60},    {"h", 3600},  {"", 1}};

[[noreturn]] void reject(std::string_view option, std::string_view text) {
  throw TimeError(fmt::format(
      "{}: \"{}\" is not a time; accepted: 1.5s, 200ms, 2m, 1h since the start, -10s before the "
      "end, or 2026-01-31T12:00:00Z",
      option, text));
}

std::optional<double> parse_seconds(std::string_view text) {
  const size_t number_end = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + number_end, number);
  if (error != std::errc{} || end != text.data() + number_end) return std::nullopt;
  for (const Unit& unit : kUnits)
    if (text.substr(number_end) == unit.suffix && number * unit.seconds <= kMaxSeconds)
      return number * unit.seconds;
  return std::nullopt;
}

std::optional<int> take_number(std::string_view& text, size_t digits, int min, int max) {
  int value = 0;
  if (text.size() < digits) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, value);
  if (error != std::errc{} || end != text.data() + digits || text[0] == '-') return std::nullopt;
  text.remove_prefix(digits);
  if (value < min || value > max) return std::nullopt;
  return value;
}

bool take(std::string_view& text, std::string_view accepted) {
  if (text.empty() || accepted.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// ".25" as nanoseconds.
std::optional<int64_t> take_fraction(std::string_view& text) {
  if (!take(text, ".")) return 0;
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || digits > 9) return std::nullopt;
  int64_t ns = 0;
  for (size_t i = 0; i < 9; ++i) ns = ns * 10 + (i < digits ? text[i] - '0' : 0);
  text.remove_prefix(digits);
  return ns;
}

// "Z", "+01:00"; in seconds.
std::optional<int64_t> take_zone(std::string_view& text) {
  if (take(text, "Zz")) return 0;
  const int64_t sign = !text.empty() && text[0] == '-' ? -1 : 1;
  if (!take(text, "+-")) return std::nullopt;
  const auto hours = take_number(text, 2, 0, 23);
  if (!hours || !take(text, ":")) return std::nullopt;
  const auto minutes = take_number(text, 2, 0, 59);
  if (!minutes) return std::nullopt;
  return sign * (*hours * 3600 + *minutes * 60);
}

bool take_part(std::string_view& text, size_t digits, int min, int max, int* out) {
  const auto number = take_number(text, digits, min, max);
  *out = number.value_or(0);
  return number.has_value();
}

std::optional<tm> take_date_and_time(std::string_view& text) {
  tm parts{};
  const bool good = take_part(text, 4, 1970, 2200, &parts.tm_year) && take(text, "-") &&
                    take_part(text, 2, 1, 12, &parts.tm_mon) && take(text, "-") &&
                    take_part(text, 2, 1, 31, &parts.tm_mday) && take(text, "Tt ") &&
                    take_part(text, 2, 0, 23, &parts.tm_hour) && take(text, ":") &&
                    take_part(text, 2, 0, 59, &parts.tm_min) && take(text, ":") &&
                    take_part(text, 2, 0, 60, &parts.tm_sec);
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  if (!good) return std::nullopt;
  tm normalized = parts;  // 31 April becomes 1 May; a leap second may move the day too
  ::timegm(&normalized);
  if (normalized.tm_mday != parts.tm_mday && parts.tm_sec != 60) return std::nullopt;
  return parts;
}

std::optional<int64_t> parse_rfc3339(std::string_view text) {
  auto parts = take_date_and_time(text);
  if (!parts) return std::nullopt;
  const auto fraction = take_fraction(text);
  if (!fraction) return std::nullopt;
  const auto zone = take_zone(text);
  if (!zone || !text.empty()) return std::nullopt;
  return (::timegm(&*parts) - *zone) * 1'000'000'000 + *fraction;
}

int64_t resolve(const TimePoint& point, const TickClock& clock, int64_t end_ns) {
  if (point.from == TimePoint::From::kStart) return point.ns;
  if (point.from == TimePoint::From::kEnd) return std::max<int64_t>(0, end_ns + point.ns);
  return point.ns - static_cast<int64_t>(clock.realtime_ns(clock.ticks_at_since_start_ns(0)));
}

double seconds_of(int64_t ns) { return static_cast<double>(ns) / kNsPerSecond; }

std::string bytes_text(double bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; std::abs(bytes) >= 1024 && unit < std::size(kNames) - 1; ++unit) bytes /= 1024;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kNames[unit]);
}

double objects(uint64_t fixed_point) {
  return static_cast<double>(fixed_point) / static_cast<double>(format::kWeightOne);
}

double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

void add_alloc(format::HeapTotals& totals, const Event& event) {
  const double variance = format::variance_factor(event.weight);
  const auto size = static_cast<double>(event.size_bytes);
  totals.alloc_objects += event.weight;
  totals.alloc_bytes += event.bytes;
  totals.alloc_samples += 1;
  totals.alloc_objects_variance += variance;
  totals.alloc_bytes_variance += size * size * variance;
}

void add_free(format::HeapTotals& totals, const Event& event) {
  const double variance = format::variance_factor(event.weight);
  const auto size = static_cast<double>(event.size_bytes);
  totals.free_objects += event.weight;
  totals.free_bytes += event.bytes;
  totals.free_samples += 1;
  totals.free_objects_variance += variance;
  totals.free_bytes_variance += size * size * variance;
}

// A window in ticks: one conversion instead of one an event.
struct TickWindow {
  TickWindow(const Window& window, const TickClock& clock)
      : from(window.from_ns <= 0 ? 0 : clock.ticks_at_since_start_ns(window.from_ns)),
        to(window.to_ns == INT64_MAX ? UINT64_MAX : clock.ticks_at_since_start_ns(window.to_ns)) {}
  [[nodiscard]] bool has(uint64_t ticks) const { return ticks >= from && ticks <= to; }
  uint64_t from;
  uint64_t to;
};

void add_to_window(WindowTotals& totals, const Event& event, const TickWindow& window) {
  if (event.ticks > window.to) return;
  if (event.kind == RecordKind::kAlloc) {
    add_alloc(totals.until, event);
    if (event.ticks < window.from) return;
    add_alloc(totals.within, event);
    add_alloc(totals.born, event);
  } else {
    add_free(totals.until, event);
    if (event.ticks < window.from) return;
    add_free(totals.within, event);
    if (event.alloc_ticks >= window.from) add_free(totals.born, event);
  }
}

std::string health_lines(const StreamHealth& health, const TickClock& clock) {
  std::string out;
  for (const std::string& line : health.lines(clock))
    out += fmt::format("# missing: {}\n", printable(line));
  return out;
}

void add_to_interval(Interval& interval, const Event& event) {
  if (event.kind == RecordKind::kLost) {
    interval.lost += event.lost;
  } else if (event.kind == RecordKind::kAlloc) {
    interval.alloc_objects += event.weight;
    interval.alloc_bytes += event.bytes;
  } else if (event.kind == RecordKind::kFree) {
    interval.free_objects += event.weight;
    interval.free_bytes += event.bytes;
  }
}

// Interval number of a time in the window.
size_t index_of(int64_t ns, const Timeline& timeline) {
  const int64_t index = (ns - timeline.window.from_ns) / timeline.interval_ns;
  return std::min(static_cast<size_t>(index), timeline.intervals.size() - 1);
}

// Modulo 2^64, like the sums that it is compared with.
uint64_t live_in_buckets(const Dump& dump) {
  uint64_t live = 0;
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kBuckets));
  for (uint32_t row = 0; row < rows; ++row)
    if (const auto bucket = dump.bucket(row))
      live += bucket->totals.alloc_bytes - bucket->totals.free_bytes;
  return live;
}

// The heap before the first loss follows from the events before it, the heap after the last loss
// from the buckets and the events after it. What the lost events changed lies between; it is
// spread over the losses by their counts. A gap without a count is taken to lie at the start.
void fill_in_live(Timeline& timeline, const Interval& before, const Interval& after,
                  uint64_t live_at_end) {
  uint64_t by_events =
      before.alloc_bytes - before.free_bytes + after.alloc_bytes - after.free_bytes;
  uint64_t lost = before.lost + after.lost;
  for (const Interval& interval : timeline.intervals) {
    by_events += interval.alloc_bytes - interval.free_bytes;
    lost += interval.lost;
  }
  const bool whole = timeline.health.whole();
  const auto unseen =
      static_cast<double>(whole ? 0 : static_cast<int64_t>(live_at_end - by_events));
  uint64_t live = before.alloc_bytes - before.free_bytes;
  uint64_t lost_so_far = before.lost;
  for (Interval& interval : timeline.intervals) {
    live += interval.alloc_bytes - interval.free_bytes;
    lost_so_far += interval.lost;
    const double share =
        lost == 0 ? 1 : static_cast<double>(lost_so_far) / static_cast<double>(lost);
    interval.live_bytes =
        static_cast<int64_t>(live + static_cast<uint64_t>(std::llround(unseen * share)));
  }
}

std::string bar(int64_t value, int64_t largest) {
  if (value <= 0 || largest <= 0) return "";
  const double share = static_cast<double>(value) / static_cast<double>(largest);
  return std::string(static_cast<size_t>(std::lround(share * kBarWidth)), '#');
}

constexpr std::array<const char*, kLifetimeClasses> kClassNames = {
    "< 1 us", "< 10 us", "< 100 us", "< 1 ms",   "< 10 ms",   "< 100 ms",
    "< 1 s",  "< 10 s",  "< 100 s",  "< 1000 s", "< 10000 s", "longer"};

size_t lifetime_class(uint64_t ns) {
  size_t index = 0;
  for (uint64_t limit = 1000; index < kLifetimeClasses - 1 && ns >= limit; limit *= 10) ++index;
  return index;
}

struct Site {
  std::string name;
  Lifetimes lifetimes;
};

std::vector<Site> sites_of(const LifetimeReport& report, const SiteName& site_name) {
  std::map<std::string, Lifetimes> by_name;
  for (uint32_t row = 0; row < report.buckets.size(); ++row) {
    const Lifetimes& lifetimes = report.buckets[row];
    if (lifetimes.alloc_objects != 0 || lifetimes.freed_bytes_total() != 0)
      by_name[site_name(row)].add(lifetimes);
  }
  std::vector<Site> sites;
  for (auto& [name, lifetimes] : by_name) sites.push_back({name, lifetimes});
  std::stable_sort(sites.begin(), sites.end(), [](const Site& a, const Site& b) {
    return a.lifetimes.freed_bytes_within_us(1000) > b.lifetimes.freed_bytes_within_us(1000);
  });
  return sites;
}

std::string lifetime_summary(const Lifetimes& total) {
  const uint64_t freed = total.freed_bytes_total();
  return fmt::format(
      "allocated {}, freed {}, still live {}\nof the bytes freed, within 1 ms: {:.1f} %, within "
      "1 s: {:.1f} %\n",
      bytes_text(static_cast<double>(total.alloc_bytes)), bytes_text(static_cast<double>(freed)),
      bytes_text(static_cast<double>(total.live_bytes())),
      percent(total.freed_bytes_within_us(1000), freed),
      percent(total.freed_bytes_within_us(1'000'000), freed));
}

std::string lifetime_histogram(const Lifetimes& total) {
  std::string out =
      fmt::format("{:>10} {:>14} {:>12} {:>7}\n", "lifetime", "blocks", "bytes", "share");
  const uint64_t largest = *std::max_element(total.freed_bytes.begin(), total.freed_bytes.end());
  for (size_t i = 0; i < kLifetimeClasses; ++i)
    out += fmt::format(
        "{:>10} {:>14.0f} {:>12} {:>6.1f}% {}\n", kClassNames[i], objects(total.freed_objects[i]),
        bytes_text(static_cast<double>(total.freed_bytes[i])),
        percent(total.freed_bytes[i], total.freed_bytes_total()),
        bar(static_cast<int64_t>(total.freed_bytes[i]), static_cast<int64_t>(largest)));
  return out;
}

// In CSV a name with a quote, a comma or a line end must be quoted; all names are.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

}  // namespace

TimePoint parse_time(std::string_view option, std::string_view text) {
  const bool before_end = !text.empty() && text[0] == '-';
  if (const auto seconds = parse_seconds(before_end ? text.substr(1) : text)) {
    const auto ns = static_cast<int64_t>(std::llround(*seconds * kNsPerSecond));
    if (before_end) return {TimePoint::From::kEnd, -ns};
    return {TimePoint::From::kStart, ns};
  }
  if (const auto ns = parse_rfc3339(text)) return {TimePoint::From::kRealtime, *ns};
  reject(option, text);
}

Window make_window(const std::optional<TimePoint>& from, const std::optional<TimePoint>& to,
                   const TickClock& clock, int64_t end_ns) {
  Window window{0, end_ns};
  if (from) window.from_ns = resolve(*from, clock, end_ns);
  if (to) window.to_ns = resolve(*to, clock, end_ns);
  window.from_ns = std::max<int64_t>(window.from_ns, 0);
  if (window.from_ns > window.to_ns)
    throw TimeError(
        fmt::format("the window is empty: it begins at {:.3f} s and ends at {:.3f} s; "
                    "the program's last moment is {:.3f} s",
                    seconds_of(window.from_ns), seconds_of(window.to_ns), seconds_of(end_ns)));
  return window;
}

// A target that was killed could not note its end; its last event may be later than the last
// sign of life in the dump.
int64_t end_of(const Dump& dump) {
  const TickClock clock = dump.clock();
  auto end_ns = static_cast<int64_t>(dump.end_realtime_ns() - dump.header().realtime_start_ns);
  if (dump.life() != Life::kRunning) {
    const StreamHealth health = read_events(dump, [](const Event&) {});
    end_ns = std::max(end_ns, clock.since_start_ns(health.last_ticks) + 1);
  }
  return std::max<int64_t>(end_ns, 1);
}

WindowProfile profile_of_window(const Dump& dump, const Window& window) {
  WindowProfile profile;
  profile.window = window;
  profile.buckets.resize(dump.rows(format::TableId::kBuckets));
  const TickWindow ticks(window, dump.clock());
  profile.counts.resize(dump.rows(format::TableId::kCounts));
  profile.health = read_events(dump, [&](const Event& event) {
    if (event.is_of_heap() && event.row < profile.buckets.size())
      add_to_window(profile.buckets[event.row], event, ticks);
    if (event.kind == RecordKind::kCounted && event.row < profile.counts.size() &&
        ticks.has(event.ticks))
      add_to(profile.counts[event.row], {event.value, event.weight});
  });
  return profile;
}

Timeline make_timeline(const Dump& dump, const Window& window, size_t intervals) {
  Timeline timeline;
  timeline.window = window;
  timeline.intervals.resize(std::clamp<size_t>(intervals, 1, kMaxIntervals));
  const auto count = static_cast<int64_t>(timeline.intervals.size());
  const int64_t span_ns = std::max<int64_t>(window.to_ns - window.from_ns, 1);
  timeline.interval_ns = std::max<int64_t>((span_ns + count - 1) / count, 1);
  const TickClock clock = dump.clock();
  Interval before;
  Interval after;
  timeline.health = read_events(dump, [&](const Event& event) {
    const int64_t ns = clock.since_start_ns(event.ticks);
    Interval* place = ns > window.to_ns ? &after : &before;
    if (ns >= window.from_ns && ns <= window.to_ns)
      place = &timeline.intervals[index_of(ns, timeline)];
    add_to_interval(*place, event);
  });
  after.lost += timeline.health.lost_at_the_end;
  fill_in_live(timeline, before, after, live_in_buckets(dump));
  return timeline;
}

std::string timeline_table(const Timeline& timeline, const TickClock& clock) {
  int64_t largest = 0;
  for (const Interval& interval : timeline.intervals)
    largest = std::max(largest, interval.live_bytes);
  const double seconds = seconds_of(timeline.interval_ns);
  std::string out = health_lines(timeline.health, clock);
  out += fmt::format("{:>12} {:>12} {:>14} {:>12} {:>14}  {}\n", "until (s)", "heap", "allocated/s",
                     "blocks/s", "freed/s", "heap");
  for (size_t i = 0; i < timeline.intervals.size(); ++i) {
    const Interval& interval = timeline.intervals[i];
    const int64_t until =
        timeline.window.from_ns + static_cast<int64_t>(i + 1) * timeline.interval_ns;
    out += fmt::format("{:>12.3f} {:>12} {:>14} {:>12.0f} {:>14}  {}{}\n",
                       seconds_of(std::min(until, timeline.window.to_ns)),
                       bytes_text(static_cast<double>(interval.live_bytes)),
                       bytes_text(static_cast<double>(interval.alloc_bytes) / seconds),
                       objects(interval.alloc_objects) / seconds,
                       bytes_text(static_cast<double>(interval.free_bytes) / seconds),
                       bar(interval.live_bytes, largest),
                       interval.lost == 0 ? "" : fmt::format(" ({} events lost)", interval.lost));
  }
  return out;
}

std::string timeline_csv(const Timeline& timeline) {
  std::string out =
      "from_seconds,to_seconds,live_bytes,alloc_bytes,alloc_objects,free_bytes,free_objects,"
      "lost_events\n";
  int64_t from = timeline.window.from_ns;
  for (const Interval& interval : timeline.intervals) {
    const int64_t to = std::min(from + timeline.interval_ns, timeline.window.to_ns);
    out +=
        fmt::format("{:.9f},{:.9f},{},{},{:.4f},{},{:.4f},{}\n", seconds_of(from), seconds_of(to),
                    interval.live_bytes, interval.alloc_bytes, objects(interval.alloc_objects),
                    interval.free_bytes, objects(interval.free_objects), interval.lost);
    from = to;
  }
  return out;
}

void Lifetimes::add(const Lifetimes& other) {
  for (size_t i = 0; i < kLifetimeClasses; ++i) {
    freed_bytes[i] += other.freed_bytes[i];
    freed_objects[i] += other.freed_objects[i];
  }
  alloc_bytes += other.alloc_bytes;
  alloc_objects += other.alloc_objects;
}

uint64_t Lifetimes::freed_bytes_within_us(uint64_t us) const {
  uint64_t sum = 0;
  size_t index = 0;
  for (uint64_t limit = 1; limit <= us && index < kLifetimeClasses; limit *= 10)
    sum += freed_bytes[index++];
  return sum;
}

uint64_t Lifetimes::freed_bytes_total() const {
  uint64_t sum = 0;
  for (const uint64_t bytes : freed_bytes) sum += bytes;
  return sum;
}

uint64_t Lifetimes::live_bytes() const {
  return alloc_bytes - std::min(alloc_bytes, freed_bytes_total());
}

LifetimeReport measure_lifetimes(const Dump& dump, const Window& window) {
  LifetimeReport report;
  report.buckets.resize(dump.rows(format::TableId::kBuckets));
  const TickClock clock = dump.clock();
  const TickWindow ticks(window, clock);
  report.health = read_events(dump, [&](const Event& event) {
    if (!event.is_of_heap() || event.row >= report.buckets.size()) return;
    if (!ticks.has(event.ticks)) return;
    Lifetimes& lifetimes = report.buckets[event.row];
    if (event.kind == RecordKind::kAlloc) {
      lifetimes.alloc_bytes += event.bytes;
      lifetimes.alloc_objects += event.weight;
      return;
    }
    // Cycle counters of two cores may be a few ticks apart.
    const uint64_t lived = event.ticks - std::min(event.alloc_ticks, event.ticks);
    const size_t index = lifetime_class(clock.duration_to_ns(lived));
    lifetimes.freed_bytes[index] += event.bytes;
    lifetimes.freed_objects[index] += event.weight;
  });
  for (const Lifetimes& lifetimes : report.buckets) report.total.add(lifetimes);
  return report;
}

std::string lifetimes_table(const LifetimeReport& report, const SiteName& site_name, size_t sites,
                            const TickClock& clock) {
  std::string out = health_lines(report.health, clock) + lifetime_summary(report.total) + "\n" +
                    lifetime_histogram(report.total);
  if (sites == 0) return out;
  out += fmt::format("\n{:>12} {:>8} {:>8} {:>12} {:>12}  {}\n", "gone in 1 ms", "of freed",
                     "in 1 s", "allocated", "still live", "site");
  std::vector<Site> list = sites_of(report, site_name);
  list.resize(std::min(list.size(), sites));
  for (const auto& [name, lifetimes] : list) {
    const uint64_t freed = lifetimes.freed_bytes_total();
    const uint64_t short_lived = lifetimes.freed_bytes_within_us(1000);
    out += fmt::format("{:>12} {:>7.1f}% {:>7.1f}% {:>12} {:>12}  {}\n",
                       bytes_text(static_cast<double>(short_lived)), percent(short_lived, freed),
                       percent(lifetimes.freed_bytes_within_us(1'000'000), freed),
                       bytes_text(static_cast<double>(lifetimes.alloc_bytes)),
                       bytes_text(static_cast<double>(lifetimes.live_bytes())), printable(name));
  }
  return out;
}

std::string lifetimes_csv(const LifetimeReport& report, const SiteName& site_name) {
  std::string out = "site,alloc_bytes,alloc_objects,live_bytes";
  for (const char* name : kClassNames) out += fmt::format(",\"freed_bytes {}\"", name);
  out += "\n";
  for (const auto& [name, lifetimes] : sites_of(report, site_name)) {
    out += fmt::format("{},{},{:.4f},{}", quoted(name), lifetimes.alloc_bytes,
                       objects(lifetimes.alloc_objects), lifetimes.live_bytes());
    for (const uint64_t bytes : lifetimes.freed_bytes) out += fmt::format(",{}", bytes);
    out += "\n";
  }
  return out;
}

}  // namespace mprof::dumper
