// SPDX-License-Identifier: Apache-2.0
#include "dumper/timeline.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "dumper/drain.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

namespace {

using namespace mprof;
using Catch::Matchers::Contains;
using dumper::Access;
using dumper::Dump;
using dumper::parse_time;
using dumper::TimePoint;
using testing::SmallDump;
using testing::TempDir;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;

uint64_t at(int64_t ns) { return SmallDump::kStartTicks + static_cast<uint64_t>(ns); }

// Ten seconds: each second one block of 1000 B lives to the end (bucket 1, thread 0), one of
// 500 B lives 100 us (bucket 2, thread 1), and one of 100 B lives until two seconds later
// (bucket 3, freed by thread 1).
class TenSeconds {
 public:
  TenSeconds() : dump_(dir_ / "a.mprof", 1024) {
    for (int64_t second = 0; second < 10; ++second) {
      const int64_t now = second * kSecond + 500 * kMs;
      dump_.alloc(0, 1, at(now), 1000);
      dump_.alloc(1, 2, at(now), 500);
      dump_.free(1, 2, at(now + kMs / 10), 500, at(now));
      dump_.alloc(0, 3, at(now), 100);
      if (second >= 2) dump_.free(1, 3, at(now), 100, at(now - 2 * kSecond));
    }
    dump_.end_cleanly(at(10 * kSecond));
  }
  [[nodiscard]] Dump open() const { return Dump::open(dump_.path(), Access::kRead); }
  SmallDump& dump() { return dump_; }

 private:
  TempDir dir_;
  SmallDump dump_;
};

}  // namespace

TEST_CASE("timeline: times since the start, before the end, and of the clock are understood") {
  const auto since_start = [](const char* text) {
    const TimePoint point = parse_time("--from", text);
    CHECK(point.from == TimePoint::From::kStart);
    return point.ns;
  };
  CHECK(since_start("1.5s") == 1500 * kMs);
  CHECK(since_start("200ms") == 200 * kMs);
  CHECK(since_start("2m") == 120 * kSecond);
  CHECK(since_start("1h") == 3600 * kSecond);
  CHECK(since_start("7us") == 7000);
  CHECK(since_start("3ns") == 3);
  CHECK(since_start("3") == 3 * kSecond);
  CHECK(since_start("0") == 0);
  const TimePoint before_end = parse_time("--from", "-10s");
  CHECK(before_end.from == TimePoint::From::kEnd);
  CHECK(before_end.ns == -10 * kSecond);
  const auto of_clock = [](const char* text) {
    const TimePoint point = parse_time("--to", text);
    CHECK(point.from == TimePoint::From::kRealtime);
    return point.ns;
  };
  CHECK(of_clock("1970-01-01T00:00:01Z") == kSecond);
  CHECK(of_clock("2026-01-31T12:00:00.25Z") == 1769860800 * kSecond + 250 * kMs);
  CHECK(of_clock("2026-01-31T12:00:00+01:30") == (1769860800 - 5400) * kSecond);
  CHECK(of_clock("2026-01-31 12:00:00-01:00") == (1769860800 + 3600) * kSecond);
}

TEST_CASE("timeline: what is no time is refused with what is accepted") {
  for (const char* text : {"",
                           "-",
                           "abc",
                           "1x",
                           "1.5.5s",
                           "s",
                           "--5s",
                           "1e9s",
                           "inf",
                           "nan",
                           "99999999999h",
                           ".",
                           "1 s",
                           "+1s",
                           "2026-01-31",
                           "2026-13-01T00:00:00Z",
                           "2026-02-30T00:00:00Z",
                           "2026-01-31T12:00:00",
                           "2026-01-31T25:00:00Z",
                           "2026-01-31T12:00:00.Z",
                           "2026-01-31T12:00:00Zx",
                           "2026-01-31T12:00:00+1:00",
                           "2026-01-31T12:00:00.1234567891Z",
                           "-026-01-31T12:00:00Z"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_time("--from", text), dumper::TimeError);
  }
  CHECK_THROWS_WITH(parse_time("--from", "abc"),
                    Contains("--from: \"abc\" is not a time; accepted: 1.5s"));
}

TEST_CASE("timeline: windows are resolved against start, end and clock") {
  const TenSeconds run;
  const Dump dump = run.open();
  const auto clock = dump.clock();
  CHECK(dumper::end_of(dump) == 10 * kSecond);
  const auto window = [&](const char* from, const char* to) {
    return dumper::make_window(parse_time("--from", from), parse_time("--to", to), clock,
                               10 * kSecond);
  };
  CHECK(window("-3s", "-1s").from_ns == 7 * kSecond);
  CHECK(window("-3s", "-1s").to_ns == 9 * kSecond);
  CHECK(window("-1h", "5s").from_ns == 0);
  CHECK(window("2023-11-14T22:13:22Z", "8s").from_ns == 2 * kSecond);
  CHECK(dumper::make_window({}, {}, clock, 10 * kSecond).to_ns == 10 * kSecond);
  CHECK_THROWS_WITH(window("5s", "4s"), Contains("the window is empty"));
}

