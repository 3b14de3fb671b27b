// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/decode.h"

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "format/trace_reader.h"
#include "tests/unit/catch.h"
#include "tests/unit/trace_events.h"

namespace {

using namespace mprof;
using dumper::TraceDecoder;
using dumper::TraceRecord;
using format::TraceEvent;
using format::TraceKind;
using testing::random_event;
using testing::record_of;
using testing::same_records;
using testing::TraceRing;

constexpr uint64_t kBlock = format::kTraceBlockBytes;
constexpr dumper::TraceTables kTables{testing::kTraceRows, testing::kTraceRows,
                                      testing::kTraceRows};

const dumper::TickClock& clock_in_ns() {
  static const dumper::TickClock clock = [] {
    static format::DumpHeader header{};
    header.ticks_are_ns = 1;
    return dumper::TickClock(header);
  }();
  return clock;
}

std::vector<TraceRecord> take(TraceDecoder& decoder) {
  std::vector<TraceRecord> records;
  for (TraceRecord record; decoder.next(record);) records.push_back(record);
  return records;
}

void feed(TraceDecoder& decoder, std::span<const uint8_t> stream, uint64_t from, uint64_t to,
          uint32_t flags = 0) {
  decoder.feed({0, flags, from, to, 0, 0}, stream.subspan(from, to - from));
}

// A ring that is never full, and what was written into it.
struct Written {
  explicit Written(size_t events, uint64_t seed = 1, uint64_t bytes = 1 << 20)
      : random(seed), ring(bytes, 3) {
    for (size_t i = 0; i < events; ++i) add();
  }
  void add() {
    std::string text;
    const TraceEvent event = random_event(random, now += random() % 1000, text);
    REQUIRE(ring.writer.write(event));
    records.push_back(record_of(event, 3));
  }
  [[nodiscard]] std::span<const uint8_t> stream() const {
    return std::span(ring.data).first(ring.head.written.load());
  }

  std::mt19937_64 random;
  uint64_t now = 1000;
  TraceRing ring;
  std::vector<TraceRecord> records;
};

bool is_gap(const TraceRecord& record) {
  return record.kind == TraceKind::kLost && record.arguments[0] == 0;
}

}  // namespace

TEST_CASE("trace decode: records of every kind come back as they were written") {
  const Written written(20000);
  std::vector<bool> seen(static_cast<size_t>(TraceKind::kCount));
  for (const TraceRecord& record : written.records) seen[static_cast<size_t>(record.kind)] = true;
  CHECK(std::count(seen.begin(), seen.end(), true) ==
        static_cast<int64_t>(TraceKind::kCount) - 2);  // but kEnd and kLost
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, written.stream(), 0, written.stream().size());
  const auto records = take(decoder);
  CHECK(records.size() == written.records.size());
  CHECK(same_records(records, written.records) == written.records.size());
  CHECK(decoder.whole());
  CHECK(decoder.gaps() + decoder.damaged_bytes() + decoder.bad_rows() == 0);
}

TEST_CASE("trace decode: a stream may be cut anywhere, and spans may overlap") {
  const Written written(1200);
  const uint64_t size = written.stream().size();
  REQUIRE(size > 3 * kBlock);
  size_t wrong = 0;
  for (uint64_t cut = 0; cut <= size; ++cut) {
    TraceDecoder decoder(clock_in_ns(), kTables, false);
    feed(decoder, written.stream(), 0, cut);
    auto records = take(decoder);
    // As the drainer does it: from the begin of the block, which is known in part.
    feed(decoder, written.stream(), cut % 2 == 0 ? cut : cut - cut % kBlock, size);
    for (const TraceRecord& record : take(decoder)) records.push_back(record);
    const bool right = records.size() == written.records.size() &&
                       same_records(records, written.records) == records.size() && decoder.whole();
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("trace decode: random spans, taken now and then") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Written written(5000, seed);
    std::mt19937_64 random(seed);
    TraceDecoder decoder(clock_in_ns(), kTables, false);
    std::vector<TraceRecord> records;
    for (uint64_t at = 0, size = written.stream().size(); at < size;) {
      const uint64_t to = std::min(size, at + random() % (seed % 2 == 0 ? 30 : 9000));
      feed(decoder, written.stream(), at, to);
      at = to;
      if (random() % 3 == 0)
        for (const TraceRecord& record : take(decoder)) records.push_back(record);
    }
    for (const TraceRecord& record : take(decoder)) records.push_back(record);
    CHECK(records.size() == written.records.size());
    CHECK(same_records(records, written.records) == written.records.size());
  }
}

