// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/model.h"

#include <algorithm>
#include <utility>

#include "tests/unit/catch.h"
#include "tests/unit/random_records.h"
#include "tests/unit/step_checker.h"

namespace mprof::test {
namespace {

using dumper::ModelCounts;
using dumper::ModelOptions;
using dumper::Step;
using dumper::StepKind;
using dumper::TraceModel;
using dumper::TraceRecord;
using format::TraceKind;
using format::WaitKind;
using Lines = std::vector<std::string>;

constexpr uint64_t kMutex = 0x1000;
constexpr uint64_t kCondition = 0x2000;

uint64_t number(WaitKind kind) { return static_cast<uint64_t>(kind); }
uint64_t number(format::CallName call) { return static_cast<uint64_t>(call); }

TraceRecord at(uint64_t ns, uint32_t thread, uint32_t core, TraceKind kind,
               std::vector<uint64_t> arguments = {}, uint32_t stack = format::kNoRow) {
  TraceRecord record;
  record.kind = kind;
  record.ns = ns;
  record.thread = thread;
  record.core = core;
  record.stack = stack;
  std::copy(arguments.begin(), arguments.end(), record.arguments);
  return record;
}

class StepList : public dumper::StepSink {
 public:
  void take(const Step& step) override { steps.push_back(step); }
  void finish() override {}
  std::vector<Step> steps;
};

struct Story {
  std::vector<Step> steps;
  ModelCounts counts;

  // Of one kind, or all but the start.
  [[nodiscard]] Lines lines() const {
    Lines lines;
    for (const Step& step : steps)
      if (step.kind != StepKind::kStart || step.ns != steps.front().ns)
        lines.push_back(step_text(step));
    return lines;
  }
  [[nodiscard]] std::vector<Step> of(StepKind kind) const {
    std::vector<Step> found;
    for (const Step& step : steps)
      if (step.kind == kind) found.push_back(step);
    return found;
  }
};

Story story(std::vector<TraceRecord> list, ModelOptions options = {}) {
  RecordList records(std::move(list));
  StepList steps;
  StepChecker checker(&steps);
  options.text = [](uint64_t row) { return "text " + std::to_string(row); };
  Story told;
  told.counts = dumper::tell_trace(records, checker, options);
  told.steps = std::move(steps.steps);
  CHECK(checker.complaints() == Lines());
  return told;
}

// Thread rows 10, 11, 12 run on cores 0, 1, 2 from 1 to 3 ns on; they are threads 1, 2, 3.
std::vector<TraceRecord> three_threads() {
  return {at(1, 10, 0, TraceKind::kBegin), at(2, 11, 1, TraceKind::kBegin),
          at(3, 12, 2, TraceKind::kBegin)};
}

Lines after_three_threads(const std::vector<TraceRecord>& list) {
  std::vector<TraceRecord> records = three_threads();
  records.insert(records.end(), list.begin(), list.end());
  const Lines lines = story(records).lines();
  REQUIRE(lines.size() > 9);
  return {lines.begin() + 9, lines.end()};
}

TEST_CASE("model: threads and cores appear when they are first seen") {
  CHECK(story(three_threads()).lines() ==
        Lines{"1 thread 1 by 0 on 0", "1 core begin 1 on 0", "1 run 1 on 0", "2 thread 2 by 0 on 0",
              "2 core begin 2 on 1", "2 run 2 on 1", "3 thread 3 by 0 on 0", "3 core begin 3 on 2",
              "3 run 3 on 2", "3 yield 1 on 0", "3 yield 2 on 1", "3 yield 3 on 2"});
}

TEST_CASE("model: a mutex wakes its waiter when it is released, by who released it") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(15, 12, 2, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex + 8}),
      at(20, 11, 1, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
      at(30, 10, 0, TraceKind::kWaitEnd, {0}),
  });
  CHECK(lines == Lines{"10 block 1 on 0", "20 wake 1 by 2 on 1", "30 run 1 on 0", "30 yield 1 on 0",
                       "30 yield 2 on 1", "30 yield 3 on 2"});
}

