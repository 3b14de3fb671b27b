// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/merge.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "format/trace_reader.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"
#include "tests/unit/trace_events.h"

namespace {

using namespace mprof;
using dumper::Access;
using dumper::Dump;
using dumper::DumpTrace;
using dumper::FrameBuilder;
using dumper::JournalKind;
using dumper::JournalWriter;
using dumper::TraceHealth;
using dumper::TraceRecord;
using format::TraceEvent;
using format::TraceKind;
using testing::SmallDump;
using testing::TempDir;

constexpr uint64_t kMs = 1'000'000;
constexpr uint32_t kRingBytes = 16 * format::kTraceBlockBytes;

uint64_t at(uint64_t ns) { return SmallDump::kStartTicks + ns; }

struct Read {
  std::vector<TraceRecord> records;
  TraceHealth health;
};

Read read_trace(const std::string& path, const dumper::Window& window = {}) {
  Dump dump = Dump::open(path, Access::kRead);
  DumpTrace trace(dump, window);
  Read read;
  for (TraceRecord record; trace.next(record);) read.records.push_back(record);
  read.health = trace.health();
  CHECK(trace.progress() == 1);
  return read;
}

// What the drainer does, under the test's own clock.
class Frames {
 public:
  explicit Frames(SmallDump& dump)
      : dump_(dump),
        writer_(dump.trace_path(), dumper::journal_header_of(*dump.header(), JournalKind::kTrace)) {
  }

  // What the rings of [first, last] have by now.
  void add(uint64_t begin_ns, uint32_t first, uint32_t last, uint32_t flags = 0) {
    FrameBuilder builder({begin_ns == 0 ? 0 : at(begin_ns), begin_ns}, JournalKind::kTrace);
    for (uint32_t row = first; row <= last; ++row) add_ring(builder, row);
    REQUIRE(writer_.append(builder, flags) == 0);
  }

 private:
  void add_ring(FrameBuilder& builder, uint32_t row) {
    format::ProfbufHead* head = dump_.trace_head(row);
    format::TraceReader reader(head, dump_.trace_data(row), kRingBytes);
    const uint64_t to = reader.written();
    const auto out = builder.add({row, 0, moved_[row], to, reader.dropped(), 0});
    auto* bytes = reinterpret_cast<uint8_t*>(out.data());
    REQUIRE_FALSE(reader.copy(moved_[row], {bytes, to - moved_[row]}).damaged);
    moved_[row] = to;
    reader.release(to);
  }

  SmallDump& dump_;
  JournalWriter writer_;
  uint64_t moved_[SmallDump::kTraceRings] = {};
};

bool yield(SmallDump& dump, uint32_t row, uint64_t ns) {
  return dump.trace_writer(row).write({TraceKind::kYield, at(ns), row});
}

bool is_sorted(const std::vector<TraceRecord>& records) {
  return std::is_sorted(records.begin(), records.end(),
                        [](const TraceRecord& a, const TraceRecord& b) { return a.ns < b.ns; });
}

std::vector<uint64_t> times_of(const std::vector<TraceRecord>& records) {
  std::vector<uint64_t> times;
  for (const TraceRecord& record : records) times.push_back(record.ns);
  return times;
}

}  // namespace

TEST_CASE("trace merge: rings without a journal, by time") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  for (uint64_t i = 0; i < 1000; ++i) REQUIRE(yield(dump, i * 5 % 8, 100 + i));
  const Read read = read_trace(dump.path());
  REQUIRE(read.records.size() == 1000);
  for (uint64_t i = 0; i < 1000; ++i) {
    CHECK(read.records[i].ns == 100 + i);
    CHECK(read.records[i].thread == i * 5 % 8);
  }
  CHECK(read.health.whole());
  CHECK(read.health.records == 1000);
  CHECK(read.health.begin_ns == 100);
  CHECK(read.health.last_ns == 1099);
  CHECK(read.health.journal.empty());
  CHECK(read.health.lines().empty());
}

TEST_CASE("trace merge: no trace at all is an empty one") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  const Read read = read_trace(dump.path());
  CHECK(read.records.empty());
  CHECK(read.health.whole());
}

