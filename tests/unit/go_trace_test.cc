// SPDX-License-Identifier: Apache-2.0
// The bytes of Go's form, and each thing in it that Go's viewer does not forgive. Whether Go takes
// whole traces is asked in tests/e2e; with a folder in MPROF_TRACES the random ones are kept there.
#include "dumper/trace/go_trace.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "dumper/trace/model.h"
#include "format/trace_record.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/pprof_tool.h"
#include "tests/unit/random_records.h"
#include "tests/unit/step_checker.h"

namespace mprof::test {
namespace {

using dumper::Step;
using dumper::StepKind;
using testing::DumpImage;
using Values = std::vector<uint64_t>;

struct GoEvent {
  uint64_t proc = 0;
  uint64_t ticks = 0;
  unsigned type = 0;
  Values values;  // without the time
  std::string message;
};

struct GoFrame {
  uint64_t pc = 0;
  std::string function;
  std::string file;
  uint64_t line = 0;
};

// A trace read back, all of its rules on the way: counts of values, ids, times, sizes.
class GoFile {
 public:
  explicit GoFile(std::string bytes) : bytes_(std::move(bytes)) {
    REQUIRE(bytes_.substr(0, 16) == std::string("go 1.19 trace\0\0\0", 16));
    at_ = 16;
    while (at_ < bytes_.size()) record();
    end_batch();
    std::stable_sort(events.begin(), events.end(),
                     [](const GoEvent& a, const GoEvent& b) { return a.ticks < b.ticks; });
    for (auto& [id, frames] : raw_stacks_) stacks[id] = name(frames);
  }

  [[nodiscard]] std::vector<GoEvent> of(unsigned type) const {
    std::vector<GoEvent> found;
    for (const GoEvent& event : events)
      if (event.type == type) found.push_back(event);
    return found;
  }
  [[nodiscard]] std::vector<unsigned> types(uint64_t proc) const {
    std::vector<unsigned> found;
    for (const GoEvent& event : events)
      if (event.proc == proc) found.push_back(event.type);
    return found;
  }

  std::vector<GoEvent> events;  // in the order of time
  std::map<uint64_t, std::string> strings;
  std::map<uint64_t, std::vector<GoFrame>> stacks;
  std::vector<size_t> batches;  // sizes
  uint64_t frequency = 0;