TEST_CASE("model: of several releases the newest wakes") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(20, 11, 1, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
      at(25, 12, 2, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
      at(30, 10, 0, TraceKind::kWaitEnd, {0}),
      at(40, 12, 2, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
  });
  CHECK(lines[1] == "25 wake 1 by 3 on 2");
}

TEST_CASE("model: a release from before the wait, and an end in vain, wake nobody") {
  const uint64_t result = GENERATE(0, 2);
  const auto lines = after_three_threads({
      at(5, 11, 1, TraceKind::kRelease, {number(WaitKind::kSemaphore), kMutex}),
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kSemaphore), kMutex}),
      at(20, 11, 1, TraceKind::kRelease,
         {number(WaitKind::kSemaphore), result == 0 ? kMutex + 8 : kMutex}),
      at(30, 10, 0, TraceKind::kWaitEnd, {result}),
  });
  CHECK(lines[0] == "10 block 1 on 0");
  CHECK(lines[1] == "30 wake 1 by 0 on 0");
  CHECK(lines[2] == "30 run 1 on 0");
}

TEST_CASE("model: a wait that was none does not block") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(30, 10, 0, TraceKind::kWaitEnd, {1}),
  });
  CHECK(lines[0] == "30 yield 1 on 0");
}

TEST_CASE("model: a sleep ends by the kernel, whatever is released") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kSleep), 0}),
      at(20, 11, 1, TraceKind::kRelease, {number(WaitKind::kFutex), 0}),
      at(30, 10, 0, TraceKind::kWaitEnd, {0}),
  });
  CHECK(lines[1] == "30 wake 1 by 0 on 0");
}

TEST_CASE("model: the last one to come to a barrier wakes the others and does not wait") {
  const auto barrier = [](uint64_t ns, uint32_t thread, uint32_t core) {
    return at(ns, thread, core, TraceKind::kWait, {number(WaitKind::kBarrier), kMutex});
  };
  const auto lines = after_three_threads({
      barrier(10, 10, 0),
      barrier(11, 11, 1),
      barrier(20, 12, 2),
      at(25, 10, 0, TraceKind::kWaitEnd, {0}),
      barrier(26, 10, 0),  // the next round, before all have left this one
      at(27, 11, 1, TraceKind::kWaitEnd, {0}),
      at(28, 12, 2, TraceKind::kWaitEnd, {1}),
  });
  CHECK(lines == Lines{"10 block 1 on 0", "11 block 2 on 1", "20 wake 1 by 3 on 2",
                       "20 wake 2 by 3 on 2", "25 run 1 on 0", "26 block 1 on 0", "27 run 2 on 1",
                       "28 yield 2 on 1", "28 yield 3 on 2"});
}

TEST_CASE("model: the end of a thread wakes who joins it") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kJoin), 0x7000}),
      at(20, 11, 1, TraceKind::kExit, {0x7000}),
      at(30, 10, 0, TraceKind::kWaitEnd, {0}),
  });
  CHECK(lines == Lines{"10 block 1 on 0", "20 wake 1 by 2 on 1", "20 exit 2 on 1", "30 run 1 on 0",
                       "30 yield 1 on 0", "30 yield 3 on 2"});
}

