// SPDX-License-Identifier: Apache-2.0
#include "format/trace_writer.h"

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/trace_records.h"

namespace {

using namespace mprof;
using format::kNoRow;
using format::kTraceBlockBytes;
using format::TraceEvent;
using format::TraceKind;
using test::TraceRow;
using test::TraceRowReader;

constexpr uint32_t kThread = 3;

// Both ends of a ring in one process, which is what ThreadSanitizer can follow.
class Ring {
 public:
  explicit Ring(uint64_t blocks, uint64_t start = 0)
      : bytes_(blocks * kTraceBlockBytes), data_(bytes_, 0xee), reader_(start), position_(start) {
    head.written.store(start);
    head.released.store(start);
    head.released_seen = start;
    writer = writer_of(kThread);
  }

  format::TraceWriter writer_of(uint32_t thread) { return {&head, data_.data(), bytes_, thread}; }

  // All that is there, as the drainer takes it.
  std::vector<TraceRow> take() {
    const uint64_t written = head.written.load(std::memory_order_acquire);
    std::vector<uint8_t> copy;
    for (; position_ != written; ++position_) copy.push_back(data_[position_ % bytes_]);
    auto rows = reader_.read(copy);
    head.released.store(position_, std::memory_order_release);
    return rows;
  }

  [[nodiscard]] const uint8_t* data() const { return data_.data(); }

  format::ProfbufHead head{};
  format::TraceWriter writer;

 private:
  uint64_t bytes_;
  std::vector<uint8_t> data_;
  TraceRowReader reader_;
  uint64_t position_;
};

TraceEvent event_at(uint64_t ticks, TraceKind kind = TraceKind::kCallEnd) {
  return {kind, ticks, 0, kNoRow, {}, nullptr, 0};
}

TraceRow row_of(const TraceEvent& event, uint32_t thread = kThread) {
  const auto& info = format::info_of(event.kind);
  TraceRow row{event.kind, event.ticks, thread, event.core, event.stack, {}, {}};
  row.arguments.assign(event.arguments, event.arguments + info.arguments);
  if (event.kind == TraceKind::kLog) row.text.assign(event.text, event.text_bytes);
  return row;
}

const std::string& long_text() {
  static const std::string text(format::kMostTraceText, 'x');
  return text;
}

// Numbers of every length, cores that change now and then, objects near each other or not.
class RandomEvents {
 public:
  TraceEvent next() {
    ticks_ += number(random_() % 20);
    if (random_() % 4 == 0) core_ = static_cast<uint32_t>(number(random_() % 33));
    const auto kinds = static_cast<uint64_t>(TraceKind::kCount) - 2;
    TraceEvent event{static_cast<TraceKind>(2 + random_() % kinds), ticks_, core_};
    if (random_() % 2 == 0) event.stack = static_cast<uint32_t>(random_() % kNoRow);
    for (uint64_t& argument : event.arguments) argument = number(random_() % 65);
    if (event.kind == TraceKind::kLog) {
      event.text = long_text().data();
      event.text_bytes = static_cast<uint32_t>(random_() % (format::kMostTraceText + 1));
    }
    return event;
  }

 private:
  uint64_t number(uint64_t bits) { return bits == 0 ? 0 : random_() >> (64 - bits); }

  std::mt19937_64 random_{5};
  uint64_t ticks_ = 1000;
  uint32_t core_ = 0;
};

}  // namespace

TEST_CASE("trace writer: every kind comes back as it was written") {
  for (int kind = static_cast<int>(TraceKind::kStart); kind < static_cast<int>(TraceKind::kCount);
       ++kind)
    for (const uint32_t stack : {kNoRow, 0U, 70000U}) {
      Ring ring(4);
      std::vector<TraceRow> wanted;
      for (const uint64_t value : {uint64_t{0}, uint64_t{127}, uint64_t{128}, ~uint64_t{0}}) {
        const TraceEvent event{static_cast<TraceKind>(kind),
                               5000 + (value & 1023),
                               static_cast<uint32_t>(value & 63),
                               stack,
                               {value, value ^ 1, value / 3, value / 5},
                               "some text",
                               9};
        REQUIRE(ring.writer.write(event));
        wanted.push_back(row_of(event));
      }
      CHECK(ring.take() == wanted);
    }
}

TEST_CASE("trace writer: a detached one drops") {
  format::TraceWriter writer;
  CHECK_FALSE(writer.is_attached());
  CHECK_FALSE(writer.write(event_at(1)));
}

TEST_CASE("trace writer: records of all lengths fill blocks, and none crosses into the next") {
  for (const uint64_t start : {uint64_t{0}, uint64_t{0} - 3 * kTraceBlockBytes}) {
    Ring ring(4, start);
    RandomEvents events;
    for (int i = 0; i < 20000; ++i) {
      const TraceEvent event = events.next();
      REQUIRE(ring.writer.write(event));
      REQUIRE(ring.take() == std::vector<TraceRow>{row_of(event)});
    }
  }
}

TEST_CASE("trace writer: reading can begin at any block") {
  Ring ring(64);
  RandomEvents events;
  std::vector<TraceRow> wanted;
  while (ring.head.written.load() < 60 * kTraceBlockBytes) {
    const TraceEvent event = events.next();
    REQUIRE(ring.writer.write(event));
    wanted.push_back(row_of(event));
  }
  const std::span bytes(ring.data(), ring.head.written.load());
  for (uint64_t block = 0; block < 60; block += 7) {
    TraceRowReader reader(block * kTraceBlockBytes);
    const auto rows = reader.read(bytes.subspan(block * kTraceBlockBytes));
    REQUIRE(rows.size() <= wanted.size());
    CHECK(std::equal(rows.begin(), rows.end(), wanted.end() - static_cast<long>(rows.size())));
  }
}