 private:
  uint64_t number() {
    const auto* in = reinterpret_cast<const uint8_t*>(bytes_.data());
    const uint8_t* from = in + at_;
    uint64_t value = 0;
    REQUIRE(format::get_varint(from, in + bytes_.size(), value));
    at_ = static_cast<size_t>(from - in);
    return value;
  }
  std::string text() {
    const uint64_t size = number();
    REQUIRE(size <= 1'000'000);
    REQUIRE(at_ + size <= bytes_.size());
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  void end_batch() {
    if (batch_ != 0) batches.push_back(at_ - batch_);
    batch_ = at_;
  }

  void record() {
    const size_t begin = at_;
    const auto head = static_cast<uint8_t>(bytes_[at_++]);
    const unsigned type = head & 63;
    if (type == 37) return add_string();
    Values values;
    if (head >> 6 < 3) {
      for (int i = 0; i <= head >> 6; ++i) values.push_back(number());
    } else {
      const uint64_t size = number();
      REQUIRE(size <= dumper::GoTraceSink::kMostRecordBytes);
      for (const size_t end = at_ + size; at_ < end;) values.push_back(number());
    }
    if (type == 1) {
      at_ = begin;
      end_batch();
      number(), number(), number();
      REQUIRE(values.size() == 2);
      proc_ = values[0];
      ticks_ = values[1];
    } else if (type == 2) {
      frequency = values.at(0);
    } else if (type == 3) {
      REQUIRE(values.size() == 2 + 4 * values.at(1));
      REQUIRE(raw_stacks_.emplace(values[0], Values(values.begin() + 2, values.end())).second);
    } else {
      event(type, values);
    }
  }

  void add_string() {
    const uint64_t id = number();
    const std::string string = text();
    REQUIRE(id > 0);
    REQUIRE(!string.empty());
    REQUIRE(strings.emplace(id, string).second);
  }

  void event(unsigned type, const Values& values) {
    static const std::map<unsigned, size_t> kValues = {
        {4, 2},  {5, 1},  {6, 0},  {7, 2},  {8, 0},  {11, 1}, {12, 2}, {13, 3},
        {14, 2}, {15, 0}, {17, 1}, {18, 1}, {19, 1}, {20, 1}, {21, 3}, {25, 1},
        {26, 1}, {27, 1}, {28, 1}, {29, 3}, {30, 0}, {31, 1}, {33, 1}, {34, 1},
        {41, 3}, {43, 1}, {44, 0}, {45, 4}, {46, 2}, {47, 4}, {48, 3}, {49, 4}};
    INFO("type " << type);
    REQUIRE(values.size() == 1 + kValues.at(type));
    ticks_ += values[0];
    REQUIRE(ticks_ >= last_ticks_[proc_]);
    last_ticks_[proc_] = ticks_;
    GoEvent found = {proc_, ticks_, type, Values(values.begin() + 1, values.end()), {}};
    if (type == 48) found.message = text();
    events.push_back(found);
  }

  std::vector<GoFrame> name(const Values& values) {
    std::vector<GoFrame> frames;
    for (size_t i = 0; i < values.size(); i += 4)
      frames.push_back({values[i], strings[values[i + 1]], strings[values[i + 2]], values[i + 3]});
    return frames;
  }

  std::string bytes_;
  size_t at_ = 0;
  size_t batch_ = 0;
  uint64_t proc_ = 0;
  uint64_t ticks_ = 0;
  std::map<uint64_t, uint64_t> last_ticks_;
  std::map<uint64_t, Values> raw_stacks_;
};

// A dump with a thread of each kind: rows 0 the first one, 1 made with a known function and named,
// 2 made by nobody knows whom, 3 that nobody named.
class Scene {
 public:
  Scene()
      : image_(4711),
        program_(image_.add_module("/bin/program", 0x10000, 0x20000)),
        caller_(image_.add_node(format::kStackComplete, 0x11101, program_)),
        waiter_(image_.add_node(caller_, 0x11201, program_)) {
    image_.header().pid = 4711;
    const uint32_t start =
        image_.add_address_label(format::kLabelStart, 0x11500, program_, format::kNoRow);
    const uint32_t creation = image_.add_count(format::CountKind::kThreadCreate, caller_,
                                               testing::count_totals(1, 0), start);
    for (uint32_t row = 0; row < 4; ++row) image_.add_thread(4711 + row);
    name(0, "program");
    name(1, "io-1");
    name(3, "program");
    thread(1).creation = creation + 1;
  }

  [[nodiscard]] uint32_t stack() const { return waiter_; }
  [[nodiscard]] DumpImage& image() { return image_; }
  [[nodiscard]] uint32_t program() const { return program_; }

  GoFile file(const std::vector<Step>& steps, bool check = true) {
    const dumper::Dump dump = dumper::Dump::from_fd(image_.duplicate(), "image", false);
    dumper::Symbolizer symbolizer({});
    dumper::TraceNames names(dump, symbolizer);
    const ScratchFolder folder;
    const std::string path = folder.file("trace");
    dumper::TraceFile file(path);
    dumper::GoTraceSink sink(file, names);
    StepChecker checker(&sink);
    for (const Step& step : steps) checker.take(step);
    checker.finish();
    if (check) CHECK(checker.complaints() == std::vector<std::string>());
    file.commit();
    return GoFile(read_file(path));
  }

 private:
  format::ThreadRow& thread(uint32_t row) {
    return image_.row<format::ThreadRow>(format::TableId::kThreads, row);
  }
  void name(uint32_t row, const char* text) { strcpy(thread(row).name, text); }