TEST_CASE("model: who was signalled waits for the mutex from then on, and nobody loses his core") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kCond), kCondition}),
      at(15, 12, 0, TraceKind::kYield),  // is on the waiter's core now
      at(20, 11, 1, TraceKind::kRelease, {number(WaitKind::kCond), kCondition}),
      at(30, 11, 1, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
      at(40, 10, 0, TraceKind::kRelock, {kMutex, 20}),
      at(41, 10, 0, TraceKind::kWaitEnd, {0}),
  });
  const Lines expected = {"10 block 1 on 0",   "15 preempt 3 on 2",   "15 run 3 on 0",
                          "15 yield 3 on 0",   "15 run 3 on 0",       "20 wake 1 by 2 on 1",
                          "20 preempt 3 on 0", "20 run 1 on 0",       "20 block 1 on 0",
                          "20 run 3 on 0",     "30 wake 1 by 2 on 1", "41 preempt 3 on 0",
                          "41 run 1 on 0",     "41 yield 1 on 0",     "41 yield 2 on 1"};
  CHECK(lines == expected);
}

TEST_CASE("model: a call is long from 20 us on, and gives its core up when it begins") {
  const auto calls = [](uint64_t length_ns) {
    return after_three_threads({at(10, 10, 0, TraceKind::kCall, {number(format::CallName::kRead)}),
                                at(10 + length_ns, 10, 1, TraceKind::kCallEnd)});
  };
  CHECK(calls(19'999)[0] == "10 call 1 on 0");
  CHECK(calls(19'999)[1] == "20009 preempt 1 on 0");  // it is found on another core
  const Lines is_long = calls(20'000);
  CHECK(Lines(is_long.begin(), is_long.begin() + 5) ==
        Lines{"10 call 1 on 0", "10 call block 1 on 0", "20010 preempt 2 on 1",
              "20010 call return 1 on 1", "20010 run 1 on 1"});
}

TEST_CASE("model: a call without an end is long, and over at the next record of its thread") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kCall, {number(format::CallName::kRead)}),
      at(500'000, 10, 0, TraceKind::kYield),
      at(600'000, 10, 0, TraceKind::kCall, {number(format::CallName::kRead)}),
      at(900'000, 11, 1, TraceKind::kYield),
  });
  CHECK(lines[1] == "10 call block 1 on 0");
  CHECK(lines[2] == "500000 call return 1 on 0");
  CHECK(lines[7] == "600000 call block 1 on 0");  // still in there at the end
}

TEST_CASE("model: a call in the midst of which a handler calls is over there") {
  const auto told = story({at(10, 10, 0, TraceKind::kCall, {number(format::CallName::kRead)}),
                           at(20, 10, 0, TraceKind::kCall, {number(format::CallName::kWrite)}),
                           at(30, 10, 0, TraceKind::kCallEnd), at(40, 10, 0, TraceKind::kCallEnd)});
  const auto ends = told.of(StepKind::kCallEnd);
  REQUIRE(ends.size() == 2);
  CHECK(ends[0].ns == 20);
  CHECK(ends[0].call == format::CallName::kRead);
  CHECK(ends[1].ns == 30);
}

TEST_CASE("model: a thread made by another knows it, also when it was quicker") {
  const bool is_quicker = GENERATE(false, true);
  std::vector<TraceRecord> records = {at(1, 10, 0, TraceKind::kBegin),
                                      at(20, 10, 0, TraceKind::kCreate, {11}, 7)};
  records.insert(records.begin() + (is_quicker ? 1 : 2),
                 at(is_quicker ? 10 : 30, 11, 1, TraceKind::kBegin));
  const auto threads = story(records).of(StepKind::kThread);
  REQUIRE(threads.size() == 2);
  CHECK(threads[1].ns == (is_quicker ? 10 : 20));
  CHECK(threads[1].other == 1);
  CHECK(threads[1].stack == 7);
  CHECK(threads[1].thread_row == 11);
}

TEST_CASE("model: a sample is later than its thread") {
  const auto told = story({at(5, 10, 0, TraceKind::kCpu, {}, 3), at(5, 10, 0, TraceKind::kCpu),
                           at(6, 10, 0, TraceKind::kCpu), at(6, 11, 0, TraceKind::kCpu)});
  const auto samples = told.of(StepKind::kCpu);
  REQUIRE(samples.size() == 4);
  CHECK(samples[0].ns == 6);
  CHECK(samples[0].stack == 3);
  CHECK(samples[3].ns == 7);
}

TEST_CASE("model: a sample in the midst of a wait ends no wait; of one who runs it tells where") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kPoll), 0}),
      at(11, 10, 0, TraceKind::kCpu),
      at(12, 11, 0, TraceKind::kCpu),
  });
  CHECK(lines == Lines{"10 block 1 on 0", "11 cpu 1 on 0", "12 preempt 2 on 1", "12 run 2 on 0",
                       "12 cpu 2 on 0", "12 yield 2 on 0", "12 yield 3 on 2"});
}

