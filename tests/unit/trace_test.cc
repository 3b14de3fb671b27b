// SPDX-License-Identifier: Apache-2.0
#include "preload/trace.h"

#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "preload/clock.h"
#include "preload/rings.h"
#include "preload/trace_ring.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"
#include "tests/unit/trace_records.h"

namespace {

using namespace mprof;
using namespace mprof::preload;
using format::kNoRow;
using format::TableId;
using format::TraceKind;
using test::TraceRow;

// A trace as trace_set() begins it, without the hooks.
class Tracing {
 public:
  Tracing() {
    header->trace_sessions.fetch_add(1);
    trace_on.store(true);
  }
  ~Tracing() { trace_on.store(false); }
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;
};

void write(TraceKind kind, uint64_t a = 0) {
  work_on_sample([&](ThreadBlock* thread) { trace_write(thread, kind, ticks(), kNoRow, a); });
}

uint64_t lost() { return header->lost[static_cast<size_t>(format::Lost::kTraceLost)].load(); }

// What a ring holds, as another process sees it.
std::vector<TraceRow> rows_of(uint32_t ring) {
  const test::ReaderView view;
  const auto& head = view.row<format::ProfbufHead>(TableId::kTraceRings, ring);
  const auto& first = view.row<uint8_t>(TableId::kTraceData, ring * format::kTraceRingBytes);
  return test::TraceRowReader().read({&first, head.written.load(std::memory_order_acquire)});
}

std::vector<TraceKind> kinds_of(const std::vector<TraceRow>& rows) {
  std::vector<TraceKind> kinds;
  for (const TraceRow& row : rows) kinds.push_back(row.kind);
  return kinds;
}

template <class Body>
void in_a_thread(Body&& body) {
  std::thread(body).join();
}

}  // namespace

TEST_CASE("trace: a program without one has no ring and no room for any") {
  const test::Recording recording;
  own_block();
  CHECK(tables.trace_rings.used() == 0);
  for (const TableId table : {TableId::kTraceRings, TableId::kTraceData})
    CHECK(header->tables[static_cast<size_t>(table)].chunk_offset[0].load() == 0);
}

TEST_CASE("trace: a thread gets its ring with its first record and gives it back at its end") {
  const test::Recording recording;
  const Tracing tracing;
  for (uint64_t i = 0; i < 3; ++i)
    in_a_thread([&] {
      write(TraceKind::kBegin);
      write(TraceKind::kCall, i);
    });
  CHECK(tables.trace_rings.used() == 1);
  CHECK(tables.trace_rings.at(0)->owner.load() == 0);
  const auto rows = rows_of(0);
  const std::vector<TraceKind> one = {TraceKind::kBegin, TraceKind::kCall, TraceKind::kExit};
  REQUIRE(rows.size() == 9);
  for (size_t i = 0; i < 9; ++i) {
    CHECK(rows[i].kind == one[i % 3]);
    CHECK(rows[i].thread == rows[i - i % 3].thread);
    if (rows[i].kind == TraceKind::kCall) CHECK(rows[i].arguments[0] == i / 3);
  }
  CHECK(rows[0].thread != rows[3].thread);
  CHECK(rows[3].thread != rows[6].thread);
}

TEST_CASE("trace: threads at once have a ring each, in as many chunks as that takes") {
  const test::Recording recording;
  const Tracing tracing;
  constexpr int kThreads = 11;
  test::in_threads(kThreads, [](int number) {
    for (uint64_t i = 0; i < 1000; ++i) write(TraceKind::kCall, static_cast<uint64_t>(number) + i);
    static std::atomic<int> written{0};
    ++written;
    while (written % kThreads != 0) std::this_thread::yield();
  });
  CHECK(tables.trace_rings.used() == kThreads);
  for (uint32_t ring = 0; ring < kThreads; ++ring) {
    const auto rows = rows_of(ring);
    REQUIRE(rows.size() == 1001);
    CHECK(rows[1000].kind == TraceKind::kExit);
    for (size_t i = 0; i < 1000; ++i) {
      CHECK(rows[i].thread == rows[0].thread);
      CHECK(rows[i].arguments[0] == rows[0].arguments[0] + i);
    }
  }
  CHECK(lost() == 0);
}

TEST_CASE("trace: records of a thread that gets no ring are counted, and it asks again") {
  const test::Recording recording;
  const Tracing tracing;
  header->trace_ring_bytes = 512 << 20;  // more than all together may have
  in_a_thread([] {
    for (uint64_t i = 0; i < 300; ++i) write(TraceKind::kCall, i);
    CHECK(lost() == 300);
    header->trace_ring_bytes = format::kTraceRingBytes;
    while (self.block->trace_head == nullptr) write(TraceKind::kCall, lost());
    write(TraceKind::kYield);
  });
  CHECK(lost() == 513);
  CHECK(kinds_of(rows_of(0)) == std::vector<TraceKind>{TraceKind::kYield, TraceKind::kExit});
}

TEST_CASE("trace: after its end a thread writes nothing more") {
  const test::Recording recording;
  const Tracing tracing;
  in_a_thread([] {
    write(TraceKind::kBegin);
    {
      const Guard guard(Guard::kAtWork);
      trace_exit();
      trace_exit();
    }
    write(TraceKind::kYield);
  });
  CHECK(kinds_of(rows_of(0)) == std::vector<TraceKind>{TraceKind::kBegin, TraceKind::kExit});
  CHECK(lost() == 0);
}

TEST_CASE("trace: a thread's labels are told with the first record of each session") {
  const test::Recording recording;
  uint32_t set = kNoRow;
  REQUIRE(add_label(&set, "key", "value"));
  in_a_thread([&] {
    set_current_labels(set);
    {
      const Tracing tracing;
      write(TraceKind::kBegin);
      write(TraceKind::kYield);
    }
    set_current_labels(kNoRow);
    const Tracing tracing;
    write(TraceKind::kYield);
    self.trace_ended = 1;
  });
  const auto rows = rows_of(0);
  REQUIRE(kinds_of(rows) == std::vector<TraceKind>{TraceKind::kBegin, TraceKind::kLabels,
                                                   TraceKind::kYield, TraceKind::kYield,
                                                   TraceKind::kLabels});
  CHECK(rows[1].arguments[0] == set + 1);
  CHECK(rows[4].arguments[0] == 0);
}

TEST_CASE("trace: a record has the core that its thread is on") {
  const test::Recording recording;
  const Tracing tracing;
  in_a_thread([] {
    cpu_set_t all;
    REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (!CPU_ISSET(core, &all)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(core, &one);
      REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
      write(TraceKind::kCall, static_cast<uint64_t>(core));
    }
  });
  for (const TraceRow& row : rows_of(0))
    if (row.kind == TraceKind::kCall) CHECK(row.core == row.arguments[0]);
}