TEST_CASE("trace decode: what ends amid a record says so, and the rest is there") {
  const Written written(300);
  size_t wrong = 0;
  for (uint64_t cut = 0; cut <= written.stream().size(); ++cut) {
    TraceDecoder decoder(clock_in_ns(), kTables, false);
    feed(decoder, written.stream(), 0, cut);
    decoder.close({});
    auto records = take(decoder);
    const bool torn = decoder.damaged_bytes() != 0;
    wrong += torn != (decoder.gaps() == 1) ? 1 : 0;
    wrong += torn && (records.empty() || !is_gap(records.back())) ? 1 : 0;
    if (torn) records.pop_back();
    wrong += same_records(records, written.records) == records.size() ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("trace decode: after a gap it begins at the next block and says where the gap was") {
  const Written written(2000);
  const uint64_t size = written.stream().size();
  size_t wrong = 0;
  for (uint64_t begin = 1; begin < size; begin += 13) {
    for (const bool late : {false, true}) {
      TraceDecoder decoder(clock_in_ns(), kTables, late);
      feed(decoder, written.stream(), begin, size);
      auto records = take(decoder);
      const bool has_block = size > (begin + kBlock - 1) / kBlock * kBlock;
      wrong += decoder.gaps() == (late || !has_block ? 0 : 1) ? 0 : 1;
      if (decoder.gaps() != 0) {
        wrong += is_gap(records.front()) ? 0 : 1;
        records.erase(records.begin());
      }
      const std::vector<TraceRecord> expected(
          written.records.end() - static_cast<int64_t>(records.size()), written.records.end());
      wrong += same_records(records, expected) == records.size() ? 0 : 1;
      wrong += records.empty() == has_block ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("trace decode: a gap in the middle has the time of what follows and reaches back") {
  const Written written(3000);
  const uint64_t size = written.stream().size();
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, written.stream(), 0, 2 * kBlock);
  feed(decoder, written.stream(), 3 * kBlock, size);
  const auto records = take(decoder);
  const auto gap = std::find_if(records.begin(), records.end(), is_gap);
  REQUIRE(gap != records.end());
  REQUIRE(gap != records.begin());
  CHECK(gap->ns == (gap + 1)->ns);
  CHECK(gap->ns - gap->arguments[1] == (gap - 1)->ns);
  CHECK(gap->thread == 3);
  CHECK(decoder.gaps() == 1);
  CHECK_FALSE(decoder.whole());
}

TEST_CASE("trace decode: dropped records are a kLost record with their count, at their place") {
  TraceRing ring(4 * kBlock);
  std::vector<TraceRecord> kept;
  uint64_t dropped = 0;
  uint64_t now = 1000;
  const auto write = [&](size_t count) {
    for (size_t i = 0; i < count; ++i) {
      TraceEvent event{TraceKind::kYield, now += 10, 1};
      if (ring.writer.write(event))
        kept.push_back(record_of(event, 0));
      else
        ++dropped;
    }
  };
  write(10000);
  REQUIRE(dropped > 1000);
  const uint64_t first = kept.back().ns + 10;
  const uint64_t full = ring.head.written.load();
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, ring.data, 0, full);
  CHECK(take(decoder).size() == kept.size());
  ring.head.released.store(full);
  write(1);
  std::vector<uint8_t> bytes(ring.head.written.load() - full);
  const format::TraceReader reader(&ring.head, ring.data.data(), ring.data.size());
  REQUIRE_FALSE(reader.copy(full, bytes).damaged);
  decoder.feed({0, 0, full, full + bytes.size(), 0, 0}, bytes);
  const auto records = take(decoder);
  REQUIRE(records.size() == 2);
  CHECK(records[0].kind == TraceKind::kLost);
  CHECK(records[0].arguments[0] == dropped);
  CHECK(records[0].ns - records[0].arguments[1] == first);
  CHECK(records[1].kind == TraceKind::kYield);
  CHECK(decoder.lost() == dropped);
  CHECK(decoder.whole());
  decoder.close({dropped + 7, 0, now + 5});
  const auto last = take(decoder);
  REQUIRE(last.size() == 1);
  CHECK(last[0].arguments[0] == 7);
  CHECK(last[0].ns == now + 5);
}

TEST_CASE("trace decode: who takes a ring over is the thread of what follows") {
  TraceRing ring(8 * kBlock, 5);
  for (int i = 0; i < 10; ++i) REQUIRE(ring.writer.write({TraceKind::kYield, 1000, 1}));
  format::TraceWriter next(&ring.head, ring.data.data(), ring.data.size(), 6);
  for (int i = 0; i < 10; ++i) REQUIRE(next.write({TraceKind::kYield, 2000, 2}));
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, ring.data, 0, ring.head.written.load());
  const auto records = take(decoder);
  REQUIRE(records.size() == 20);
  for (size_t i = 0; i < 20; ++i) CHECK(records[i].thread == (i < 10 ? 5u : 6u));
}

TEST_CASE("trace decode: rows that no table has are kNoRow") {
  TraceRing ring(kBlock, testing::kTraceRows);
  TraceEvent event{TraceKind::kCreate, 1000, 1, testing::kTraceRows, {testing::kTraceRows}};
  REQUIRE(ring.writer.write(event));
  REQUIRE(ring.writer.write({TraceKind::kLabels, 1000, 1, 4, {testing::kTraceRows + 1}}));
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, ring.data, 0, ring.head.written.load());
  const auto records = take(decoder);
  REQUIRE(records.size() == 2);
  CHECK(records[0].thread == format::kNoRow);
  CHECK(records[0].stack == format::kNoRow);
  CHECK(records[0].arguments[0] == format::kNoRow);
  CHECK(records[1].stack == 4);
  CHECK(records[1].arguments[0] == 0);
  CHECK(decoder.bad_rows() == 4);
}

TEST_CASE("trace decode: what is no record costs its block and no other") {
  const Written written(3000);
  const auto broken_at = [&](std::vector<uint8_t> bytes) {
    std::vector<uint8_t> stream(written.stream().begin(), written.stream().end());
    std::copy(bytes.begin(), bytes.end(), stream.begin() + 2 * kBlock + 16);
    TraceDecoder decoder(clock_in_ns(), kTables, false);
    feed(decoder, stream, 0, stream.size());
    const auto records = take(decoder);
    CHECK(decoder.damaged_bytes() == kBlock - 16);
    CHECK(decoder.gaps() == 1);
    CHECK(std::count_if(records.begin(), records.end(), is_gap) == 1);
    CHECK(records.back().ns == written.records.back().ns);
  };
  const auto kind = [](TraceKind k, uint8_t flags = 0) {
    return static_cast<uint8_t>(static_cast<uint8_t>(k) | flags);
  };
  broken_at({kind(TraceKind::kCount)});
  broken_at({0x3f});
  // A number of 65 bits and one that does not end, a core that no machine has.
  broken_at({kind(TraceKind::kYield), 255, 255, 255, 255, 255, 255, 255, 255, 255, 2});
  broken_at(std::vector<uint8_t>(40, 255));
  broken_at({kind(TraceKind::kYield, format::kHasCore), 0, 255, 255, 255, 1});
  // Names that are none, a text that is too long.
  broken_at({kind(TraceKind::kWait), 0, 100, 0});
  broken_at({kind(TraceKind::kRelease), 0, 100, 0});
  broken_at({kind(TraceKind::kThread), 0, 1, 100, 0, 0});
  broken_at({kind(TraceKind::kCall), 0, 0xff, 1});
  broken_at({kind(TraceKind::kLog), 0, 0, 0, 0x81, 8});
}

TEST_CASE("trace decode: a block of a core that no machine has is left out") {
  const Written written(3000);
  std::vector<uint8_t> stream(written.stream().begin(), written.stream().end());
  stream[kBlock + 14] = 1;
  TraceDecoder decoder(clock_in_ns(), kTables, false);
  feed(decoder, stream, 0, stream.size());
  const auto records = take(decoder);
  CHECK(decoder.damaged_bytes() == kBlock);
  CHECK(decoder.gaps() == 1);
  CHECK(records.back().ns == written.records.back().ns);
}

TEST_CASE("trace decode: hostile bytes and positions are counted, not believed") {
  const Written written(3000);
  std::mt19937_64 random(9);
  uint64_t found = 0;
  uint64_t wrong = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> stream(written.stream().begin(), written.stream().end());
    for (uint64_t n = random() % 50; n > 0; --n)
      stream[random() % stream.size()] = static_cast<uint8_t>(random());
    TraceDecoder decoder(clock_in_ns(), kTables, random() % 2 == 0);
    for (uint64_t at = 0; at < stream.size();) {
      const uint64_t bytes = std::min<uint64_t>(random() % 9000, stream.size() - at);
      const uint64_t from = random() % 20 == 0 ? random() : at;
      decoder.feed({0, random() % 20 == 0 ? dumper::kSpanDamaged : 0, from, from + bytes, 0, 0},
                   std::span(stream).subspan(at, bytes));
      at += bytes;
      found += take(decoder).size();
    }
    decoder.close({random(), random() % 2, random()});
    for (const TraceRecord& record : take(decoder)) {
      const bool right = record.kind < TraceKind::kCount && record.core < dumper::kMostCores &&
                         (record.thread < kTables.threads || record.thread == format::kNoRow);
      wrong += right ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(found > 1000);
}
