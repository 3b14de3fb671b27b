// SPDX-License-Identifier: Apache-2.0
// CPU profiles out of a dump: values, what has no stack, parts of the time, reports.
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dumper/decode_pprof.h"
#include "dumper/double_entry.h"
#include "dumper/info_json.h"
#include "dumper/report_info.h"
#include "dumper/report_top.h"
#include "tests/unit/catch.h"
#include "tests/unit/count_profiles.h"
#include "tests/unit/small_dump.h"

namespace {

using namespace mprof;          // NOLINT: a test of that namespace
using namespace mprof::dumper;  // NOLINT: the same
using format::CountKind;
using format::kNoRow;
using test::contains;
using test::kMs;
using test::leaf_name;
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

constexpr uint64_t kPeriod = 10 * kMs;

format::ThreadRow& add_thread(DumpImage& image, uint32_t tid, uint64_t samples, uint64_t in_mprof) {
  const uint32_t row = image.add_thread(tid);
  auto& thread = image.row<format::ThreadRow>(format::TableId::kThreads, row);
  thread.cpu_samples = samples;
  thread.cpu_in_mprof_ns = in_mprof;
  return thread;
}

void set_lost(DumpImage& image, format::Lost reason, uint64_t count) {
  image.header().lost[static_cast<size_t>(reason)] = count;
}

// 60 samples in a leaf function, 30 of another one with a label, of three threads.
void fill(DumpImage& image) {
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t main = image.add_node(0, 0x11101, program);
  image.add_count(CountKind::kCpu, image.add_node(main, 0x11201, program),
                  count_totals(60, kPeriod));
  image.add_count(CountKind::kCpu, image.add_node(main, 0x11301, program),
                  count_totals(30, kPeriod), image.add_label("tenant", "t1", kNoRow));
  image.add_count(CountKind::kBlock, main, count_totals(1, 5 * kMs));
  add_thread(image, 1, 80, 0);
  add_thread(image, 2, 10, 2 * kPeriod);
  add_thread(image, 3, 0, kPeriod);
  add_thread(image, 4, 0, 0);
  image.header().cpu_hz = 100;
  image.header().cpu_profiled_ticks = 1000 * kMs;
}

int64_t value_of_frame(const Profile& profile, const std::string& frame, size_t value) {
  int64_t sum = 0;
  for (const Sample& sample : profile.samples)
    if (sample.locations.size() == 1 && leaf_name(profile, sample) == frame)
      sum += sample.values[value];
  return sum;
}

}  // namespace

