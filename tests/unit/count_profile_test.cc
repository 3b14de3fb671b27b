// SPDX-License-Identifier: Apache-2.0
#include "dumper/count_profile.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dumper/decode_pprof.h"
#include "dumper/info_json.h"
#include "dumper/report_info.h"
#include "tests/unit/catch.h"
#include "tests/unit/count_profiles.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/small_dump.h"

namespace {

using namespace mprof;          // NOLINT: a test of that namespace
using namespace mprof::dumper;  // NOLINT: the same
using format::CountKind;
using format::kNoRow;
using format::kWeightOne;
using test::kMs;
using test::label_of;
using test::leaf_name;
using test::Names;
using test::near;
using test::open;
using test::pprof_output;
using test::profile_of;
using test::some_comment;
using test::total;
using test::totals_by_pprof;
using test::write_one;
using testing::count_totals;
using testing::DumpImage;
using testing::SmallDump;
using testing::TempDir;

// Three stacks that wait and release, two that make threads.
void fill(DumpImage& image) {
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t main = image.add_node(0, 0x11101, program);
  const uint32_t worker = image.add_node(main, 0x11201, program);
  const uint32_t mutex = image.add_label("wait", "mutex", kNoRow);
  const uint32_t global = image.add_address_label("lock", 0x1f010, program, mutex);
  const uint32_t on_heap = image.add_address_label("lock", 0x7f0000001000, kNoRow, mutex);
  image.add_count(CountKind::kBlock, worker, count_totals(3, 100 * kMs), global);
  image.add_count(CountKind::kBlock, main, count_totals(5, kMs / 20, 2.5), on_heap);
  image.add_count(CountKind::kMutex, main, count_totals(1, 100 * kMs),
                  image.add_stack_label("victim", worker, global));
  image.add_count(CountKind::kThreadCreate, kNoRow, count_totals(1, 0));
  image.add_count(CountKind::kThreadCreate, worker, count_totals(4, 0),
                  image.add_address_label("start", 0x11301, program, kNoRow));
}

}  // namespace

TEST_CASE("count_profile: block and mutex have contentions and delay, threadcreate its count") {
  DumpImage image;
  fill(image);
  const Profile block = profile_of(image, CountKind::kBlock);
  CHECK(block.types == std::vector<ValueType>{{"contentions", "count"}, {"delay", "nanoseconds"}});
  CHECK(block.default_type == -1);
  CHECK(block.period_type == ValueType{"contentions", "count"});
  CHECK(block.period == 1);
  CHECK(total(block, 0) == 3 + 13);  // 5 * 2.5, rounded along the sum
  CHECK(total(block, 1) == static_cast<int64_t>(300 * kMs + 5 * kMs / 8));
  const Profile mutex = profile_of(image, CountKind::kMutex);
  CHECK(mutex.types == block.types);
  CHECK(total(mutex, 0) == 1);
  CHECK(total(mutex, 1) == static_cast<int64_t>(100 * kMs));
  const Profile threads = profile_of(image, CountKind::kThreadCreate);
  CHECK(threads.types == std::vector<ValueType>{{"threadcreate", "count"}});
  CHECK(threads.period_type == ValueType{"threadcreate", "count"});
  CHECK(threads.period == 1);
  CHECK(total(threads, 0) == 5);
}

TEST_CASE("count_profile: the labels say what was waited for, which lock, and who was the victim") {
  DumpImage image;
  fill(image);
  const Profile block = profile_of(image, CountKind::kBlock);
  REQUIRE(block.samples.size() == 2);
  CHECK(label_of(block.samples[0], "wait") == "mutex");
  CHECK(label_of(block.samples[0], "lock") == "program+0xf010");
  CHECK(label_of(block.samples[1], "lock") == "0x7f0000001000");
  CHECK_FALSE(label_of(block.samples[0], "victim"));
  const Profile mutex = profile_of(image, CountKind::kMutex);
  CHECK(label_of(mutex.samples.at(0), "victim") == "program+0x1200");
  CHECK(mutex.samples[0].labels.front().key == "wait");
  const Profile threads = profile_of(image, CountKind::kThreadCreate);
  CHECK(label_of(threads.samples.at(1), "start") == "program+0x1301");
}

TEST_CASE("count_profile: what happened before mprof was there has one frame that says so") {
  DumpImage image;
  fill(image);
  const Profile threads = profile_of(image, CountKind::kThreadCreate);
  REQUIRE(threads.samples.size() == 2);
  CHECK(threads.samples[0].locations.size() == 1);
  CHECK(leaf_name(threads, threads.samples[0]) == "[before mprof]");
  CHECK(threads.samples[0].values == std::vector<int64_t>{1});
}

