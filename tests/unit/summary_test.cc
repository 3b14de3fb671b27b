// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/summary.h"

#include <nlohmann/json.hpp>
#include <string>

#include "dumper/trace/report_summary.h"
#include "tests/unit/catch.h"
#include "tests/unit/trace_steps.h"

namespace mprof::dumper {
namespace {

using format::CallName;
using format::WaitKind;
using testing::Story;
using testing::TraceDump;

constexpr uint64_t kLock = 0x1f010;
constexpr uint32_t kOuter = 3, kInner = 4;  // stacks

TraceSummary summary_of(const Story& story, size_t longest = 10) {
  SummarySink sink(longest);
  story.tell(sink);
  return sink.summary();
}

void check(const Tally& tally, uint64_t count, uint64_t total_ns, uint64_t longest_ns) {
  CHECK(tally.count == count);
  CHECK(tally.total_ns == total_ns);
  CHECK(tally.longest_ns == longest_ns);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Thread 1 runs, waits twice for a lock that thread 2 has, and reads; 100 ns in all.
Story small_story() {
  Story story;
  story.at(0).add(StepKind::kStart, 0);
  story.appears(1);
  story.appears(2);
  story.add(StepKind::kCoreBegin, 1);
  story.runs(1, 0);
  story.add(StepKind::kCoreBegin, 2);
  story.runs(2, 1);
  story.at(10).names(StepKind::kRegionBegin, 1, 0, "load");
  story.at(15).blocks(1, WaitKind::kMutex, kLock, kInner);
  story.at(35).wakes(1, 2, kOuter);
  story.at(40).runs(1, 0);
  story.at(42).blocks(1, WaitKind::kMutex, kLock, kInner);
  story.at(47).wakes(1, 2, kOuter);
  story.runs(1, 0);
  story.at(50).calls(StepKind::kCall, 1, CallName::kRead).stack = kOuter;
  story.at(53).calls(StepKind::kCallEnd, 1, CallName::kRead);
  story.at(55).add(StepKind::kRegionEnd, 1);
  story.at(60).calls(StepKind::kCall, 1, CallName::kRead).stack = kInner;
  story.calls(StepKind::kCallBlock, 1, CallName::kRead);
  story.at(80).calls(StepKind::kCallReturn, 1, CallName::kRead);
  story.at(82).runs(1, 0);
  story.at(100).add(StepKind::kExit, 1);
  story.add(StepKind::kYield, 2);
  return story;
}

TEST_CASE("summary: the time of a thread is split by what it was spent on") {
  const TraceSummary summary = summary_of(small_story());
  CHECK(summary.end_ns == 100);
  CHECK(summary.cores == 2);
  CHECK(summary.sessions == 1);
  REQUIRE(summary.threads.size() == 2);
  const SpentTime& spent = summary.threads.at(1).spent;
  check(spent.in(Phase::kRunning), 4, 15 + 2 + 13 + 18, 18);
  check(spent.in(Phase::kRunnable), 4, 0 + 5 + 0 + 2, 5);
  check(spent.in(Phase::kBlocked), 2, 25, 20);
  check(spent.blocked.at(WaitKind::kMutex), 2, 25, 20);
  check(spent.in(Phase::kInCall), 1, 20, 20);
  check(spent.calls.at(CallName::kRead), 2, 23, 20);
  check(summary.threads.at(2).spent.in(Phase::kRunning), 1, 100, 100);
}

TEST_CASE("summary: a region has the part of each stretch that lies in it") {
  const TraceSummary summary = summary_of(small_story());
  REQUIRE(summary.regions.size() == 1);
  const NamedTimes& load = summary.regions.at("load");
  check(load.whole, 1, 45, 45);
  CHECK(load.unfinished == 0);
  check(load.spent.in(Phase::kRunning), 3, 5 + 2 + 8, 8);
  check(load.spent.blocked.at(WaitKind::kMutex), 2, 25, 20);
  check(load.spent.calls.at(CallName::kRead), 1, 3, 3);
  CHECK(load.spent.in(Phase::kInCall).count == 0);
}

TEST_CASE("summary: of regions of one name in each other only the outermost counts") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  for (const uint64_t ns : {10, 20, 30}) story.at(ns).names(StepKind::kRegionBegin, 1, 0, "walk");
  for (const uint64_t ns : {40, 50, 70}) story.at(ns).add(StepKind::kRegionEnd, 1);
  story.at(100).add(StepKind::kYield, 1);
  const NamedTimes walk = summary_of(story).regions.at("walk");
  check(walk.whole, 1, 60, 60);
  check(walk.spent.in(Phase::kRunning), 1, 60, 60);
}

TEST_CASE("summary: a task has its own length and what threads did in its regions") {
  Story story;
  story.at(0).appears(1);
  story.appears(2);
  story.runs(1, 0);
  story.runs(2, 1);
  story.at(10).names(StepKind::kTaskBegin, 1, 5, "request");
  story.at(20).names(StepKind::kRegionBegin, 1, 5, "parse");
  story.names(StepKind::kRegionBegin, 1, 5, "header");
  story.at(25).add(StepKind::kRegionEnd, 1);
  story.at(30).add(StepKind::kRegionEnd, 1);
  story.at(40).names(StepKind::kRegionBegin, 2, 5, "answer");
  story.at(45).blocks(2, WaitKind::kCond, 0, kOuter);
  story.at(65).wakes(2, 1);
  story.runs(2, 1);
  story.at(70).add(StepKind::kRegionEnd, 2);
  story.at(80).add(StepKind::kTaskEnd, 2).value = 5;
  story.at(90).names(StepKind::kTaskBegin, 1, 6, "request");
  story.at(100).add(StepKind::kYield, 1);
  story.add(StepKind::kYield, 2);
  const NamedTimes request = summary_of(story).tasks.at("request");
  check(request.whole, 2, 70 + 10, 70);
  CHECK(request.unfinished == 1);
  check(request.spent.in(Phase::kRunning), 3, 10 + 5 + 5, 10);
  check(request.spent.blocked.at(WaitKind::kCond), 1, 20, 20);
}

TEST_CASE("summary: the phases of each thread add up to its life, whatever it does") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    SummarySink sink(3);
    testing::tell_random_trace(seed, sink);
    for (const auto& [number, thread] : sink.summary().threads) {
      INFO("thread " << number);
      uint64_t sum_ns = 0;
      for (const Tally& phase : thread.spent.phases) sum_ns += phase.total_ns;
      CHECK(sum_ns == thread.end_ns - thread.begin_ns);
      uint64_t blocked_ns = 0;
      for (const auto& [wait, tally] : thread.spent.blocked) blocked_ns += tally.total_ns;
      CHECK(blocked_ns == thread.spent.in(Phase::kBlocked).total_ns);
    }
    CHECK(sink.summary().longest_waits.size() == 3);
  }
}