TEST_CASE("cpu_profile: samples and processor time, as Go writes them") {
  DumpImage image;
  fill(image);
  // Times of waits are ticks; these are not.
  image.header().ticks_are_ns = 0;
  image.header().clock_first = {1000, 1'000'000'000};
  image.header().clock_last = {3'000'001'000, 2'000'000'000};
  const Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(cpu.types == std::vector<ValueType>{{"samples", "count"}, {"cpu", "nanoseconds"}});
  CHECK(cpu.period_type == ValueType{"cpu", "nanoseconds"});
  CHECK(cpu.period == 10'000'000);
  REQUIRE(cpu.samples.size() == 3);
  CHECK(cpu.samples[0].values == std::vector<int64_t>{60, 600'000'000});
  CHECK(cpu.samples[1].values == std::vector<int64_t>{30, 300'000'000});
  CHECK(cpu.samples[1].labels.at(0).key == "tenant");
  CHECK(cpu.samples[0].variances.empty());
  CHECK(cpu.time_nanos == 1'700'000'000'000'000'000);
}

TEST_CASE("cpu_profile: a signal that came late stands for all its periods, which is no estimate") {
  DumpImage image;
  image.header().cpu_hz = 500;
  image.add_count(CountKind::kCpu, image.add_node(0, 0x1001, kNoRow), count_totals(5, 2 * kMs, 3));
  const Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(cpu.samples.at(0).values == std::vector<int64_t>{15, 30'000'000});
  CHECK(cpu.samples[0].variances.empty());
  CHECK(some_comment(cpu, "total: 15 samples, 30.0 ms of processor time, taken by 5 signals"));
}

TEST_CASE("cpu_profile: the leaf is the instruction that was interrupted") {
  DumpImage image;
  fill(image);
  const Profile cpu = profile_of(image, CountKind::kCpu);
  const auto& stack = cpu.samples.at(0).locations;
  REQUIRE(stack.size() == 2);
  CHECK(cpu.locations[stack[0]].address == 0x11200);
  CHECK(cpu.locations[stack[1]].address == 0x11100);
}

TEST_CASE("cpu_profile: time in mprof itself and dropped samples are frames of their own") {
  DumpImage image;
  fill(image);
  set_lost(image, format::Lost::kCpuDropped, 7);
  const Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(value_of_frame(cpu, "[mprof]", 0) == 3);
  CHECK(value_of_frame(cpu, "[mprof]", 1) == 30'000'000);
  CHECK(value_of_frame(cpu, "[lost: dropped]", 0) == 7);
  CHECK(value_of_frame(cpu, "[lost: dropped]", 1) == 70'000'000);
  CHECK(total(cpu, 1) == 1'000'000'000);
}

TEST_CASE("cpu_profile: without a rate now, the period is what samples stood for") {
  DumpImage image;
  fill(image);
  image.header().cpu_hz = 0;
  set_lost(image, format::Lost::kCpuDropped, 2);
  const Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(cpu.period == 10'000'000);
  CHECK(value_of_frame(cpu, "[lost: dropped]", 1) == 20'000'000);
  CHECK(some_comment(cpu, "CPU sampling is off now; it was on before"));
  DumpImage empty;
  CHECK(profile_of(empty, CountKind::kCpu).period == 10'000'000);
  CHECK(some_comment(profile_of(empty, CountKind::kCpu), "not taken (MPROF_CPU_HZ=0)"));
}

TEST_CASE("cpu_profile: its duration is how long it was on, to the end if it never was off") {
  DumpImage image;
  fill(image);
  image.header().end_realtime_ns = image.header().realtime_start_ns + 5000 * kMs;
  image.header().end_state = format::EndState::kClean;
  CHECK(profile_of(image, CountKind::kCpu).duration_nanos == 1'000'000'000);
  image.header().cpu_on_ticks = image.header().clock_first.ticks + 3500 * kMs;
  CHECK(profile_of(image, CountKind::kCpu).duration_nanos == 2'500'000'000);
  CHECK(profile_of(image, CountKind::kBlock).duration_nanos == 5'000'000'000);
}

TEST_CASE("cpu_profile: it is written when it was ever on") {
  DumpImage image;
  const auto is_written = [&] { return is_recorded(open(image), CountKind::kCpu); };
  CHECK_FALSE(is_written());
  image.header().cpu_profiled_ticks = 1;
  CHECK(is_written());
  image.header().cpu_profiled_ticks = 0;
  image.header().cpu_hz = 250;
  CHECK(is_written());
  image.header().cpu_hz = 0;
  image.add_count(CountKind::kBlock, 0, count_totals(1, 1));
  CHECK_FALSE(is_written());
  image.add_count(CountKind::kCpu, image.add_node(0, 0x1001, kNoRow), count_totals(1, kPeriod));
  CHECK(is_written());
  CHECK(recorded_views(open(image), true).back() == View(CountKind::kCpu));
}

TEST_CASE("cpu_profile: frames that wait are shown here, time was spent in them") {
  DumpImage image;
  fill(image);
  Profile cpu = profile_of(image, CountKind::kCpu);
  ProfileBuilder builder(cpu);
  cpu.samples.at(0).locations.insert(
      cpu.samples[0].locations.begin(),
      builder.location(-1, 0, {{builder.function("pthread_mutex_lock", ""), 0}}));
  CHECK_FALSE(apply_drop_frames(cpu));
  CHECK(leaf_name(cpu, cpu.samples[0]) == "pthread_mutex_lock");
}

TEST_CASE("cpu_profile: comments tell what was sampled of what was used, never more") {
  DumpImage image;
  fill(image);
  set_lost(image, format::Lost::kNoCpuTimer, 2);
  set_lost(image, format::Lost::kCpuDropped, 7);
  image.header().cpu_used_ns = 1100 * kMs;
  Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(some_comment(cpu, "mprof cpu profile of process"));
  CHECK(some_comment(
      cpu, "a sample for every 10.0 ms of each thread's processor time (MPROF_CPU_HZ=100)"));
  CHECK(some_comment(cpu, "total: 90 samples, 900.0 ms of processor time, taken by 90 signals"));
  CHECK(some_comment(cpu,
                     "processor time: 930.0 ms sampled, 30.0 ms of it in mprof itself; the "
                     "process used 1.10 s meanwhile, when it last looked"));
  CHECK(some_comment(cpu, "the profile was on for 1.00 s; samples of 3 threads"));
  CHECK(some_comment(cpu, "2 threads had no CPU timer: none of their processor time was sampled"));
  CHECK(some_comment(cpu, "lost: 7 samples (CPU sample dropped)"));
  image.header().end_state = format::EndState::kClean;
  cpu = profile_of(image, CountKind::kCpu);
  CHECK(some_comment(cpu, "in mprof itself; the process used 1.10 s meanwhile"));
  CHECK_FALSE(some_comment(cpu, "when it last looked"));
}

TEST_CASE("cpu_profile: a part of the time has its own samples, and says what it leaves out") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 1024);
  const auto at = [](uint64_t ms) { return SmallDump::kStartTicks + ms * kMs; };
  for (uint64_t ms = 10; ms <= 500; ms += 10) small.counted(0, 1, at(ms), kPeriod);
  small.count(1)->kind = static_cast<uint32_t>(CountKind::kCpu);
  small.thread(0)->cpu_in_mprof_ns = kPeriod;
  small.end_cleanly(at(1000));
  small.header()->cpu_hz = 100;
  Dump dump = Dump::open(small.path(), Access::kRead);
  CHECK(check_double_entry(dump).equal());
  const Reading part = read_wanted(dump, parse_time("--from", "95ms"), parse_time("--to", "200ms"));
  test::Names names(dump);
  const Profile cpu = make_profile(dump, part.counts, CountKind::kCpu, names.labels).profile;
  CHECK(total(cpu, 0) == 11);
  CHECK(total(cpu, 1) == static_cast<int64_t>(11 * kPeriod));
  CHECK(value_of_frame(cpu, "[mprof]", 1) == 0);
  CHECK(some_comment(cpu,
                     "events from 95.0 ms to 200.0 ms after the start only; time in mprof "
                     "itself and of samples that were dropped is known of the whole run only"));
  CHECK_FALSE(some_comment(cpu, "processor time:"));
  const Reading all = read_whole(dump);
  const Profile whole = make_profile(dump, all.counts, CountKind::kCpu, names.labels).profile;
  CHECK(value_of_frame(whole, "[mprof]", 1) == static_cast<int64_t>(kPeriod));
}

TEST_CASE("cpu_profile: double entry finds a sample that is in one book only") {
  const TempDir dir;
  SmallDump small(dir / "a.mprof", 1024);
  for (uint64_t i = 0; i < 5; ++i) small.counted(0, 1, i, kPeriod);
  small.count(1)->kind = static_cast<uint32_t>(CountKind::kCpu);
  small.end_cleanly(SmallDump::kStartTicks + 1000);
  const Dump dump = Dump::open(small.path(), Access::kRead);
  CHECK(check_double_entry(dump).equal());
  format::add_to(small.count(1)->totals[0], {kPeriod, format::kWeightOne});
  CHECK(check_double_entry(dump).missing_samples == 1);
  CHECK_FALSE(check_double_entry(dump).equal());
}

TEST_CASE("cpu_profile: pprof accepts both forms, the text one with samples only") {
  DumpImage image;
  fill(image);
  const std::string protobuf = write_one(image, CountKind::kCpu, false);
  CHECK(totals_by_pprof(protobuf, 2) == std::vector<int64_t>{93, 930'000'000});
  const std::string top = pprof_output("-top", protobuf);
  CHECK(contains(top, "Type: cpu\n"));
  CHECK(contains(top, "Duration: 1s, Total samples = 930ms (93.00%)"));
  CHECK(contains(top, "[mprof]"));
  const std::string text = write_one(image, CountKind::kCpu, true);
  CHECK(text.starts_with("samples profile: total 93\n60 @ 0x11201 0x11101\n"));
  CHECK(totals_by_pprof(text, 1) == std::vector<int64_t>{93});
  CHECK(contains(pprof_output("-tags", protobuf), "tenant: Total 300.0ms"));
}

TEST_CASE("cpu_profile: top shows the time by default") {
  DumpImage image;
  fill(image);
  const Profile cpu = profile_of(image, CountKind::kCpu);
  CHECK(compute_top(cpu, {}).total == 930'000'000);
  TopOptions samples;
  samples.value_type = "samples";
  CHECK(compute_top(cpu, samples).total == 93);
}

TEST_CASE("cpu_profile: info tells rate, samples, times and threads, in words and in numbers") {
  DumpImage image;
  fill(image);
  set_lost(image, format::Lost::kCpuDropped, 7);
  image.header().cpu_used_ns = 1100 * kMs;
  image.header().end_state = format::EndState::kClean;
  Dump dump = open(image);
  const HeapReading heap = read_heap(dump);
  const std::string text = report_info(dump, heap, "not checked");
  CHECK(contains(text, "processor time  a sample for every 10.0 ms"));
  CHECK(
      contains(text, "                90 samples with a stack, taken by 90 signals; 7 dropped\n"));
  CHECK(contains(
      text,
      "930.0 ms sampled, 30.0 ms of it in mprof itself; the process used 1.10 s meanwhile\n"));
  CHECK(contains(text, "the profile was on for 1.00 s; samples of 3 threads\n"));
  const auto json = nlohmann::json::parse(info_json(dump, heap, check_double_entry(dump)));
  CHECK(json["cpu_hz"] == 100);
  CHECK(json["cpu"]["recorded"] == true);
  CHECK(json["cpu"]["samples"] == 90);
  CHECK(json["cpu"]["sampled_ns"] == 900 * kMs);
  CHECK(json["cpu"]["in_mprof_ns"] == 30 * kMs);
  CHECK(json["cpu"]["dropped_samples"] == 7);
  CHECK(json["cpu"]["threads"] == 3);
  CHECK(json["cpu"]["used_ns"] == 1100 * kMs);
  CHECK(json["cpu"]["used_is_final"] == true);
  CHECK(json["cpu"]["profiled_ns"] == 1000 * kMs);
  CHECK(json["lost"]["CPU sample dropped"] == 7);
  const Profile allocs = make_profile(dump, heap, HeapView::kAllocs).profile;
  CHECK(contains(report_summary(dump, heap, allocs),
                 "  90 samples; processor time: 930.0 ms sampled, "));
  DumpImage off;
  Dump without = open(off);
  CHECK(contains(report_info(without, read_heap(without), ""),
                 "processor time  CPU samples were not taken (MPROF_CPU_HZ=0)\n"));
  CHECK_FALSE(contains(report_summary(without, read_heap(without), allocs), "processor time"));
}
