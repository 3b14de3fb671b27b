// SPDX-License-Identifier: Apache-2.0
// Steps made by hand, and a dump whose tables they name.
#pragma once

#include <deque>
#include <string>

#include "dumper/trace/model.h"
#include "dumper/trace/names.h"
#include "dumper/trace/step.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/random_records.h"

namespace mprof::testing {

// Four threads, tids 4711 to 4714, all but the first called "worker"; seven stacks, of which row 0
// is none; a label set. No symbols: "program+0x1000" is the call that returns to 0x11001.
class TraceDump {
 public:
  TraceDump() : image_(4711), dump_(fill()), names_(dump_, symbolizer_) {}

  [[nodiscard]] const dumper::Dump& dump() const { return dump_; }
  [[nodiscard]] dumper::TraceNames& names() { return names_; }

 private:
  dumper::Dump fill() {
    const uint32_t program = image_.add_module("/bin/program", 0x10000, 0x20000);
    uint32_t node = format::kStackComplete;
    for (uint64_t depth = 0; depth < 4; ++depth)
      node = image_.add_node(node, 0x11001 + depth * 0x100, program);
    for (uint32_t tid = 4711; tid < 4715; ++tid) image_.add_thread(tid);
    strcpy(image_.row<format::ThreadRow>(format::TableId::kThreads, 0).name, "program");
    image_.add_label("tenant", "t1", format::kNoRow);
    return dumper::Dump::from_fd(image_.duplicate(), "image", false);
  }
  static dumper::SymbolOptions without_symbols() {
    dumper::SymbolOptions options;
    options.detail = dumper::SymbolDetail::kNone;
    return options;
  }

  DumpImage image_;
  dumper::Dump dump_;
  dumper::Symbolizer symbolizer_{without_symbols()};
  dumper::TraceNames names_;
};

// A story as one tells it, a line for each step.
class Story {
 public:
  using Step = dumper::Step;
  using StepKind = dumper::StepKind;

  // The steps that follow are of this time.
  Story& at(uint64_t ns) {
    ns_ = ns;
    return *this;
  }
  Step& add(StepKind kind, uint32_t thread) {
    Step step;
    step.kind = kind;
    step.ns = ns_;
    step.thread = thread;
    steps_.push_back(step);
    return steps_.back();
  }
  Step& appears(uint32_t thread, uint32_t by = 0) {
    Step& step = add(StepKind::kThread, thread);
    step.thread_row = thread - 1;
    step.other = by;
    return step;
  }
  Step& runs(uint32_t thread, uint32_t core) {
    Step& step = add(StepKind::kRun, thread);
    step.core = core;
    return step;
  }
  Step& blocks(uint32_t thread, format::WaitKind wait, uint64_t object, uint32_t stack) {
    Step& step = add(StepKind::kBlock, thread);
    step.wait = wait;
    step.object = object;
    step.stack = stack;
    return step;
  }
  Step& wakes(uint32_t thread, uint32_t by, uint32_t stack = format::kNoRow) {
    Step& step = add(StepKind::kWake, thread);
    step.other = by;
    step.stack = stack;
    return step;
  }
  Step& calls(StepKind kind, uint32_t thread, format::CallName call) {
    Step& step = add(kind, thread);
    step.call = call;
    return step;
  }
  Step& names(StepKind kind, uint32_t thread, uint64_t value, const std::string& text) {
    Step& step = add(kind, thread);
    step.value = value;
    step.text = text;
    return step;
  }

  void tell(dumper::StepSink& sink) const {
    for (const Step& step : steps_) sink.take(step);
    sink.finish();
  }

 private:
  uint64_t ns_ = 0;
  std::deque<Step> steps_;
};

// The steps of random records, which keep every rule.
inline void tell_random_trace(uint32_t seed, dumper::StepSink& sink) {
  test::RandomRecordOptions options;
  options.seed = seed;
  options.threads = 2 + seed % 9;
  options.stacks = 7;
  test::RecordList records(test::RandomRecords(options).make());
  dumper::ModelOptions model;
  model.text = [](uint64_t row) { return "name " + std::to_string(row % 5); };
  dumper::tell_trace(records, sink, model);
}

}  // namespace mprof::testing