TEST_CASE("summary: the longest waits come with the stacks of who waited and who ended it") {
  const TraceSummary summary = summary_of(small_story(), 1);
  REQUIRE(summary.longest_waits.size() == 1);
  const LongWait& wait = summary.longest_waits[0];
  CHECK(wait.thread == 1);
  CHECK(wait.begin_ns == 15);
  CHECK(wait.ns == 20);
  CHECK(std::string(wait.what) == "mutex");
  CHECK(wait.object == kLock);
  CHECK(wait.stack == kInner);
  CHECK(wait.is_over);
  CHECK(wait.waker == 2);
  CHECK(wait.waker_stack == kOuter);
  REQUIRE(summary.longest_calls.size() == 1);
  CHECK(std::string(summary.longest_calls[0].what) == "read");
  CHECK(summary.longest_calls[0].ns == 20);
  CHECK(summary.longest_calls[0].stack == kInner);
  CHECK(summary_of(small_story(), 0).longest_waits.empty());
}

TEST_CASE("summary: of many waits the longest are kept, the longest first") {
  LongestWaits longest(3);
  uint64_t begin_ns = 0;
  for (const uint64_t ns : {5, 40, 7, 30, 40, 1, 20}) {
    LongWait wait;
    wait.ns = ns;
    wait.begin_ns = ++begin_ns;
    longest.add(wait);
  }
  const std::vector<LongWait> kept = longest.take();
  REQUIRE(kept.size() == 3);
  CHECK(kept[0].ns == 40);
  CHECK(kept[0].begin_ns == 2);
  CHECK(kept[1].ns == 40);
  CHECK(kept[2].ns == 30);
}

TEST_CASE("summary: sleeps and polls are no waits for other threads") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.blocks(1, WaitKind::kSleep, 0, kOuter);
  story.at(1000).wakes(1, 0);
  const TraceSummary summary = summary_of(story);
  CHECK(summary.longest_waits.empty());
  REQUIRE(summary.longest_calls.size() == 1);
  CHECK(std::string(summary.longest_calls[0].what) == "sleep");
}

TEST_CASE("summary: a wait that the trace does not see the end of lasts to its end") {
  Story story;
  story.at(0).appears(1).is_waiting = true;
  story.at(700).add(StepKind::kStop, 0);
  const TraceSummary summary = summary_of(story);
  check(summary.threads.at(1).spent.blocked.at(WaitKind::kMutex), 1, 700, 700);
  REQUIRE(summary.longest_waits.size() == 1);
  CHECK_FALSE(summary.longest_waits[0].is_over);
}