TEST_CASE("timeline: the heap over time is exact") {
  TenSeconds run;
  const Dump dump = run.open();
  const auto check = [&] {
    const auto timeline = dumper::make_timeline(dump, {0, 10 * kSecond}, 10);
    REQUIRE(timeline.intervals.size() == 10);
    for (size_t i = 0; i < 10; ++i) {
      INFO(i);
      const auto& interval = timeline.intervals[i];
      CHECK(interval.live_bytes ==
            static_cast<int64_t>(1000 * (i + 1) + 100 * std::min<size_t>(i + 1, 2)));
      CHECK(interval.alloc_bytes == 1600);
      CHECK(interval.free_bytes == (i < 2 ? 500U : 600U));
      CHECK(interval.alloc_objects == 3 * format::kWeightOne);
    }
    CHECK(timeline.health.whole());
  };
  check();
  dumper::DumpDrain drain(run.dump().path());
  CHECK(drain.step(true) == dumper::DumpDrain::Step::kMoved);
  check();
}

TEST_CASE("timeline: a window starts with the heap that was there") {
  const TenSeconds run;
  const Dump dump = run.open();
  const auto timeline = dumper::make_timeline(dump, {5 * kSecond, 7 * kSecond}, 4);
  CHECK(timeline.intervals[0].live_bytes == 5200);  // nothing happens in 5.0 to 5.5
  CHECK(timeline.intervals[3].live_bytes == 7200);
  CHECK(timeline.intervals[3].alloc_bytes == 1600);
  const std::string csv = dumper::timeline_csv(timeline);
  CHECK_THAT(csv, Contains("5.000000000,5.500000000,5200,0,0.0000,0,0.0000,0\n"));
  const std::string table = dumper::timeline_table(timeline, dump.clock());
  CHECK_THAT(table, Contains("7.0 KiB"));
  CHECK_THAT(table, Contains("################################"));
  CHECK(dumper::make_timeline(dump, {0, 10 * kSecond}, 0).intervals.size() == 1);
  CHECK(dumper::make_timeline(dump, {0, 10}, 1'000'000'000).intervals.size() ==
        dumper::kMaxIntervals);
}

TEST_CASE("timeline: the profile of a window has the window's allocations and frees") {
  const TenSeconds run;
  const Dump dump = run.open();
  const auto profile = dumper::profile_of_window(dump, {3 * kSecond, 7 * kSecond});
  REQUIRE(profile.buckets.size() == SmallDump::kBuckets);
  const auto& kept = profile.buckets[1];
  CHECK(kept.within.alloc_bytes == 4000);
  CHECK(kept.within.alloc_samples == 4);
  CHECK(kept.within.free_bytes == 0);
  CHECK(kept.until.alloc_bytes - kept.until.free_bytes == 7000);
  const auto& temporary = profile.buckets[2];
  CHECK(temporary.born.alloc_bytes == 2000);
  CHECK(temporary.born.free_bytes == 2000);
  const auto& middle = profile.buckets[3];
  CHECK(middle.within.alloc_bytes == 400);
  CHECK(middle.within.free_bytes == 400);
  CHECK(middle.born.free_bytes == 200);  // the other two were allocated before the window
  CHECK(middle.until.alloc_bytes - middle.until.free_bytes == 200);
}

TEST_CASE("timeline: the window that is the whole run equals the buckets, variances too") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 4096);
  std::mt19937_64 random(8);
  double objects_variance = 0;
  for (uint64_t n = 0; n < 200; ++n) {
    const uint64_t size = random() % 1'000'000;
    const uint64_t weight = format::sample_weight(size, 524288);
    REQUIRE(
        small.alloc(0, static_cast<uint32_t>(n % 4), at(static_cast<int64_t>(n)), size, weight));
    if (n % 4 == 1) objects_variance += format::variance_factor(weight);
  }
  small.end_cleanly(at(1000));
  const Dump dump = Dump::open(small.path(), Access::kRead);
  const auto profile = dumper::profile_of_window(dump, {});
  for (uint32_t row = 0; row < 4; ++row) {
    const auto totals = dump.bucket(row)->totals;
    CHECK(profile.buckets[row].born.alloc_bytes == totals.alloc_bytes);
    CHECK(profile.buckets[row].born.alloc_objects == totals.alloc_objects);
    CHECK(profile.buckets[row].born.alloc_samples == totals.alloc_samples);
  }
  CHECK(std::abs(profile.buckets[1].born.alloc_objects_variance / objects_variance - 1) < 1e-9);
}

