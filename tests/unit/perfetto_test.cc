// SPDX-License-Identifier: Apache-2.0
// tests/e2e/perfetto.py is the judge: it knows the published schema and nothing of the encoder.
#include "dumper/trace/perfetto.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "dumper/trace/report_summary.h"
#include "dumper/trace/summary.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"
#include "tests/unit/trace_steps.h"

namespace mprof::dumper {
namespace {

using Json = nlohmann::json;
using format::CallName;
using format::WaitKind;
using testing::Story;
using testing::TempDir;
using testing::TraceDump;

constexpr uint64_t kLock = 0x1f010;  // a global of the program
constexpr uint64_t kHeapLock = 0x7f12a0001230;
constexpr uint32_t kOuter = 3, kInner = 4;  // stacks

// A trace, and what perfetto.py says of it if it keeps all rules.
class Trace {
 public:
  explicit Trace(TraceDump& dump)
      : file_(folder_ / "trace"), sink_(dump.dump(), dump.names(), file_) {}
  StepSink& sink() { return sink_; }

  Json judged(const std::string& option = "") {
    file_.commit();
    const std::string source = std::getenv("MPROF_SOURCE");
    const std::string command = "python3 -B '" + source + "/tests/e2e/perfetto.py' '" +
                                (folder_ / "trace") + "' " + option + " >'" + (folder_ / "out") +
                                "'";
    if (std::system(command.c_str()) != 0) throw std::runtime_error("refused by perfetto.py");
    std::ifstream out(folder_ / "out");
    return Json::parse(out);
  }

 private:
  TempDir folder_;
  TraceFile file_;
  PerfettoSink sink_;
};

Json events_of(const Story& story, TraceDump& dump) {
  Trace trace(dump);
  story.tell(trace.sink());
  return trace.judged("--events");
}

Json events_of(const Story& story) {
  TraceDump dump;
  return events_of(story, dump);
}

// Events whose `key` is `value`.
Json those(const Json& events, const std::string& key, const Json& value) {
  Json found = Json::array();
  for (const Json& event : events)
    if (event[key] == value) found.push_back(event);
  return found;
}

Json track(const Json& events, const Json& path) { return those(events, "track", path); }

// Both forms of the same steps.
struct BothForms : StepSink {
  explicit BothForms(TraceDump& of) : dump(of), trace(of), summary(10) {}
  void take(const Step& step) override {
    trace.sink().take(step);
    summary.take(step);
  }
  void finish() override {
    trace.sink().finish();
    summary.finish();
  }
  Json summed() { return Json::parse(summary_json(summary.summary(), dump.dump(), dump.names())); }