TEST_CASE("summary: what a runnable thread does while recording is off is not known") {
  Story story;
  story.at(0).add(StepKind::kStart, 0);
  story.appears(1);
  story.runs(1, 0);
  story.at(10).add(StepKind::kYield, 1);
  story.add(StepKind::kStop, 0);
  story.at(500).add(StepKind::kStart, 0);
  story.at(505).runs(1, 0);
  story.at(510).add(StepKind::kYield, 1);
  story.add(StepKind::kStop, 0);
  const TraceSummary summary = summary_of(story);
  CHECK(summary.sessions == 2);
  const SpentTime& spent = summary.threads.at(1).spent;
  CHECK(spent.in(Phase::kRunning).total_ns == 15);
  CHECK(spent.in(Phase::kRunnable).total_ns == 5);
  CHECK(spent.in(Phase::kUnrecorded).total_ns == 490);
}

TEST_CASE("summary: the heap's range, its growth, samples and losses are counted") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  for (const uint64_t bytes : {500, 100, 900, 300}) {
    auto& heap = story.add(StepKind::kHeap, 1);
    heap.value = bytes;
    heap.second = 2 * bytes;
  }
  story.add(StepKind::kGrowBegin, 1).value = 4096;
  story.at(5).add(StepKind::kGrowEnd, 1);
  story.add(StepKind::kCpu, 1);
  story.add(StepKind::kLost, 1).value = 17;
  story.add(StepKind::kLost, 0).value = 1;
  story.add(StepKind::kLost, 0).value = 0;
  story.add(StepKind::kYield, 1);
  const TraceSummary summary = summary_of(story);
  CHECK(summary.live.lowest == 100);
  CHECK(summary.live.highest == 900);
  CHECK(summary.live.last == 300);
  CHECK(summary.mapped.highest == 1800);
  CHECK(summary.growths.bytes == 4096);
  check(summary.growths.times, 1, 5, 5);
  CHECK(summary.threads.at(1).cpu_samples == 1);
  CHECK(summary.threads.at(1).lost_records == 17);
  CHECK(summary.lost_records == 18);
  CHECK(summary.gaps == 1);
  TraceDump dump;
  CHECK(contains(summary_text(summary, dump.dump(), dump.names(), 0, 0),
                 "lost: 18 records and an unknown number in 1 gap; "));
}

TEST_CASE("summary: as text it fits the terminal and says what the numbers mean") {
  TraceDump dump;
  const TraceSummary summary = summary_of(small_story());
  const std::string text = summary_text(summary, dump.dump(), dump.names(), 10, 0);
  INFO(text);
  CHECK(contains(text, "Trace of /bin/program, process 4711: 100 ns, 2 threads, 2 cores\n"));
  CHECK(contains(text, "running: from a record"));
  CHECK(contains(text, "thread 4711 \"main\": 100 ns, from 0 ns on\n"));
  CHECK(contains(text, "        25 ns  25.0%          2      20 ns  blocked: mutex\n"));
  CHECK(contains(text, "        20 ns  20.0%          1      20 ns  in long system calls\n"));
  CHECK(contains(text, "        23 ns  23.0%          2      20 ns  read\n"));
  CHECK(contains(text, "region \"load\": 1 time, 45 ns in all, the longest 45 ns\n"));
  CHECK(contains(
      text, "1. 20 ns mutex " + dump.names().object(kLock) + ", thread 4711 \"main\" at 15 ns\n"));
  CHECK(contains(text, "ended by thread 4712 \"worker\" in\n"));

  const std::string one_row = summary_text(summary, dump.dump(), dump.names(), 1, 0);
  CHECK(contains(one_row, "1 more thread: -n 0 shows all\n"));
  // The one that ran longer.
  CHECK(contains(one_row, "thread 4712 \"worker\": 100 ns"));
  CHECK_FALSE(contains(one_row, "thread 4711 \"main\": 100 ns"));
}

TEST_CASE("summary: as JSON it has every time in nanoseconds") {
  TraceDump dump;
  const auto json =
      nlohmann::json::parse(summary_json(summary_of(small_story()), dump.dump(), dump.names()));
  CHECK(json["pid"] == 4711);
  CHECK(json["end_ns"] == 100);
  const auto& thread = json["threads"][0];
  CHECK(thread["tid"] == 4711);
  CHECK(thread["blocked"]["mutex"]["total_ns"] == 25);
  CHECK(thread["calls"]["read"]["longest_ns"] == 20);
  CHECK(thread["in_long_calls"]["total_ns"] == 20);
  CHECK(json["regions"][0]["running"]["total_ns"] == 15);
  const auto& wait = json["longest_waits"][0];
  CHECK(wait["what"] == "mutex");
  CHECK(wait["ns"] == 20);
  CHECK(wait["stack"].size() == 2);
  CHECK(wait["waker"] == 2);
  CHECK(wait["waker_stack"].size() == 1);
}

}  // namespace
}  // namespace mprof::dumper