TEST_CASE("count_profile: rows that read the same are one sample, others are not") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  // The same text from two rows of the label table, as two threads that race leave it.
  const uint32_t labels[] = {image.add_label("wait", "cond", kNoRow),
                             image.add_label("wait", "cond", kNoRow),
                             image.add_label("wait", "join", kNoRow)};
  for (const uint32_t label : labels)
    image.add_count(CountKind::kBlock, stack, count_totals(1, 1000, 1.5), label);
  image.add_count(CountKind::kBlock, stack, count_totals(2, 1000), labels[0]);
  image.add_count(CountKind::kBlock, stack, {}, labels[2]);
  const Profile block = profile_of(image, CountKind::kBlock);
  REQUIRE(block.samples.size() == 2);
  CHECK(block.samples[0].values == std::vector<int64_t>{5, 5000});
  CHECK(near(block.samples[0].variances.at(0), 2 * 1.5 * 0.5));
  CHECK(near(block.samples[0].variances.at(1), 2 * 1e6 * 1.5 * 0.5));
  CHECK(label_of(block.samples[1], "wait") == "join");
}

TEST_CASE("count_profile: ticks become nanoseconds, and the sum is not a sum of rounding errors") {
  DumpImage image;
  image.header().ticks_are_ns = 0;
  image.header().clock_first = {1000, 1'000'000'000};
  image.header().clock_last = {3'000'001'000, 2'000'000'000};  // three ticks a nanosecond
  for (uint64_t i = 0; i < 6; ++i)
    image.add_count(CountKind::kMutex, image.add_node(0, 0x1001 + i, kNoRow),
                    count_totals(1, 1, 1));
  CHECK(total(profile_of(image, CountKind::kMutex), 1) == 2);
  const Dump dump = open(image);
  CHECK(near(sum(dump, read_counts(dump), CountKind::kMutex).delay_ns.value, 2));
}

TEST_CASE("count_profile: estimates have a standard error, exact values none") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_count(CountKind::kBlock, stack, count_totals(16, 25'000, 4));  // w (w - 1) = 12
  image.add_count(CountKind::kBlock, stack, count_totals(1, 5 * kMs));
  const Dump dump = open(image);
  const CountSums sums = sum(dump, read_counts(dump), CountKind::kBlock);
  CHECK(sums.count.value == 65);
  CHECK(near(sums.count.standard_error, std::sqrt(16 * 12.0)));
  CHECK(sums.delay_ns.value == 16 * 4 * 25'000.0 + 5e6);
  CHECK(near(sums.delay_ns.standard_error, 25'000 * std::sqrt(16 * 12.0)));
  CHECK(sums.samples == 17);
  CHECK(sums.longest_ns == 5 * kMs);
  Profile block = profile_of(dump, CountKind::kBlock);
  CHECK(some_comment(block, "waits of 100.0 us or longer were recorded"));
  CHECK(some_comment(block, "65 ± 14 contentions, 6.6 ms ± 346.4 us of delay"));
  CHECK(some_comment(block, "17 events recorded, the longest 5.0 ms"));
  CHECK_FALSE(block.samples.at(0).variances.empty());
  image.header().block_rate_ns = 1;
  block = profile_of(image, CountKind::kBlock);
  CHECK(block.samples.at(0).variances.empty());
  CHECK(some_comment(block, "every wait was recorded"));
}

TEST_CASE("count_profile: comments tell the rates, what is off and what was lost") {
  DumpImage image;
  fill(image);
  image.header().lost[static_cast<size_t>(format::Lost::kWaitContended)] = 7;
  image.header().lost[static_cast<size_t>(format::Lost::kNoProfbuf)] = 8;
  Profile mutex = profile_of(image, CountKind::kMutex);
  CHECK(some_comment(mutex, "mprof mutex profile of process"));
  CHECK(some_comment(mutex, "command line: program -x 'a b'"));
  CHECK(some_comment(mutex, "stretches of waiting much longer than 102.4 us were all recorded"));
  CHECK(some_comment(mutex, "MPROF_MUTEX_FRACTION=1024"));
  CHECK(some_comment(mutex, "lost: 7 samples (wait table contended)"));
  CHECK(some_comment(mutex, "8 events are in the totals and not in the events over time"));
  image.header().mutex_fraction = 0;
  image.header().block_rate_ns = 0;
  CHECK(some_comment(profile_of(image, CountKind::kMutex), "MPROF_MUTEX_FRACTION=0"));
  CHECK(some_comment(profile_of(image, CountKind::kBlock), "MPROF_BLOCK_RATE=0"));
  image.header().mutex_fraction = 1;
  mutex = profile_of(image, CountKind::kMutex);
  CHECK(some_comment(mutex, "all contention of locks was recorded"));
  CHECK(mutex.samples.at(0).variances.empty());
  CHECK(some_comment(profile_of(image, CountKind::kThreadCreate), "total: 5 threads"));
}

TEST_CASE("count_profile: what was not recorded is written only when it is asked for") {
  DumpImage image;
  const auto names_of = [&](bool part_of_the_time) {
    std::string names;
    for (const View& view : recorded_views(open(image), part_of_the_time))
      names += std::string(names.empty() ? "" : ",") + view_name(view);
    return names;
  };
  CHECK(names_of(false) == "heap,allocs,peak,block,mutex,threadcreate");
  CHECK(names_of(true) == "heap,allocs,block,mutex,threadcreate");
  image.header().block_rate_ns = 0;
  CHECK(names_of(false) == "heap,allocs,peak,mutex,threadcreate");
  image.header().mutex_fraction = 0;
  image.header().heap_rate_bytes = 0;
  CHECK(names_of(false) == "threadcreate");
  CHECK(decode_pprof(write_one(image, CountKind::kBlock, false)).samples.empty());
}

TEST_CASE("count_profile: frames of the waiting functions themselves are not shown") {
  DumpImage image;
  fill(image);
  Profile block = profile_of(image, CountKind::kBlock);
  ProfileBuilder builder(block);
  const uint32_t caller = block.samples.at(0).locations.at(0);
  for (const char* inside :
       {"pthread_mutex_lock", "pthread_cond_timedwait", "sem_wait", "mtx_lock", "pthread_join",
        "pthread_rwlock_wrlock", "pthread_barrier_wait", "__gthread_mutex_lock",
        "std::mutex::lock()", "std::lock_guard<std::mutex>::lock_guard(std::mutex&)",
        "std::condition_variable::wait(std::unique_lock<std::mutex>&)",
        "std::thread::thread<main::{lambda()#1}>(main::{lambda()#1}&&)"})
    block.samples.push_back(
        {{builder.location(-1, 0, {{builder.function(inside, ""), 0}}), caller}, {1, 1}, {}, {}});
  CHECK_FALSE(apply_drop_frames(block));
  for (const Sample& sample : block.samples) CHECK(leaf_name(block, sample).empty());
  // These call functions of the program.
  for (const char* kept : {"void std::condition_variable::wait<main::{lambda()#1}>()",
                           "std::thread::_State_impl<X>::_M_run()", "void std::call_once<f>()"}) {
    block.samples = {
        {{builder.location(-1, 0, {{builder.function(kept, ""), 0}}), caller}, {1, 1}, {}, {}}};
    CHECK_FALSE(apply_drop_frames(block));
    CHECK(leaf_name(block, block.samples.at(0)) == kept);
  }
}

TEST_CASE("count_profile: pprof accepts both forms and reads the same totals from them") {
  DumpImage image;
  fill(image);
  for (const CountKind kind : {CountKind::kBlock, CountKind::kMutex}) {
    INFO(view_name(kind));
    const std::string protobuf = write_one(image, kind, false);
    const std::string text = write_one(image, kind, true);
    const bool is_block = kind == CountKind::kBlock;
    CHECK(text.starts_with(is_block ? "--- contention:\ncycles/second=1000000000\n"
                                    : "--- mutex:\ncycles/second=1000000000\nsampling period=1\n"));
    for (const std::string& form : {protobuf, text}) {
      CHECK(totals_by_pprof(form, 2) == (is_block ? std::vector<int64_t>{16, 300'625'000}
                                                  : std::vector<int64_t>{1, 100'000'000}));
    }
  }
}

TEST_CASE("count_profile: pprof accepts threads that were made before mprof, in both forms") {
  DumpImage image;
  fill(image);
  const std::string text = write_one(image, CountKind::kThreadCreate, true);
  CHECK(text.starts_with("threadcreate profile: total 5\n4 @ 0x"));
  CHECK(test::contains(text, "\n1 @ 0x4000000000000001\n"));
  CHECK(test::contains(text, "[before_mprof]\n"));
  for (const bool as_text : {false, true}) {
    const std::string top =
        pprof_output("-top", write_one(image, CountKind::kThreadCreate, as_text));
    CHECK(test::contains(top, "100% of 5 total"));
    CHECK(test::contains(top, as_text ? "[before_mprof]" : "[before mprof]"));
  }
}

TEST_CASE("count_profile: pprof finds samples by their labels") {
  DumpImage image;
  fill(image);
  const std::string bytes = write_one(image, CountKind::kBlock, false);
  CHECK(test::contains(pprof_output("-top -unit=ms -tagfocus=lock=program", bytes),
                       "300ms, 99.79% of 300.62ms total"));
  CHECK(test::contains(pprof_output("-tags", bytes), "wait: Total 300.6ms"));
}

TEST_CASE("count_profile: a part of the time has the waits that ended in it, with their weights") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 1024);
  const auto at = [](uint64_t ms) { return SmallDump::kStartTicks + ms * kMs; };
  small.counted(0, 1, at(100), 3 * kMs);
  small.counted(0, 1, at(200), kMs, 4 * kWeightOne);
  small.counted(1, 1, at(300), 2 * kMs, 3 * kWeightOne / 2);
  small.counted(1, 2, at(900), 9 * kMs);
  small.alloc(0, 1, at(200), 1000);
  small.end_cleanly(at(1000));
  small.header()->block_rate_ns = 100'000;
  Dump dump = Dump::open(small.path(), Access::kRead);
  const Reading part =
      read_wanted(dump, parse_time("--from", "150ms"), parse_time("--to", "300ms"));
  const CountSums sums = sum(dump, part.counts, CountKind::kBlock);
  CHECK(sums.count.value == 5.5);
  CHECK(sums.delay_ns.value == 7e6);
  CHECK(sums.longest_ns == 2 * kMs);
  CHECK(near(sums.count.standard_error, std::sqrt(12 + 0.75)));
  CHECK(sum(part.heap).alloc_bytes.value == 1000);
  Names names(dump);
  const Profile block = make_profile(dump, part.counts, CountKind::kBlock, names.labels).profile;
  CHECK(block.samples.size() == 1);
  CHECK(
      some_comment(block, "events from 150.0 ms to 300.0 ms after the start only; a wait counts"));
  // The whole time is the totals, to the last bit.
  const Reading all = read_wanted(dump, parse_time("--from", "0"), std::nullopt);
  for (const auto& [row, copy] : all.counts.rows) {
    const auto totals = dump.count(row)->totals;
    CHECK(copy.totals.count == totals.count);
    CHECK(copy.totals.value == totals.value);
    CHECK(copy.totals.value_variance == totals.value_variance);
    CHECK(copy.totals.longest == totals.longest);
  }
}

TEST_CASE("count_profile: short waits are sampled by their length without bias") {
  constexpr uint64_t kRate = 100'000;
  constexpr uint64_t kWait = 5'000;
  constexpr uint64_t kWaits = 1'000'000;
  std::mt19937_64 random(7);
  DumpImage image;
  format::CountTotals totals{};
  for (uint64_t i = 0; i < kWaits; ++i)
    if (random() % kRate < kWait)
      format::add_to(totals, {kWait, format::wait_weight(kWait, kRate)});
  image.add_count(CountKind::kBlock, image.add_node(0, 0x1001, kNoRow), totals);
  const Dump dump = open(image);
  const CountSums sums = sum(dump, read_counts(dump), CountKind::kBlock);
  // n waits kept with chance p: the relative error is sqrt((1 - p) / (n p)), here 0.44 %.
  CHECK(near(sums.count.standard_error / sums.count.value, std::sqrt(0.95 / (sums.samples + 0.0))));
  CHECK(std::abs(sums.count.value - kWaits) < 4 * sums.count.standard_error);
  CHECK(std::abs(sums.delay_ns.value - 1.0 * kWaits * kWait) < 4 * sums.delay_ns.standard_error);
}

TEST_CASE("count_profile: info tells waits, contention and threads, in words and in numbers") {
  DumpImage image;
  fill(image);
  Dump dump = open(image);
  const HeapReading heap = read_heap(dump);
  std::string text = report_info(dump, heap, "not checked");
  CHECK(test::contains(text,
                       "waits           16 ± 4 contentions, 300.6 ms ± 216.5 us of delay; 8 "
                       "recorded, the longest 100.0 ms\n"));
  CHECK(test::contains(text, "lock contention 1 contentions, 100.0 ms of delay; 1 recorded"));
  CHECK(test::contains(text, "threads made    5\n"));
  const auto json = nlohmann::json::parse(info_json(dump, heap, check_double_entry(dump)));
  CHECK(json["block_rate_ns"] == 100000);
  CHECK(json["mutex_fraction"] == 1024);
  CHECK(json["block"]["samples"] == 8);
  CHECK(json["block"]["contentions"]["value"] == 15.5);
  CHECK(json["block"]["delay_ns"]["value"] == 300'625'000);
  CHECK(json["block"]["delay_ns"]["stderr"].get<double>() > 216'000);
  CHECK(json["block"]["longest_ns"] == 100 * kMs);
  CHECK(json["mutex"]["delay_ns"]["value"] == 100 * kMs);
  CHECK(json["mutex"]["delay_ns"]["stderr"] == 0);
  CHECK(json["threads_created"] == 5);
  image.header().block_rate_ns = 0;
  text = report_info(dump, heap, "not checked");
  CHECK(test::contains(text, "waits           waits were not recorded (MPROF_BLOCK_RATE=0)\n"));
}