  DumpImage image_;
  uint32_t program_;
  uint32_t caller_;
  uint32_t waiter_;
};

Step step(uint64_t ns, StepKind kind, uint32_t thread, uint32_t core = 0) {
  Step result;
  result.ns = ns;
  result.kind = kind;
  result.thread = thread;
  result.core = core;
  return result;
}
Step made(uint64_t ns, uint32_t thread, uint32_t row, uint32_t by = 0) {
  Step result = step(ns, StepKind::kThread, thread);
  result.thread_row = row;
  result.other = by;
  return result;
}
// One thread for each core, running.
std::vector<Step> running(uint32_t threads) {
  std::vector<Step> steps;
  for (uint32_t i = 0; i < threads; ++i) {
    steps.push_back(made(10, i + 1, i));
    steps.push_back(step(10, StepKind::kCoreBegin, i + 1, 7 + i));
    steps.push_back(step(10, StepKind::kRun, i + 1, 7 + i));
  }
  return steps;
}
std::vector<Step> join(std::vector<Step> a, const std::vector<Step>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
template <class Change>
Step changed(Step step, const Change& change) {
  change(step);
  return step;
}

TEST_CASE("go trace: the smallest one, to the byte") {
  const ScratchFolder folder;
  const std::string path = folder.file("trace");
  Scene scene;
  const dumper::Dump dump = dumper::Dump::from_fd(scene.image().duplicate(), "image", false);
  dumper::Symbolizer symbolizer({});
  dumper::TraceNames names(dump, symbolizer);
  dumper::TraceFile file(path);
  dumper::GoTraceSink sink(file, names);
  sink.finish();
  file.commit();
  CHECK(read_file(path) == std::string("go 1.19 trace\0\0\0"
                                       "\x41\x00\x01"                      // batch of P 0
                                       "\x84\x00\x81\x80\x80\x80\x00\x00"  // one P
                                       "\x41\x00\x02"                      // batch for the tables
                                       "\x02\x80\x94\xeb\xdc\x03",         // 10^9 ticks a second
                                       16 + 3 + 8 + 3 + 6));
}

TEST_CASE("go trace: the number of Ps is first, at a time of its own, and right") {
  Scene scene;
  const auto file = scene.file(
      join(running(2), {step(20, StepKind::kYield, 1, 7), step(20, StepKind::kYield, 2, 8)}));
  CHECK(file.frequency == 1'000'000'000);
  REQUIRE(file.events.front().type == 4);
  CHECK(file.events.front().values == Values{3, 0});
  for (size_t i = 1; i < file.events.size(); ++i)
    CHECK(file.events[i].ticks > file.events.front().ticks);
  CHECK(file.types(1) == std::vector<unsigned>{5, 14, 17, 6});
  CHECK(file.types(2) == std::vector<unsigned>{5, 14, 17, 6});
  CHECK(file.of(5).at(0).values == Values{4711});
  CHECK(file.of(48).at(0).message == "Proc 1 is core 7");
}

TEST_CASE("go trace: threads have the names of their functions, their own, and their ids") {
  Scene scene;
  std::vector<Step> steps = {made(1, 1, 0), made(2, 2, 1), made(3, 3, 2), made(4, 4, 3),
                             made(5, 5, format::kNoRow)};
  const auto file = scene.file(steps);
  std::vector<std::string> names;
  for (const GoEvent& event : file.of(13)) {
    const auto& frames = file.stacks.at(event.values.at(1));
    REQUIRE(frames.size() == 1);
    CHECK(frames[0].pc != 0);
    names.push_back(frames[0].function);
  }
  CHECK(names == std::vector<std::string>{"main [4711]", "program+0x1500 [io-1 4712]",
                                          "worker [4713]", "thread [4714]", "thread [0]"});
}

TEST_CASE("go trace: a thread that another one made has the stack of that, or at least one") {
  Scene scene;
  Step with = made(20, 2, 1, 1);
  with.core = 7;
  Step without = made(21, 3, 2, 1);
  without.core = 7;
  with.stack = scene.stack();
  const auto file = scene.file(join(running(1), {with, without, step(30, StepKind::kYield, 1, 7)}));
  const auto creates = file.of(13);
  REQUIRE(creates.size() == 3);
  CHECK(creates[0].proc == 0);
  CHECK(creates[0].values[2] == 0);
  CHECK(creates[1].proc == 1);
  CHECK(file.stacks.at(creates[1].values[2]).at(0).function == "program+0x1200");
  CHECK(creates[2].values[2] == creates[0].values[1]);
}

TEST_CASE("go trace: each wait has its event, and all are counted") {
  using format::WaitKind;
  const std::vector<std::pair<WaitKind, unsigned>> kinds = {
      {WaitKind::kMutex, 25},     {WaitKind::kRwlockRead, 25}, {WaitKind::kRwlockWrite, 25},
      {WaitKind::kSpin, 25},      {WaitKind::kCond, 26},       {WaitKind::kCondRelock, 25},
      {WaitKind::kSemaphore, 26}, {WaitKind::kBarrier, 26},    {WaitKind::kJoin, 26},
      {WaitKind::kFutex, 26},     {WaitKind::kSleep, 19},      {WaitKind::kPoll, 27},
      {WaitKind::kSignal, 20}};
  REQUIRE(kinds.size() == static_cast<size_t>(WaitKind::kCount));
  Scene scene;
  std::vector<Step> steps = running(2);
  std::vector<unsigned> expected;
  uint64_t ns = 20;
  for (const auto& [kind, type] : kinds) {
    Step block = step(++ns, StepKind::kBlock, 1, 7);
    block.wait = kind;
    block.stack = scene.stack();
    Step wake = step(++ns, StepKind::kWake, 1, 8);
    wake.other = 2;
    wake.stack = scene.stack();
    if (kind == WaitKind::kSleep) wake.other = wake.core = 0;
    steps.insert(steps.end(), {block, wake, step(++ns, StepKind::kRun, 1, 7)});
    expected.insert(expected.end(), {type, 14});
  }
  steps.push_back(step(ns, StepKind::kYield, 1, 7));
  steps.push_back(step(ns, StepKind::kYield, 2, 8));
  const auto file = scene.file(steps);
  auto types = file.types(1);
  CHECK(std::vector<unsigned>(types.begin() + 2, types.end() - 2) == expected);
  // Its making is 0; then each start and unblock is one more.
  uint64_t sequence = 0;
  for (const GoEvent& event : file.events)
    if ((event.type == 14 || event.type == 21) && event.values[0] == 1)
      CHECK(event.values[1] == ++sequence);
  CHECK(sequence == 1 + 2 * kinds.size());
  for (const GoEvent& event : file.of(21)) CHECK((event.proc == 0) == (event.values[2] == 0));
}

TEST_CASE("go trace: a thread that waits since before is declared so") {
  Scene scene;
  Step waiting = made(5, 1, 0);
  waiting.is_waiting = true;
  Step wake = step(9, StepKind::kWake, 1);
  const auto file = scene.file({waiting, wake});
  CHECK(file.types(0) == std::vector<unsigned>{4, 13, 31, 21});
  CHECK(file.of(21).at(0).values == Values{1, 2, 0});
}

TEST_CASE("go trace: a long call is a blocked one, that of a peer a network wait") {
  using format::CallName;
  const bool is_network = GENERATE(false, true);
  const auto in = [&](Step step) {
    step.call = is_network ? CallName::kRecv : CallName::kRead;
    return step;
  };
  Scene scene;
  const Step call =
      in(changed(step(20, StepKind::kCall, 1, 7), [&](Step& s) { s.stack = scene.stack(); }));
  Step block = call;
  block.kind = StepKind::kCallBlock;
  const auto file = scene.file(
      join(running(1), {call, block, in(step(50, StepKind::kCallReturn, 1, 7)),
                        step(50, StepKind::kRun, 1, 7), in(step(60, StepKind::kCall, 1, 7)),
                        in(step(61, StepKind::kCallEnd, 1, 7)), step(70, StepKind::kYield, 1, 7)}));
  const auto entry = file.of(28).at(0);
  const auto& frames = file.stacks.at(entry.values.at(0));
  CHECK(frames.at(0).function == (is_network ? "recv" : "read"));
  CHECK(frames.at(1).function == "program+0x1200");
  CHECK(frames.at(0).pc != frames.at(1).pc);
  if (is_network) {
    CHECK(file.types(1) == std::vector<unsigned>{5, 14, 28, 27, 14, 28, 17, 6});
    CHECK(file.of(27).at(0).values == entry.values);
    CHECK(file.of(21).at(0).values == Values{1, 2, 0});
    CHECK(file.of(21).at(0).proc == 0);
  } else {
    CHECK(file.types(1) == std::vector<unsigned>{5, 14, 28, 30, 29, 14, 28, 17, 6});
    CHECK(file.of(29).at(0).values == Values{1, 2, file.of(29).at(0).ticks});
  }
}

TEST_CASE("go trace: trims that overlap are one collection, and end where their core is lost") {
  Scene scene;
  const auto trim = [](uint64_t ns, StepKind kind, uint32_t thread, uint32_t core) {
    return changed(step(ns, kind, thread, core), [](Step& s) { s.value = 4096; });
  };
  const auto file = scene.file(
      join(running(2), {trim(20, StepKind::kTrimBegin, 1, 7), trim(21, StepKind::kTrimBegin, 2, 8),
                        step(25, StepKind::kPreempt, 1, 7), step(26, StepKind::kRun, 1, 7),
                        trim(30, StepKind::kTrimEnd, 1, 7), trim(31, StepKind::kTrimEnd, 2, 8),
                        trim(40, StepKind::kTrimBegin, 2, 8), trim(41, StepKind::kTrimEnd, 2, 8),
                        step(50, StepKind::kYield, 1, 7), step(50, StepKind::kYield, 2, 8)}));
  const auto types = file.types(0);
  CHECK(std::count(types.begin(), types.end(), 7u) == 2);
  CHECK(std::count(types.begin(), types.end(), 8u) == 2);
  CHECK(file.of(7).at(0).values.at(0) == 0);
  CHECK(file.of(7).at(1).values.at(0) == 1);
  CHECK(file.types(1) == std::vector<unsigned>{5, 14, 11, 12, 18, 14, 17, 6});
  CHECK(file.types(2) == std::vector<unsigned>{5, 14, 11, 12, 11, 12, 17, 6});
  CHECK(file.of(12).back().values == Values{4096, 4096});
}

TEST_CASE("go trace: what was left open is closed, where the viewer would die of it") {
  Scene scene;
  const auto file = scene.file(
      join(running(1), {step(20, StepKind::kTrimBegin, 1, 7), step(30, StepKind::kYield, 1, 7)}),
      false);
  CHECK(file.of(8).size() == 1);
  CHECK(file.of(12).size() == 1);
}

TEST_CASE("go trace: the heap is on the core of who tells, its size from the system a goal") {
  Scene scene;
  const auto heap = [](uint64_t ns, uint64_t live, uint64_t mapped) {
    return changed(step(ns, StepKind::kHeap, 1, 7), [&](Step& s) {
      s.value = live;
      s.second = mapped;
    });
  };
  const auto file =
      scene.file(join(running(1), {heap(20, 10, 100), heap(21, 11, 100),
                                   step(22, StepKind::kYield, 1, 7), heap(23, 12, 200)}));
  CHECK(file.types(1) == std::vector<unsigned>{5, 14, 33, 34, 33, 17, 6});
  CHECK(file.of(33).back().proc == 0);
  CHECK(file.of(34).back().values == Values{200});
}

TEST_CASE("go trace: a region without a stack gets one; tasks and logs have theirs") {
  Scene scene;
  const auto named = [](Step step, const char* text, uint64_t value = 3) {
    step.text = text;
    step.value = value;
    return step;
  };
  Step log = named(step(25, StepKind::kLog, 1, 7), "size");
  log.message = "parsed 42 bytes";
  log.stack = scene.stack();
  const auto file =
      scene.file(join(running(1), {named(step(20, StepKind::kTaskBegin, 1, 7), "request"),
                                   named(step(21, StepKind::kRegionBegin, 1, 7), "parse"), log,
                                   named(step(26, StepKind::kRegionEnd, 1, 7), "parse"),
                                   named(step(27, StepKind::kTaskEnd, 1, 7), ""),
                                   step(30, StepKind::kYield, 1, 7)}));
  const uint64_t start = file.of(13).at(0).values[1];
  const auto regions = file.of(47);
  REQUIRE(regions.size() == 2);
  CHECK(file.strings.at(regions[0].values[2]) == "parse");
  CHECK(regions[0].values == Values{3, 0, regions[0].values[2], start});
  CHECK(regions[1].values == Values{3, 1, regions[0].values[2], start});
  CHECK(file.strings.at(file.of(45).at(0).values[2]) == "request");
  CHECK(file.of(46).at(0).values == Values{3, start});
  CHECK(file.of(48).back().message == "parsed 42 bytes");
  CHECK(file.strings.at(file.of(48).back().values[1]) == "size");
}

TEST_CASE("go trace: a message is cut where the reader would lose its way") {
  Scene scene;
  Step log = step(25, StepKind::kLog, 1, 7);
  log.message = std::string(200'000, 'x');
  const auto file = scene.file(join(running(1), {log, step(30, StepKind::kYield, 1, 7)}));
  CHECK(file.of(48).back().message.size() == (size_t{1} << 16) - 256);
  for (const size_t bytes : file.batches) CHECK(bytes <= dumper::GoTraceSink::kMostBatchBytes);
}

TEST_CASE("go trace: samples keep their time, core and thread; losses are lines") {
  Scene scene;
  Step sample = step(20, StepKind::kCpu, 1, 7);
  sample.stack = scene.stack();
  Step elsewhere = step(21, StepKind::kCpu, 1, 99);
  Step lost = step(22, StepKind::kLost, 1, 7);
  lost.value = 17;
  const auto file =
      scene.file(join(running(1), {sample, elsewhere, lost, step(30, StepKind::kYield, 1, 7)}));
  const auto samples = file.of(49);
  REQUIRE(samples.size() == 2);
  CHECK(Values(samples[0].values.begin(), samples[0].values.begin() + 3) ==
        Values{samples[0].ticks, 1, 1});
  CHECK(file.stacks.contains(samples[0].values[3]));
  CHECK(samples[1].values[1] == UINT64_MAX);
  CHECK(file.of(48).back().message == "17 records of G1 main [4711]");
}

TEST_CASE("go trace: labels are the title of what runs with them") {
  Scene scene;
  const uint32_t set = scene.image().add_label("tenant", "t1", format::kNoRow);
  const auto labels = [](uint64_t ns, uint64_t value) {
    return changed(step(ns, StepKind::kLabels, 1, 7), [&](Step& s) { s.value = value; });
  };
  const auto file = scene.file(join(running(1), {labels(20, set + 1), labels(21, set + 1),
                                                 labels(22, 0), step(30, StepKind::kYield, 1, 7)}));
  CHECK(file.types(1) == std::vector<unsigned>{5, 14, 18, 41, 18, 14, 17, 6});
  CHECK(file.strings.at(file.of(41).at(0).values[2]) == "G1 main [4711]: tenant=t1");
}

TEST_CASE("go trace: many events are many batches, none too large") {
  Scene scene;
  std::vector<Step> steps = running(1);
  for (uint64_t i = 0; i < 50'000; ++i) {
    steps.push_back(step(100 + i, StepKind::kYield, 1, 7));
    steps.push_back(step(100 + i, StepKind::kRun, 1, 7));
  }
  steps.push_back(step(100'000, StepKind::kYield, 1, 7));
  const auto file = scene.file(steps);
  CHECK(file.events.size() > 100'000);
  CHECK(file.batches.size() > 5);
  for (const size_t bytes : file.batches) CHECK(bytes <= dumper::GoTraceSink::kMostBatchBytes);
}

TEST_CASE("go trace: a stack is cut to what every Go reads") {
  Scene scene;
  for (int i = 0; i < 4; ++i) scene.image().add_chunk(format::TableId::kStackNodes);
  const uint32_t library = scene.image().add_module("/lib/x", 0x7f0000000000, 0x7f0000100000);
  uint32_t node = format::kStackComplete;
  for (uint64_t i = 0; i < 200; ++i)
    node = scene.image().add_node(node, 0x7f0000001000 + i * 16, library);
  Step block = step(20, StepKind::kBlock, 1, 7);
  block.stack = node;
  const auto file = scene.file(join(running(1), {block}));  // its reader knows the limit
  const auto& frames = file.stacks.at(file.of(25).at(0).values[0]);
  CHECK(frames.size() == dumper::TraceNames::kMostFrames);
  CHECK(frames.front().function == "x+0x1c6f");
  CHECK(frames.back().function == "[truncated]");
  std::set<uint64_t> pcs;
  for (const GoFrame& frame : frames) pcs.insert(frame.pc);
  CHECK(pcs.size() == frames.size());
}

TEST_CASE("go trace: random records make traces that are whole") {
  DumpImage image;
  testing::fill_with_sample_content(image);
  const dumper::Dump dump = dumper::Dump::from_fd(image.duplicate(), "image", false);
  const char* const kept = std::getenv("MPROF_TRACES");
  const ScratchFolder scratch;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    RandomRecordOptions options;
    options.seed = seed;
    options.threads = 2 + seed % 9;
    options.cores = 1 + seed % 5;
    RecordList records(RandomRecords(options).make());
    dumper::Symbolizer symbolizer({});
    dumper::TraceNames names(dump, symbolizer);
    const std::string name = "random-" + std::to_string(seed) + ".go.trace";
    const std::string path = kept == nullptr ? scratch.file(name) : std::string(kept) + "/" + name;
    dumper::TraceFile file(path);
    dumper::GoTraceSink sink(file, names);
    dumper::ModelOptions model;
    model.text = [&](uint64_t row) { return names.text(row); };
    dumper::tell_trace(records, sink, model);
    file.commit();
    INFO("seed " << seed);
    const GoFile read(read_file(path));
    CHECK(read.events.size() > 500);
    // The server draws a row for each.
    CHECK(read.of(4).at(0).values[0] <= 3 + options.cores);
  }
}

}  // namespace
}  // namespace mprof::test