TEST_CASE("trace merge: random rings and frames come sorted, and every record once") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const TempDir dir;
    SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
    std::mt19937_64 random(seed);
    std::vector<std::vector<TraceRecord>> written(SmallDump::kTraceRings);
    uint64_t now = kMs;
    {
      Frames frames(dump);
      for (int pass = 0; pass < 40; ++pass) {
        for (uint64_t n = random() % 500; n > 0; --n) {
          const auto row = static_cast<uint32_t>(random() % SmallDump::kTraceRings);
          std::string text;
          TraceEvent event = testing::random_event(random, at(now += random() % 2000), text);
          for (const int age : {1, 2}) event.arguments[age] %= 8;  // rows of small tables
          event.arguments[0] %= 8;
          event.stack = format::kNoRow;
          if (event.kind == TraceKind::kLabels) event.arguments[0] = 0;
          if (!dump.trace_writer(row).write(event)) continue;
          written[row].push_back(testing::record_of(event, row, SmallDump::kStartTicks));
        }
        const uint64_t begin = now += 1;
        const auto split = static_cast<uint32_t>(1 + random() % 6);
        if (random() % 2 == 0) {
          frames.add(begin, 0, split, dumper::kFrameMore);
          frames.add(begin, split + 1, 7);
        } else {
          frames.add(begin, 0, 7);
        }
      }
    }
    const Read read = read_trace(dump.path());
    CHECK(is_sorted(read.records));
    CHECK(read.health.late + read.health.early + read.health.gaps == 0);
    std::vector<std::vector<TraceRecord>> by_ring(SmallDump::kTraceRings);
    for (const TraceRecord& record : read.records)
      if (record.kind != TraceKind::kLost) by_ring[record.thread].push_back(record);
    for (size_t row = 0; row < by_ring.size(); ++row) {
      CHECK(by_ring[row].size() == written[row].size());
      CHECK(testing::same_records(by_ring[row], written[row]) == written[row].size());
    }
  }
}

TEST_CASE("trace merge: journal and rings are one stream, what both have comes once") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  {
    Frames frames(dump);
    for (uint64_t i = 0; i < 500; ++i) REQUIRE(yield(dump, 1, i));
    frames.add(10 * kMs, 0, 7);
    dump.trace_head(1)->released.store(0);  // as if the drainer died before it got there
  }
  for (uint64_t i = 500; i < 900; ++i) REQUIRE(yield(dump, 1, i));
  const Read read = read_trace(dump.path());
  CHECK(read.records.size() == 900);
  CHECK(is_sorted(read.records));
  CHECK(read.health.whole());
  CHECK(read.health.journal == dump.trace_path());
  CHECK(read.health.journal_bytes > 0);
}

TEST_CASE("trace merge: a record that comes late waits for nobody and keeps the order") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  {
    Frames frames(dump);
    REQUIRE(yield(dump, 0, 10 * kMs));
    REQUIRE(yield(dump, 0, 19 * kMs));
    frames.add(20 * kMs, 0, 7);
    // Within the time that is waited for: in order all the same.
    REQUIRE(yield(dump, 1, 18 * kMs + 1));
    REQUIRE(yield(dump, 0, 25 * kMs));
    REQUIRE(yield(dump, 0, 29 * kMs));
    frames.add(32 * kMs, 0, 7);
    REQUIRE(yield(dump, 2, 21 * kMs));  // much too late
    REQUIRE(yield(dump, 0, 40 * kMs));
    frames.add(50 * kMs, 0, 7);
  }
  const Read read = read_trace(dump.path());
  CHECK(times_of(read.records) == std::vector<uint64_t>{10 * kMs, 18 * kMs + 1, 19 * kMs, 25 * kMs,
                                                        29 * kMs, 29 * kMs, 40 * kMs});
  CHECK(read.records[5].thread == 2);
  CHECK(read.health.late == 1);
  CHECK(read.health.latest_ns == 8 * kMs);
  CHECK(read.health.whole());
  REQUIRE(read.health.lines().size() == 1);
  CHECK_THAT(read.health.lines()[0], Catch::Matchers::Contains("by 8.000 ms at most"));
}

TEST_CASE("trace merge: a pass that goes on in the next frame is waited for") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  {
    Frames frames(dump);
    REQUIRE(yield(dump, 0, 10 * kMs));
    REQUIRE(yield(dump, 7, 5 * kMs));
    frames.add(20 * kMs, 0, 3, dumper::kFrameMore);
    frames.add(20 * kMs, 4, 7);
  }
  const Read read = read_trace(dump.path());
  CHECK(times_of(read.records) == std::vector<uint64_t>{5 * kMs, 10 * kMs});
  CHECK(read.health.late == 0);
}