  TraceDump& dump;
  Trace trace;
  SummarySink summary;
};

void check_same_times(const Json& trace, const Json& summary) {
  REQUIRE(trace["threads"].size() == summary["threads"].size());
  for (size_t i = 0; i < trace["threads"].size(); ++i)
    for (const auto& [what, value] : trace["threads"][i].items()) {
      INFO("thread " << i << ", " << what);
      CHECK(value == summary["threads"][i][what]);
    }
  for (const char* kind : {"regions", "tasks"}) {
    REQUIRE(trace[kind].size() == summary[kind].size());
    for (const Json& row : summary[kind])
      for (const auto& [what, value] : trace[kind][row["name"].get<std::string>()].items())
        CHECK(value == row[what]);
  }
  CHECK(trace["instants"].value("CPU sample", 0) == summary["cpu_samples"]);
  CHECK(trace["instants"].value("log", 0) == summary["logs"]);
}

TEST_CASE("perfetto: any story makes a trace that keeps the rules and has the summary's times") {
  TraceDump dump;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    BothForms forms(dump);
    testing::tell_random_trace(seed, forms);
    const Json trace = forms.trace.judged();
    CHECK(trace["arrows"] != 0);
    check_same_times(trace, forms.summed());
  }
}

TEST_CASE("perfetto: a wait has its cause, lock and stack, and an arrow from who ended it") {
  Story story;
  story.at(0).appears(1);
  story.appears(2);
  story.at(10).runs(1, 0);
  story.runs(2, 3);
  story.at(20).blocks(1, WaitKind::kMutex, kLock, kInner);
  story.at(50).wakes(1, 2, kOuter);
  story.at(55).runs(1, 1);
  story.at(60).blocks(1, WaitKind::kCond, kHeapLock, kOuter);
  story.at(90).wakes(1, 0);
  TraceDump dump;
  const Json events = events_of(story, dump);

  const Json waits = those(events, "category", "blocked");
  REQUIRE(waits.size() == 2);
  CHECK(waits[0]["track"] == Json({4711, "state"}));
  CHECK(waits[0]["name"] == "mutex " + dump.names().object(kLock));
  CHECK(waits[0]["ns"] == 20);
  CHECK(waits[0]["length_ns"] == 30);
  CHECK(waits[0]["notes"]["wait"] == "mutex");
  CHECK(waits[0]["notes"]["object"] == kLock);
  CHECK(waits[0]["stack"].size() == 2);
  // A lock without a name gives the wait none: there may be millions.
  CHECK(waits[1]["name"] == "cond");
  CHECK(waits[1]["notes"]["object"] == kHeapLock);
  CHECK(waits[1]["stack"].size() == 1);

  const Json wakes = track(events, {4712, "wakes"});
  REQUIRE(wakes.size() == 1);
  CHECK(wakes[0]["notes"]["thread"] == 4711);
  CHECK(wakes[0]["stack"].size() == 1);
  const Json woken = those(events, "ns", 50);
  CHECK(those(woken, "name", "runnable")[0]["from"] == Json({{4712, "wakes"}}));
  CHECK(those(woken, "name", "runnable")[0]["notes"]["woken by"] == 4712);
  const Json last = those(those(events, "ns", 90), "name", "runnable")[0];
  CHECK(last["from"].empty());
  CHECK(last["notes"]["woken by"] == "kernel");
}

TEST_CASE("perfetto: each core has a track with the thread on it") {
  Story story;
  story.at(0).appears(1);
  story.appears(2);
  story.runs(1, 10);
  story.at(5).add(StepKind::kPreempt, 1);
  story.runs(2, 10);
  story.at(7).runs(1, 2);
  story.at(9).add(StepKind::kYield, 1);
  story.add(StepKind::kYield, 2);
  const Json events = events_of(story);
  const Json on_ten = track(events, {"program", "cores", "core 10"});
  REQUIRE(on_ten.size() == 2);
  CHECK(on_ten[0]["notes"]["thread"] == 4711);
  CHECK(on_ten[0]["length_ns"] == 5);
  CHECK(on_ten[1]["notes"]["thread"] == 4712);
  CHECK(on_ten[1]["length_ns"] == 4);
  CHECK(track(events, {"program", "cores", "core 2"}).size() == 1);
}

TEST_CASE("perfetto: a region may go on while its thread waits, and a call lies on its own track") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.at(5).names(StepKind::kRegionBegin, 1, 0, "load").stack = kOuter;
  story.at(10).calls(StepKind::kCall, 1, CallName::kRead).stack = kInner;
  story.calls(StepKind::kCallBlock, 1, CallName::kRead);
  story.at(40).calls(StepKind::kCallReturn, 1, CallName::kRead);
  story.runs(1, 1);
  story.at(45).calls(StepKind::kCall, 1, CallName::kWrite);
  story.at(48).calls(StepKind::kCallEnd, 1, CallName::kWrite);
  story.at(50).add(StepKind::kRegionEnd, 1);
  story.at(60).add(StepKind::kExit, 1);
  const Json events = events_of(story);
  const Json regions = track(events, {4711, "regions"});
  REQUIRE(regions.size() == 1);
  CHECK(regions[0]["name"] == "load");
  CHECK(regions[0]["length_ns"] == 45);
  const Json calls = track(events, {4711, "system calls"});
  REQUIRE(calls.size() == 2);
  CHECK(calls[0]["name"] == "read");
  CHECK(calls[0]["length_ns"] == 30);
  CHECK(calls[0]["stack"].size() == 2);
  CHECK(calls[1]["name"] == "write");
  CHECK(calls[1]["length_ns"] == 3);
  const Json long_calls = those(track(events, {4711, "state"}), "category", "in call");
  REQUIRE(long_calls.size() == 1);
  CHECK(long_calls[0]["name"] == "read");
}

TEST_CASE("perfetto: a task lies below its parent, from its begin to its end on any thread") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.names(StepKind::kTaskBegin, 1, 7, "request");
  story.at(10).names(StepKind::kTaskBegin, 1, 8, "query").second = 7;
  story.at(20).appears(2, 1);
  story.runs(2, 1);
  story.at(30).add(StepKind::kTaskEnd, 2).value = 8;
  story.at(40).add(StepKind::kYield, 1);
  const Json events = events_of(story);
  const Json query = track(events, {"program", "tasks", "request", "query"});
  REQUIRE(query.size() == 1);
  CHECK(query[0]["length_ns"] == 20);
  CHECK(query[0]["notes"]["parent"] == 7);
  CHECK_FALSE(query[0]["notes"].contains("unfinished"));
  const Json request = track(events, {"program", "tasks", "request"});
  REQUIRE(request.size() == 1);
  CHECK(request[0]["length_ns"] == 40);
  CHECK(request[0]["notes"]["unfinished"] == 1);
  CHECK(those(track(events, {4712, "state"}), "ns", 20)[0]["from"] == Json({{4711, "wakes"}}));
}