TEST_CASE("model: what grew or was trimmed began before its record, not before its thread's last") {
  const auto told = story({at(1000, 10, 0, TraceKind::kBegin), at(1500, 11, 1, TraceKind::kBegin),
                           at(2000, 10, 0, TraceKind::kGrow, {4096, 600}),
                           at(3000, 10, 0, TraceKind::kTrim, {8192, 5000})});
  CHECK(told.of(StepKind::kGrowBegin).at(0).ns == 1400);
  CHECK(told.of(StepKind::kGrowBegin).at(0).value == 4096);
  CHECK(told.of(StepKind::kGrowEnd).at(0).ns == 2000);
  CHECK(told.of(StepKind::kTrimBegin).at(0).ns == 2000);
  CHECK(told.of(StepKind::kTrimEnd).at(0).ns == 3000);
}

TEST_CASE("model: regions nest, whatever ends them") {
  const auto told = story({
      at(1, 10, 0, TraceKind::kRegionBegin, {0, 1}),
      at(2, 10, 0, TraceKind::kRegionBegin, {5, 2}),
      at(3, 10, 0, TraceKind::kRegionBegin, {0, 3}),
      at(4, 10, 0, TraceKind::kRegionEnd, {0, 9}),  // began before
      at(5, 10, 0, TraceKind::kRegionEnd, {5, 2}),  // an inner one was left
      at(6, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(7, 11, 1, TraceKind::kBegin),
  });
  const auto ends = told.of(StepKind::kRegionEnd);
  REQUIRE(ends.size() == 3);
  CHECK(ends[0].ns == 5);
  CHECK(ends[0].text == "text 3");
  CHECK(ends[1].text == "text 2");
  CHECK(ends[1].value == 5);
  CHECK(ends[2].ns == 7);  // the wait is over for it
  CHECK(ends[2].text == "text 1");
}

TEST_CASE("model: more regions than anybody nests are counted, and their ends fit") {
  std::vector<TraceRecord> records;
  for (uint64_t i = 0; i < TraceModel::kMostRegions + 5; ++i)
    records.push_back(at(i, 10, 0, TraceKind::kRegionBegin, {0, i}));
  for (uint64_t i = TraceModel::kMostRegions + 5; i-- > 0;)
    records.push_back(at(10'000, 10, 0, TraceKind::kRegionEnd, {0, i}));
  const auto told = story(records);
  CHECK(told.counts.unfit == 5);
  CHECK(told.of(StepKind::kRegionBegin).size() == TraceModel::kMostRegions);
}

TEST_CASE("model: a task begins once, and not after it was somebody's parent") {
  const auto told =
      story({at(1, 10, 0, TraceKind::kTaskBegin, {4, 3, 1}), at(2, 10, 0, TraceKind::kTaskEnd, {4}),
             at(3, 10, 0, TraceKind::kTaskBegin, {4, 0, 1}),
             at(4, 10, 0, TraceKind::kTaskBegin, {3, 4, 1}),
             at(5, 10, 0, TraceKind::kTaskBegin, {6, 6, 1})});
  const auto begins = told.of(StepKind::kTaskBegin);
  REQUIRE(begins.size() == 2);
  CHECK(begins[0].second == 3);
  CHECK(begins[1].second == 0);
  CHECK(told.counts.unfit == 2);
}

TEST_CASE("model: logs, labels, losses and the heap are told as they are") {
  TraceRecord log = at(2, 10, 0, TraceKind::kLog, {7, 3});
  log.text = "a line";
  const auto told =
      story({at(1, 10, 0, TraceKind::kLabels, {6}), log, at(3, 10, 0, TraceKind::kHeap, {100, 200}),
             at(4, 10, 0, TraceKind::kLost, {17, 2}), at(4, 10, 0, TraceKind::kYield, {9}, 5)});
  CHECK(told.of(StepKind::kLabels).at(0).value == 6);
  CHECK(told.of(StepKind::kLog).at(0).text == "text 2");
  CHECK(told.of(StepKind::kLog).at(0).message == "a line");
  CHECK(told.of(StepKind::kLog).at(0).value == 7);
  CHECK(told.of(StepKind::kHeap).at(0).second == 200);
  CHECK(told.of(StepKind::kLost).at(0).value == 17);
  CHECK(told.of(StepKind::kYield).at(0).stack == 5);
  CHECK(told.of(StepKind::kYield).at(0).value == 9);
  CHECK(told.of(StepKind::kYield).at(1).value == 0);
  CHECK(told.counts.lost == 17);
}

TEST_CASE("model: a loss ends what its thread was in") {
  const auto lines = after_three_threads({
      at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(20, 10, 2, TraceKind::kLost, {3, 5}),
      at(20, 10, 2, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}),
  });
  CHECK(lines == Lines{"10 block 1 on 0", "20 wake 1 by 0 on 0", "20 preempt 3 on 2",
                       "20 run 1 on 2", "20 lost 1 on 2", "20 yield 2 on 1", "20 yield 1 on 2"});
}

TEST_CASE("model: what a thread says after its end is counted and left out") {
  const auto told = story({at(1, 10, 0, TraceKind::kBegin), at(2, 10, 0, TraceKind::kExit, {1}),
                           at(3, 10, 0, TraceKind::kYield), at(4, 10, 0, TraceKind::kBegin)});
  CHECK(told.counts.late == 1);
  CHECK(told.counts.threads == 2);  // the row was used again, which no library does
}

TEST_CASE("model: a session ends with everybody at rest, and the next one takes them up") {
  ModelOptions options;
  options.end_ns = [](uint32_t row) { return row == 12 ? 50'000'000 : UINT64_MAX; };
  std::vector<TraceRecord> records = three_threads();
  const std::vector<TraceRecord> rest = {
      at(10, 11, 1, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}),
      at(20, 10, 0, TraceKind::kStop, {1}),
      at(21, 11, 1, TraceKind::kWaitEnd, {0}),  // was on its way
      at(100'000'000, 10, 0, TraceKind::kStart, {2}),
      at(100'000'001, 10, 0, TraceKind::kThread, {11, number(WaitKind::kSleep) + 1, 5'000'000, 0}),
  };
  records.insert(records.end(), rest.begin(), rest.end());
  const auto told = story(records, options);
  const Lines lines = told.lines();
  CHECK(Lines(lines.begin() + 9, lines.end()) ==
        Lines{"10 block 2 on 1", "20 yield 1 on 0", "20 yield 3 on 2", "20 stop on 0",
              "100000000 start on 0", "100000000 run 3 on 2", "100000000 exit 3 on 2",
              "100000000 run 1 on 0", "100000001 wake 2 by 0 on 0", "100000001 run 2 on 1",
              "100000001 block 2 on 1", "100000001 yield 1 on 0"});
  CHECK(told.counts.late == 1);
}

TEST_CASE("model: a start that was lost, a stop that was lost, a start that came late") {
  std::vector<TraceRecord> records = {at(5, 10, 0, TraceKind::kYield),
                                      at(6, 11, 1, TraceKind::kStart, {1})};
  CHECK(story(records).of(StepKind::kStart).size() == 1);
  records.push_back(at(50'000'000, 10, 0, TraceKind::kStart, {2}));
  CHECK(story(records).of(StepKind::kStart).size() == 2);
  CHECK(story(records).of(StepKind::kStop).size() == 1);
  records.push_back(at(60'000'000, 10, 0, TraceKind::kStop, {2}));
  records.push_back(at(90'000'000, 10, 0, TraceKind::kYield));
  CHECK(story(records).of(StepKind::kStart).size() == 3);
}

TEST_CASE("model: a window begins with everybody where he is, and ends with all at rest") {
  ModelOptions options;
  options.from_ns = 100;
  options.to_ns = 300;
  const auto told = story(
      {at(1, 10, 0, TraceKind::kRegionBegin, {0, 1}), at(2, 11, 1, TraceKind::kRegionBegin, {0, 2}),
       at(2, 11, 1, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}, 4),
       at(3, 12, 2, TraceKind::kExit, {1}),
       at(4, 13, 2, TraceKind::kCall, {number(format::CallName::kRead)}, 6),
       at(150, 10, 0, TraceKind::kRegionEnd, {0, 1}), at(200, 11, 1, TraceKind::kWaitEnd, {0}),
       at(400, 10, 0, TraceKind::kYield), at(60'000, 13, 2, TraceKind::kCallEnd)},
      options);
  CHECK(told.lines() == Lines{"100 thread 1 by 0 on 0", "100 thread 2 by 0 on 0",
                              "100 thread 3 by 0 on 0", "100 core begin 3 on 2", "100 run 3 on 2",
                              "100 call 3 on 2", "100 call block 3 on 2", "100 core begin 1 on 0",
                              "100 run 1 on 0", "100 region begin 1 on 0", "150 region end 1 on 0",
                              "200 wake 2 by 0 on 0", "200 core begin 2 on 1", "200 run 2 on 1",
                              "200 region begin 2 on 1", "300 yield 1 on 0",
                              "300 region end 2 on 1", "300 yield 2 on 1"});
  CHECK(told.steps[2].is_waiting);
  CHECK(told.steps[2].object == kMutex);
}

TEST_CASE("model: of a window in which nothing was recorded nothing is told") {
  ModelOptions options;
  options.from_ns = 100;
  CHECK(story({at(1, 10, 0, TraceKind::kYield)}, options).counts.steps == 0);
}

TEST_CASE("model: a wake-up that comes after its release has left the window is the kernel's") {
  std::vector<TraceRecord> records = three_threads();
  records.push_back(at(10, 10, 0, TraceKind::kWait, {number(WaitKind::kMutex), kMutex}));
  records.push_back(at(20, 11, 1, TraceKind::kRelease, {number(WaitKind::kMutex), kMutex}));
  const uint64_t late_ns = 30 + dumper::MomentSource::kWindowNs;
  records.push_back(at(late_ns, 12, 2, TraceKind::kYield));
  records.push_back(at(late_ns, 10, 0, TraceKind::kWaitEnd, {0}));
  const auto wakes = story(records).of(StepKind::kWake);
  REQUIRE(wakes.size() == 1);
  CHECK(wakes[0].ns == late_ns);
  CHECK(wakes[0].other == 0);
}

TEST_CASE("model: any records make steps that keep every rule") {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    RandomRecordOptions random;
    random.seed = seed;
    random.threads = 2 + seed % 9;
    random.cores = 1 + seed % 5;
    ModelOptions options;
    if (seed % 5 == 4) {
      options.from_ns = 7'001'000'000;
      options.to_ns = 7'900'000'000;
    }
    INFO("seed " << seed);
    const Story told = story(RandomRecords(random).make(), options);
    CHECK(told.counts.steps == told.steps.size());
    if (seed % 5 != 4) CHECK(told.steps.size() > 500);
  }
}

}  // namespace
}  // namespace mprof::test
