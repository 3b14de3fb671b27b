// SPDX-License-Identifier: Apache-2.0
// Names are offsets here, as without symbols: "program+0x1000" is the call that returns to 0x11001.
#include "dumper/report_locks.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

namespace mprof::dumper {
namespace {

using format::CountKind;
using testing::count_totals;
using testing::DumpImage;

constexpr uint64_t kMs = 1'000'000;  // ticks are nanoseconds
constexpr uint64_t kHeapLock = 0x7f12a0001230;

LockReport locks_of(const DumpImage& image) {
  const Dump dump = Dump::from_fd(image.duplicate(), "image", false);
  SymbolOptions options;
  options.detail = SymbolDetail::kNone;
  Symbolizer symbolizer(options);
  return compute_locks(dump, read_counts(dump), symbolizer, options.detail);
}

// A run of one second.
void set_exact(DumpImage& image) {
  image.header().block_rate_ns = 1;
  image.header().mutex_fraction = 1;
  image.header().end_realtime_ns = image.header().realtime_start_ns + 1000 * kMs;
  image.header().end_state.store(format::EndState::kClean);
}

// A global lock with two holders, the first with two victims; a rwlock on the heap; and a
// condition that somebody waited for.
void fill(DumpImage& image) {
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t main = image.add_node(format::kStackComplete, 0x11001, program);
  const uint32_t flush = image.add_node(main, 0x11101, program);
  const uint32_t put = image.add_node(main, 0x11201, program);
  const uint32_t get = image.add_node(main, 0x11301, program);
  const uint32_t mutex = image.add_label("wait", "mutex", format::kNoRow);
  const uint32_t global = image.add_address_label("lock", 0x1f010, program, mutex);
  const uint32_t of_put = image.add_stack_label("victim", put, global);
  const uint32_t of_get = image.add_stack_label("victim", get, global);
  const uint32_t read = image.add_label("wait", "rwlock read", format::kNoRow);
  const uint32_t heap = image.add_address_label("lock", kHeapLock, format::kNoRow, read);
  const uint32_t site = image.add_stack_label("lock_site", flush, heap);
  const uint32_t cond = image.add_label("wait", "cond", format::kNoRow);
  image.add_count(CountKind::kMutex, flush, count_totals(2, 50 * kMs), of_put);
  image.add_count(CountKind::kMutex, flush, count_totals(1, 150 * kMs), of_get);
  image.add_count(CountKind::kMutex, get, count_totals(10, 1 * kMs), of_put);
  image.add_count(CountKind::kBlock, put, count_totals(12, 20 * kMs), global);
  image.add_count(CountKind::kBlock, get, count_totals(1, 155 * kMs), global);
  image.add_count(CountKind::kBlock, get, count_totals(3, 2 * kMs), site);
  image.add_count(CountKind::kBlock, main, count_totals(1, 700 * kMs), cond);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("report_locks: the worst lock comes first, with its holders and their victims") {
  DumpImage image;
  set_exact(image);
  fill(image);
  const LockReport report = locks_of(image);
  CHECK(report.program == "/bin/program");
  CHECK(report.duration_ns == 1000 * kMs);
  REQUIRE(report.locks.size() == 2);

  const LockRow& lock = report.locks[0];
  CHECK(lock.name == "program+0xf010");
  CHECK(lock.address == 0x1f010);
  CHECK(lock.kind == "mutex");
  CHECK(lock.site.empty());
  CHECK(lock.contended.count.value == 13);
  CHECK(lock.contended.delay_ns.value == 260.0 * kMs);
  CHECK(lock.contended.delay_ns.standard_error == 0);
  CHECK(lock.share_of_time == Approx(0.26));
  CHECK(lock.waited.count.value == 13);
  CHECK(lock.waited.delay_ns.value == 395.0 * kMs);
  CHECK(lock.waited.longest_ns == 155 * kMs);

  REQUIRE(lock.holders.size() == 2);
  CHECK(lock.holders[0].site == "program+0x1100");
  CHECK(lock.holders[0].tally.delay_ns.value == 250.0 * kMs);
  REQUIRE(lock.holders[0].victims.size() == 2);
  CHECK(lock.holders[0].victims[0].site == "program+0x1300");
  CHECK(lock.holders[0].victims[0].tally.delay_ns.value == 150.0 * kMs);
  CHECK(lock.holders[0].victims[1].site == "program+0x1200");
  CHECK(lock.holders[0].victims[1].tally.count.value == 2);
  CHECK(lock.holders[1].site == "program+0x1300");
  REQUIRE(lock.waiters.size() == 2);
  CHECK(lock.waiters[0].site == "program+0x1200");
}

TEST_CASE("report_locks: a lock that nobody was charged for is there by its waiters") {
  DumpImage image;
  set_exact(image);
  fill(image);
  const LockRow lock = locks_of(image).locks.at(1);
  CHECK(lock.name == "0x7f12a0001230");
  CHECK(lock.site == "program+0x1100");
  CHECK(lock.kind == "rwlock");
  CHECK(lock.holders.empty());
  REQUIRE(lock.waiters.size() == 1);
  CHECK(lock.waiters[0].wait == "rwlock read");
  CHECK(lock.waited.delay_ns.value == 6.0 * kMs);
}

TEST_CASE("report_locks: waits for what is no lock are a sum of their own") {
  DumpImage image;
  set_exact(image);
  fill(image);
  const LockReport report = locks_of(image);
  CHECK(report.other_waits.count.value == 1);
  CHECK(report.other_waits.delay_ns.value == 700.0 * kMs);
  CHECK(report.waited.delay_ns.value == 401.0 * kMs);
  CHECK(contains(locks_table(report, 0, 0), "not shown: 1 wait of 700.0 ms"));
}

TEST_CASE("report_locks: one address in blocks of two sites is two locks, no address is one too") {
  DumpImage image;
  set_exact(image);
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t a = image.add_node(format::kStackComplete, 0x11001, program);
  const uint32_t b = image.add_node(format::kStackComplete, 0x11101, program);
  const uint32_t wait = image.add_label("wait", "mutex", format::kNoRow);
  const uint32_t lock = image.add_address_label("lock", kHeapLock, format::kNoRow, wait);
  const uint32_t in_a = image.add_stack_label("lock_site", a, lock);
  const uint32_t in_b = image.add_stack_label("lock_site", b, lock);
  image.add_count(CountKind::kMutex, a, count_totals(1, 3 * kMs), in_a);
  image.add_count(CountKind::kMutex, a, count_totals(1, 2 * kMs), in_b);
  image.add_count(CountKind::kMutex, a, count_totals(1, 1 * kMs), wait);
  const LockReport report = locks_of(image);
  REQUIRE(report.locks.size() == 3);
  CHECK(report.locks[0].site == "program+0x1000");
  CHECK(report.locks[1].site == "program+0x1100");
  CHECK(report.locks[2].name == "[unknown lock]");
  CHECK(report.locks[2].holders.at(0).victims.at(0).site == "[unknown]");
}

TEST_CASE("report_locks: thinned values carry their error, and the report says so") {
  DumpImage image;
  const uint32_t wait = image.add_label("wait", "spin", format::kNoRow);
  const uint32_t lock = image.add_address_label("lock", kHeapLock, format::kNoRow, wait);
  image.add_count(CountKind::kMutex, format::kNoRow, count_totals(4, 1 * kMs, 16), lock);
  image.header().lost[static_cast<size_t>(format::Lost::kWaitContended)].store(3);
  const LockReport report = locks_of(image);
  CHECK(report.contended.count.value == 64);
  // sqrt(4 * 16 * 15)
  CHECK(report.contended.count.standard_error == Approx(30.98).epsilon(0.001));
  const std::string table = locks_table(report, 0, 0);
  CHECK(contains(table, "64 ± 31 contentions with 64.0 ms ± 31.0 ms of delay"));
  CHECK(contains(table, "MPROF_MUTEX_FRACTION"));
  CHECK(contains(table, "lost: 3 samples (wait table contended)"));
}

TEST_CASE("report_locks: the table of an exact run") {
  DumpImage image;
  set_exact(image);
  fill(image);
  CHECK(locks_table(locks_of(image), 0, 0) ==
        R"(Locks of /bin/program, process 0, over 1.00 s
2 locks were waited for: 13 contentions with 260.0 ms of delay; all waits together 401.0 ms in 16 waits
not shown: 1 wait of 700.0 ms for conditions, semaphores, barriers, threads and futexes (mprof top --block)
mutex profile: all contention of locks was recorded (MPROF_MUTEX_FRACTION=1): values are exact
block profile: every wait was recorded (MPROF_BLOCK_RATE=1): values are exact

1. program+0xf010 (mutex)
   somebody waited for 260.0 ms, 26.0% of the run, in 13 contentions
   all waits together 395.0 ms in 13 waits, the longest 155.0 ms
        delay  share      count
     250.0 ms  96.2%          3  held by program+0x1100
     150.0 ms  57.7%          1    waited program+0x1300
     100.0 ms  38.5%          2    waited program+0x1200
      10.0 ms   3.8%         10  held by program+0x1300
      10.0 ms   3.8%         10    waited program+0x1200

2. 0x7f12a0001230 (rwlock)
   in a block allocated by program+0x1100
   all waits together 6.0 ms in 3 waits, the longest 2.0 ms
        delay  share      count
       6.0 ms 100.0%          3  waiter program+0x1300 [rwlock read]
)");
}

TEST_CASE("report_locks: as many locks as asked for, and what the others add up to") {
  DumpImage image;
  set_exact(image);
  fill(image);
  const LockReport report = locks_of(image);
  const std::string one = locks_table(report, 1, 0);
  CHECK(contains(one, "1. program+0xf010"));
  CHECK_FALSE(contains(one, "2. "));
  CHECK(contains(one, "1 more lock with 0 ns of delay: -n 0 shows all"));
  CHECK(contains(locks_table(report, 0, 0), "2. 0x7f12a0001230 (rwlock)"));
}

TEST_CASE("report_locks: lines fit the terminal, and obey no control character") {
  LockReport report;
  LockRow lock;
  lock.name = "g_\x1b[31m";
  lock.kind = "mutex";
  lock.holders.push_back(
      {"a_function_with_a_long_name(int) /a/long/folder/name/file.cc:10", {}, {}});
  report.locks.push_back(lock);
  const std::string wide = locks_table(report, 0, 0);
  CHECK(contains(wide, "g_?[31m"));
  CHECK(contains(wide, "/a/long/folder/name/file.cc:10"));
  const std::string narrow = locks_table(report, 0, 95);
  CHECK(contains(narrow, "held by a_function_with_a_long_name(int) file.cc:10"));
  CHECK(contains(locks_table(report, 0, 60), "held by a_function_with_a_lon…"));
}

TEST_CASE("report_locks: a dump without waits says so") {
  DumpImage image;
  set_exact(image);
  CHECK(contains(locks_table(locks_of(image), 0, 0), "No thread was seen to wait for a lock."));
  CHECK(nlohmann::json::parse(locks_json(locks_of(image)))["locks"].empty());
}

TEST_CASE("report_locks: JSON has everything") {
  DumpImage image;
  set_exact(image);
  fill(image);
  LockReport report = locks_of(image);
  report.locks[1].name = "not UTF-8: \xff";
  const auto json = nlohmann::json::parse(locks_json(report));
  CHECK(json["duration_ns"] == 1000 * kMs);
  const auto& lock = json["locks"][0];
  CHECK(lock["lock"] == "program+0xf010");
  CHECK(lock["contended"]["delay_ns"]["value"] == 260.0 * kMs);
  CHECK(lock["holders"][0]["site"] == "program+0x1100");
  CHECK(lock["holders"][0]["victims"][0]["site"] == "program+0x1300");
  CHECK(lock["holders"][0]["victims"][0]["wait"] == "mutex");
  CHECK(lock["waited"]["longest_ns"] == 155 * kMs);
  CHECK(json["locks"][1]["waiters"][0]["wait"] == "rwlock read");
  CHECK(json["other_waits"]["count"]["value"] == 1);
}

}  // namespace
}  // namespace mprof::dumper