TEST_CASE("lifetimes: each free falls into its power of ten") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 1024);
  int64_t lived = 500;  // ns
  for (uint64_t size = 1; size <= 12; ++size, lived *= 10) small.free(0, 1, at(lived), size, at(0));
  small.free(0, 1, at(0), 100, at(5));  // clocks of two cores, slightly apart
  small.end_cleanly(at(lived));
  const Dump dump = Dump::open(small.path(), Access::kRead);
  const auto report = dumper::measure_lifetimes(dump, {});
  CHECK(report.total.freed_bytes ==
        std::array<uint64_t, 12>{101, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  CHECK(report.total.freed_bytes_within_us(1000) == 101 + 2 + 3 + 4);
  CHECK(report.total.freed_bytes_within_us(1'000'000) == 101 + 2 + 3 + 4 + 5 + 6 + 7);
}

TEST_CASE("lifetimes: sites with most short-lived bytes come first, equal names add up") {
  const TenSeconds run;
  const Dump dump = run.open();
  const auto report = dumper::measure_lifetimes(dump, {});
  CHECK(report.total.alloc_bytes == 16000);
  CHECK(report.total.live_bytes() == 10200);
  const auto name = [](uint32_t bucket) {
    return bucket == 2 ? std::string("a \"short\" one") : std::string("others");
  };
  const std::string table = dumper::lifetimes_table(report, name, 10, dump.clock());
  CHECK_THAT(table, Contains("still live 10.0 KiB"));
  CHECK(table.find("a \"short\" one") < table.find("others"));
  CHECK_THAT(table, Contains("within 1 ms: 86.2 %, within 1 s: 86.2 %"));
  const std::string csv = dumper::lifetimes_csv(report, name);
  CHECK_THAT(csv, Contains("\"a \"\"short\"\" one\",5000,10.0000,0,0,0,0,5000,0"));
  CHECK_THAT(csv, Contains("\"others\",11000,20.0000,10200,"));
}

TEST_CASE("timeline: lost events are said") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 64);
  for (int64_t n = 1; n <= 100; ++n) small.alloc(0, 1, at(n * kMs), 8);
  {
    dumper::DumpDrain drain(small.path());
    CHECK(drain.step(true) == dumper::DumpDrain::Step::kMoved);
  }
  small.alloc(0, 1, at(200 * kMs), 8);
  small.end_cleanly(at(kSecond));
  const Dump dump = Dump::open(small.path(), Access::kRead);
  const auto timeline = dumper::make_timeline(dump, {0, kSecond}, 100);
  CHECK(timeline.health.lost() > 0);
  const std::string table = dumper::timeline_table(timeline, dump.clock());
  CHECK_THAT(table, Contains("events dropped because a profbuf was full"));
  CHECK_THAT(table, Contains("events lost)"));
  uint64_t lost = 0;
  for (const auto& interval : timeline.intervals) lost += interval.lost;
  CHECK(lost == timeline.health.lost());
  // Exact on both sides of the loss, which began when the ring was full.
  CHECK(timeline.intervals[0].live_bytes == 8 * 9);
  CHECK(timeline.intervals[99].live_bytes == 8 * 101);
}

TEST_CASE("timeline: frees whose allocations were lost do not make the heap negative") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 64);
  for (int64_t n = 1; n <= 100; ++n) small.alloc(0, 1, at(n * kMs), 8);
  {
    dumper::DumpDrain drain(small.path());
    CHECK(drain.step(true) == dumper::DumpDrain::Step::kMoved);
  }
  uint64_t freed = 0;
  for (int64_t n = 90; n <= 100; ++n, ++freed) small.free(0, 1, at(200 * kMs), 8, at(n * kMs));
  small.end_cleanly(at(kSecond));
  const Dump dump = Dump::open(small.path(), Access::kRead);
  const auto timeline = dumper::make_timeline(dump, {0, kSecond}, 100);
  CHECK(timeline.intervals[15].live_bytes == 8 * 100);
  CHECK(timeline.intervals[99].live_bytes == static_cast<int64_t>(8 * (100 - freed)));
}

TEST_CASE("timeline: waits are no part of the heap over time, nor of lifetimes") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 1024);
  small.alloc(0, 1, at(kMs), 1000);
  small.counted(0, 1, at(2 * kMs), 7'000'000, 5 * format::kWeightOne);
  small.end_cleanly(at(10 * kMs));
  const Dump dump = Dump::open(small.path(), Access::kRead);
  const auto timeline = dumper::make_timeline(dump, {0, 10 * kMs}, 1);
  CHECK(timeline.intervals[0].live_bytes == 1000);
  CHECK(timeline.intervals[0].alloc_bytes == 1000);
  CHECK(timeline.intervals[0].free_bytes == 0);
  CHECK(timeline.health.events == 2);
  const auto lifetimes = dumper::measure_lifetimes(dump, {});
  CHECK(lifetimes.total.alloc_bytes == 1000);
  CHECK(lifetimes.total.freed_bytes_total() == 0);
  const auto window = dumper::profile_of_window(dump, {0, kMs});
  REQUIRE(window.counts.size() == SmallDump::kCounts);
  CHECK(window.counts[1].samples == 0);
  CHECK(window.buckets[1].born.alloc_bytes == 1000);
}