TEST_CASE("trace merge: a clock that claims the future does not keep its ring waiting") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  {
    Frames frames(dump);
    REQUIRE(yield(dump, 0, uint64_t{1} << 50));
    REQUIRE(yield(dump, 1, 10 * kMs));
    frames.add(20 * kMs, 0, 7);
    REQUIRE(yield(dump, 1, 30 * kMs));
    frames.add(40 * kMs, 0, 7);
    REQUIRE(yield(dump, 1, 50 * kMs));
    frames.add(60 * kMs, 0, 7);
  }
  const Read read = read_trace(dump.path());
  CHECK(times_of(read.records) == std::vector<uint64_t>{10 * kMs, 30 * kMs, 40 * kMs, 50 * kMs});
  CHECK(read.health.early == 1);
}

TEST_CASE("trace merge: what was dropped is told once, at its place or at the end") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  uint64_t kept = 0;
  for (uint64_t i = 0; i < 100'000; ++i) kept += yield(dump, 3, i) ? 1 : 0;
  REQUIRE(kept < 100'000);
  Read read = read_trace(dump.path());
  CHECK(read.health.records == kept);
  CHECK(read.health.lost == 100'000 - kept);
  CHECK(read.health.first_lost_ns == kept);
  REQUIRE(read.records.back().kind == TraceKind::kLost);
  CHECK(read.records.back().arguments[0] == 100'000 - kept);
  {
    Frames frames(dump);
    frames.add(kMs, 0, 7);
    REQUIRE(yield(dump, 3, 2 * kMs));
    frames.add(0, 0, 7);
  }
  read = read_trace(dump.path());
  CHECK(read.health.records == kept + 1);
  CHECK(read.health.lost == 100'000 - kept);
  CHECK(read.health.first_lost_ns == kept);
  CHECK(read.records[kept].kind == TraceKind::kLost);
  CHECK(read.health.lines().size() == 1);
}

TEST_CASE("trace merge: a journal that is gone, or of another run, leaves a gap that is said") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  {
    Frames frames(dump);
    for (uint64_t i = 0; i < 2000; ++i) REQUIRE(yield(dump, 1, i));
    frames.add(10 * kMs, 0, 7);
  }
  for (uint64_t i = 2000; i < 4000; ++i) REQUIRE(yield(dump, 1, i));
  const auto check = [&](size_t lines) {
    const Read read = read_trace(dump.path());
    CHECK(read.health.gaps == 1);
    CHECK(read.records.front().kind == TraceKind::kLost);
    CHECK(read.records.front().arguments[0] == 0);
    CHECK(read.records.size() >= 2001);
    CHECK(read.records.back().ns == 3999);
    CHECK_FALSE(read.health.whole());
    CHECK(read.health.lines().size() == lines);
  };
  dump.header()->generation ^= 1;
  check(2);
  dump.header()->generation ^= 1;
  REQUIRE(::unlink(dump.trace_path().c_str()) == 0);
  check(1);
}

TEST_CASE("trace merge: a window leaves out what lies outside") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  for (uint64_t i = 0; i < 1000; ++i) REQUIRE(yield(dump, i % 8, i));
  const Read read = read_trace(dump.path(), {300, 399});
  REQUIRE(read.records.size() == 100);
  CHECK(read.records.front().ns == 300);
  CHECK(read.records.back().ns == 399);
  CHECK(read.health.begin_ns == 0);
}

TEST_CASE("trace merge: hostile heads of rings are damage, not a crash") {
  std::mt19937_64 random(4);
  for (int round = 0; round < 200; ++round) {
    const TempDir dir;
    SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
    for (uint64_t i = 0; i < 1000; ++i) REQUIRE(yield(dump, i % 8, i));
    if (round % 2 == 0) Frames(dump).add(kMs, 0, 7);
    for (uint32_t row = 0; row < 8; ++row) {
      if (random() % 2 == 0) dump.trace_head(row)->written.store(random() >> random() % 64);
      if (random() % 2 == 0) dump.trace_head(row)->released.store(random() >> random() % 64);
      if (random() % 2 == 0) dump.trace_head(row)->dropped.store(random() >> random() % 64);
    }
    const Read read = read_trace(dump.path());
    CHECK(is_sorted(read.records));
  }
}