TEST_CASE("perfetto: the heap is counters, its growth and trims are slices") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.at(5).add(StepKind::kHeap, 1).value = 1000;
  story.at(6).add(StepKind::kGrowBegin, 1).value = 65536;
  story.at(9).add(StepKind::kGrowEnd, 1);
  auto& heap = story.at(10).add(StepKind::kHeap, 1);
  heap.value = 66000;
  heap.second = 70000;
  story.at(11).add(StepKind::kTrimBegin, 1).value = 4096;
  story.at(20).add(StepKind::kTrimEnd, 1);
  story.add(StepKind::kYield, 1);
  const Json events = events_of(story);
  const Json live = track(events, {"program", "heap: live"});
  REQUIRE(live.size() == 2);
  CHECK(live[1]["value"] == 66000);
  CHECK(track(events, {"program", "heap: mapped"})[1]["value"] == 70000);
  const Json grows = track(events, {4711, "heap grows"});
  CHECK(grows[0]["notes"]["bytes"] == 65536);
  CHECK(grows[0]["length_ns"] == 3);
  CHECK(track(events, {4711, "heap trims"})[0]["length_ns"] == 9);
}

TEST_CASE("perfetto: samples, logs, labels and losses are on tracks of their thread") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.at(5).add(StepKind::kCpu, 1).stack = kInner;
  story.at(6).names(StepKind::kLog, 1, 3, "net").message = "accepted";
  story.at(7).add(StepKind::kLost, 1).value = 12;
  story.add(StepKind::kLost, 1).value = 0;
  story.at(8).add(StepKind::kLabels, 1).value = 1;
  story.at(9).add(StepKind::kLabels, 1).value = 0;
  story.at(10).add(StepKind::kExit, 1);
  story.at(11).add(StepKind::kCpu, 1);
  story.add(StepKind::kStop, 0);
  TraceDump dump;
  const Json events = events_of(story, dump);
  const Json samples = track(events, {4711, "CPU samples"});
  REQUIRE(samples.size() == 2);
  CHECK(samples[0]["stack"].size() == 2);
  // It was taken before the end of the thread, and told of after it.
  CHECK(samples[1]["ns"] == 11);
  const Json log = track(events, {4711, "logs"})[0];
  CHECK(log["name"] == "accepted");
  CHECK(log["notes"] == Json({{"category", "net"}, {"task", 3}}));
  const Json losses = track(events, {4711, "losses"});
  REQUIRE(losses.size() == 2);
  CHECK(losses[0]["notes"]["count"] == 12);
  CHECK_FALSE(losses[1]["notes"].contains("count"));  // nobody knows
  const Json labels = track(events, {4711, "labels"});
  REQUIRE(labels.size() == 1);
  CHECK(labels[0]["name"] == dump.names().labels(0));
  CHECK(labels[0]["length_ns"] == 1);
  CHECK(track(events, {"program"})[0]["name"] == "recording ends");
}

TEST_CASE("perfetto: what was open at the end of the trace is closed, and says so") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.at(10).blocks(1, WaitKind::kJoin, 0, kOuter);
  story.at(99).add(StepKind::kStop, 0);
  const Json events = events_of(story);
  const Json waits = those(events, "category", "blocked");
  REQUIRE(waits.size() == 1);
  CHECK(waits[0]["length_ns"] == 89);
  CHECK(waits[0]["notes"]["unfinished"] == 1);
}

TEST_CASE("perfetto: texts that are no UTF-8 are repaired") {
  Story story;
  story.at(0).appears(1);
  story.runs(1, 0);
  story.names(StepKind::kRegionBegin, 1, 0, "gr\xfc\xdf");
  story.at(1).names(StepKind::kLog, 1, 0, "\xff").message = "gr\xc3\xbc\xc3\x9f";
  story.add(StepKind::kRegionEnd, 1);
  story.add(StepKind::kYield, 1);
  const Json events = events_of(story);
  CHECK(track(events, {4711, "regions"})[0]["name"] == "gr\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(track(events, {4711, "logs"})[0]["name"] == "gr\xc3\xbc\xc3\x9f");
  CHECK(track(events, {4711, "logs"})[0]["notes"]["category"] == "\xef\xbf\xbd");
}

TEST_CASE("perfetto: names and stacks are described once, however long the trace is") {
  TraceDump dump;
  const auto described = [&](uint64_t rounds) {
    Story story;
    story.at(0).appears(1);
    for (uint64_t i = 0; i < rounds; ++i) {
      story.at(1000 * i).runs(1, 0);
      story.at(1000 * i + 500).blocks(1, WaitKind::kMutex, kLock, kInner);
      story.at(1000 * i + 900).wakes(1, 0);
    }
    Trace trace(dump);
    story.tell(trace.sink());
    return trace.judged()["described"];
  };
  CHECK(described(100) == described(10));
}

}  // namespace
}  // namespace mprof::dumper