TEST_CASE("trace writer: a record seldom takes more than ten bytes") {
  Ring ring(4);
  for (uint64_t i = 0; i < 100; ++i) {
    TraceEvent wait = event_at(i * 10000, TraceKind::kWait);
    wait.stack = 9000;
    wait.arguments[1] = 0x7fff12345678;
    ring.writer.write(wait);
    ring.writer.write(event_at(i * 10000 + 5000, TraceKind::kWaitEnd));
  }
  CHECK(ring.head.written.load() < 100 * (8 + 5));
}

TEST_CASE("trace writer: what has no room is dropped, and told at its place") {
  Ring ring(2);
  uint64_t ticks = 100;
  std::vector<TraceRow> wanted;
  while (ring.writer.write(event_at(ticks))) wanted.push_back(row_of(event_at(ticks++)));
  const uint64_t first_drop = ticks;
  for (int i = 0; i < 9; ++i) CHECK_FALSE(ring.writer.write(event_at(++ticks)));
  CHECK(ring.head.dropped.load() == 10);
  CHECK(ring.head.first_drop_ticks.load() == first_drop);
  CHECK(ring.take() == wanted);

  CHECK(ring.writer.write(event_at(++ticks)));
  TraceRow lost{TraceKind::kLost, ticks, kThread, 0, kNoRow, {10, ticks - first_drop}, {}};
  CHECK(ring.take() == std::vector<TraceRow>{lost, row_of(event_at(ticks))});
  CHECK(ring.writer.write(event_at(++ticks)));
  CHECK(ring.take() == std::vector<TraceRow>{row_of(event_at(ticks))});
  CHECK(ring.head.dropped_reported == 10);
}

TEST_CASE("trace writer: a short record may have room where a long one had none") {
  Ring ring(2);
  uint64_t ticks = 100;
  TraceEvent log = event_at(ticks, TraceKind::kLog);
  log.text = long_text().data();
  log.text_bytes = format::kMostTraceText;
  uint64_t written = 0;
  for (; ring.writer.write(log); ++written) log.ticks = ++ticks;
  CHECK(ring.writer.write(event_at(++ticks)));
  const auto rows = ring.take();
  REQUIRE(rows.size() == written + 2);
  CHECK(rows[written].kind == TraceKind::kLost);
  CHECK(rows[written].arguments == std::vector<uint64_t>{1, 1});
  CHECK(rows[written + 1] == row_of(event_at(ticks)));
}

TEST_CASE("trace writer: who takes a ring over begins a block, and tells what was lost before") {
  Ring ring(2);
  uint64_t ticks = 100;
  while (ring.writer.write(event_at(ticks))) ++ticks;
  ring.take();
  ring.writer = ring.writer_of(8);
  CHECK(ring.writer.write(event_at(200000)));
  const auto rows = ring.take();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0] == TraceRow{TraceKind::kLost, 200000, 8, 0, kNoRow, {1, 200000 - ticks}, {}});
  CHECK(rows[1] == row_of(event_at(200000), 8));
  const uint64_t before = ring.head.written.load();
  ring.writer = ring.writer_of(9);
  CHECK(ring.writer.write(event_at(300000)));
  CHECK(ring.head.written.load() / kTraceBlockBytes == before / kTraceBlockBytes + 1);
  CHECK(ring.take() == std::vector<TraceRow>{row_of(event_at(300000), 9)});
}

TEST_CASE("trace writer: time does not run back") {
  Ring ring(2);
  ring.writer.write(event_at(1000));
  ring.writer.write(event_at(900));
  ring.writer.write(event_at(1100));
  const auto rows = ring.take();
  REQUIRE(rows.size() == 3);
  CHECK(rows[1].ticks == 1000);
  CHECK(rows[2].ticks == 1100);
}

TEST_CASE("trace writer: a reader that writes nonsense makes it drop, not write elsewhere") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    Ring ring(2);
    ring.head.released.store(i % 2 == 0 ? random() : random() % 64);
    for (uint64_t n = 0; n < 2000; ++n) ring.writer.write(event_at(n));
    CHECK(ring.head.written.load() <= 2000 * 4);
  }
}

TEST_CASE("trace writer: a writer and a reader at once") {
  constexpr uint64_t kCount = 400000;
  Ring ring(2);
  std::atomic<bool> done{false};
  std::thread thread([&] {
    for (uint64_t n = 0; n < kCount; ++n) {
      TraceEvent event = event_at(n * 3, TraceKind::kHeap);
      event.core = static_cast<uint32_t>(n / 1000 % 5);
      event.arguments[0] = n;
      event.arguments[1] = n * n;
      ring.writer.write(event);
    }
    done.store(true, std::memory_order_release);
  });
  uint64_t next = 0;
  uint64_t wrong = 0;
  uint64_t lost = 0;
  for (int visit = 0;; ++visit) {
    const bool is_last = done.load(std::memory_order_acquire);
    const auto rows = ring.take();
    for (const TraceRow& row : rows) {
      if (row.kind == TraceKind::kLost) {
        wrong += row.ticks - row.arguments[1] == next * 3 ? 0 : 1;
        lost += row.arguments[0];
        next += row.arguments[0];
        continue;
      }
      wrong += row.arguments == std::vector<uint64_t>{next, next * next} && row.ticks == next * 3 &&
                       row.core == next / 1000 % 5
                   ? 0
                   : 1;
      ++next;
    }
    if (is_last && rows.empty()) break;
    if (visit % 50 == 0) std::this_thread::yield();
  }
  thread.join();
  CHECK(wrong == 0);
  CHECK(next + ring.head.dropped.load() - lost == kCount);
}
