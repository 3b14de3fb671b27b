// SPDX-License-Identifier: Apache-2.0
// Invents steps that obey dumper/trace/step.h, of every kind, in any order that is allowed.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "dumper/trace/step.h"

namespace mprof::testing {

struct RandomStepsOptions {
  size_t actions = 2000;
  size_t threads = 12;  // at once
  uint32_t cores = 4;
  uint32_t stacks = 6;       // rows 0 to stacks - 1
  uint32_t thread_rows = 4;  // rows of the thread table
  uint32_t label_sets = 1;
};

class RandomSteps {
 public:
  using Step = dumper::Step;
  using StepKind = dumper::StepKind;

  RandomSteps(dumper::StepSink& sink, uint64_t seed, RandomStepsOptions options = {})
      : sink_(sink), random_(seed), options_(options) {}

  void run() {
    emit(StepKind::kStart, 0);
    for (size_t i = 0; i < options_.actions; ++i) {
      ns_ += pick({0, 0, 1, 70, 3000, 40'000});
      act();
    }
    stop();
    sink_.finish();
  }

 private:
  enum class State { kRunnable, kRunning, kWaiting, kInCall };
  struct Thread {
    State state = State::kRunnable;
    uint32_t core = 0;
    bool has_call = false;
    bool grows = false;
    bool trims = false;
    format::CallName call{};
    std::vector<uint64_t> regions;  // their tasks
  };

  uint64_t below(uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_);
  }
  uint64_t pick(const std::vector<uint64_t>& values) { return values[below(values.size())]; }
  bool chance(unsigned percent) { return below(100) < percent; }

  Step& prepare(StepKind kind, uint32_t thread) {
    step_ = {};
    step_.kind = kind;
    step_.ns = ns_;
    step_.thread = thread;
    step_.stack = chance(10) ? format::kNoRow : static_cast<uint32_t>(below(options_.stacks));
    if (const auto found = threads_.find(thread); found != threads_.end())
      step_.core = found->second.core;
    return step_;
  }
  void emit() { sink_.take(step_); }
  void emit(StepKind kind, uint32_t thread, uint64_t value = 0) {
    prepare(kind, thread).value = value;
    emit();
  }

  // One of the threads in a state; 0: none is.
  uint32_t any(State state) {
    std::vector<uint32_t> found;
    for (const auto& [number, thread] : threads_)
      if (thread.state == state) found.push_back(number);
    return found.empty() ? 0 : found[below(found.size())];
  }

  void act() {
    if (threads_.size() < 2 || (threads_.size() < options_.threads && chance(4))) return appear();
    if (chance(25)) return run_one();
    if (chance(15)) return wake_one();
    if (chance(1)) return restart();
    if (const uint32_t thread = any(State::kRunning)) return act(thread);
    run_one();
  }

  void act(uint32_t number) {
    Thread& thread = threads_.at(number);
    switch (below(16)) {
      case 0: return leave(number, StepKind::kPreempt, State::kRunnable);
      case 1: return leave(number, StepKind::kYield, State::kRunnable);
      case 2:
      case 3: return block(number);
      case 4:
      case 5:
      case 6: return call(number, thread);
      case 7:
      case 8: return begin_region(number, thread);
      case 9: return end_region(number, thread);
      case 10: return change_heap(number, thread);
      case 11: return tell(number);
      case 12: return begin_task(number);
      case 13: return end_task(number);
      case 14: return emit(StepKind::kCpu, number);
      default: return exit(number, thread);
    }
  }

  void appear() {
    const uint32_t by = chance(50) ? any(State::kRunning) : 0;
    const uint32_t number = ++last_thread_;
    Step& step = prepare(StepKind::kThread, number);
    step.thread_row = static_cast<uint32_t>(below(options_.thread_rows));
    step.other = by;
    step.is_waiting = by == 0 && chance(40);
    if (step.is_waiting) step.wait = wait();
    threads_[number].state = step.is_waiting ? State::kWaiting : State::kRunnable;
    emit();
  }

  format::WaitKind wait() {
    return static_cast<format::WaitKind>(below(static_cast<uint64_t>(format::WaitKind::kCount)));
  }

  void run_one() {
    if (const uint32_t number = any(State::kRunnable)) run(number);
  }

  void run(uint32_t number) {
    const auto core = static_cast<uint32_t>(below(options_.cores));
    for (auto& [other, thread] : threads_)
      if (thread.state == State::kRunning && thread.core == core)
        leave(other, StepKind::kPreempt, State::kRunnable);
    Thread& thread = threads_.at(number);
    thread.core = core;
    if (std::find(seen_cores_.begin(), seen_cores_.end(), core) == seen_cores_.end()) {
      seen_cores_.push_back(core);
      emit(StepKind::kCoreBegin, number);
    }
    emit(StepKind::kRun, number);
    thread.state = State::kRunning;
  }

  void leave(uint32_t number, StepKind kind, State to) {
    emit(kind, number);
    threads_.at(number).state = to;
  }

  void block(uint32_t number) {
    Step& step = prepare(StepKind::kBlock, number);
    step.wait = wait();
    step.object = pick({0, 0x1f010, 0x7f12a0001230});
    emit();
    threads_.at(number).state = State::kWaiting;
  }

  void wake_one() {
    if (const uint32_t called = any(State::kInCall); called != 0 && chance(50)) {
      Thread& thread = threads_.at(called);
      prepare(StepKind::kCallReturn, called).call = thread.call;
      emit();
      thread.state = State::kRunnable;
      return run(called);
    }
    const uint32_t number = any(State::kWaiting);
    if (number == 0) return;
    const uint32_t by = chance(70) ? any(State::kRunning) : 0;
    prepare(StepKind::kWake, number).other = by;
    emit();
    threads_.at(number).state = State::kRunnable;
  }

  void call(uint32_t number, Thread& thread) {
    if (thread.has_call) return end_call(number, thread);
    const auto calls = static_cast<uint64_t>(format::CallName::kCount);
    thread.call = static_cast<format::CallName>(below(calls));
    prepare(StepKind::kCall, number).call = thread.call;
    emit();
    thread.has_call = chance(70);
    if (thread.has_call) return;
    prepare(StepKind::kCallBlock, number).call = thread.call;
    emit();
    thread.state = State::kInCall;
  }

  void end_call(uint32_t number, Thread& thread) {
    prepare(StepKind::kCallEnd, number).call = thread.call;
    emit();
    thread.has_call = false;
  }

  // The deeper one has another name, so that none lies in one of its own name.
  void begin_region(uint32_t number, Thread& thread) {
    if (thread.regions.size() == 3) return end_region(number, thread);
    const uint64_t task = tasks_.empty() || chance(50) ? 0 : tasks_[below(tasks_.size())];
    Step& step = prepare(StepKind::kRegionBegin, number);
    step.text = "region " + std::to_string(thread.regions.size());
    step.value = task;
    emit();
    thread.regions.push_back(task);
  }

  void end_region(uint32_t number, Thread& thread) {
    if (thread.regions.empty()) return;
    thread.regions.pop_back();
    emit(StepKind::kRegionEnd, number);
  }

  void change_heap(uint32_t number, Thread& thread) {
    if (chance(40)) {
      prepare(StepKind::kHeap, number).value = below(1 << 20);
      step_.second = 1 << 20;
      return emit();
    }
    bool& is_open = chance(50) ? thread.grows : thread.trims;
    const StepKind begin = &is_open == &thread.grows ? StepKind::kGrowBegin : StepKind::kTrimBegin;
    const StepKind end = &is_open == &thread.grows ? StepKind::kGrowEnd : StepKind::kTrimEnd;
    emit(is_open ? end : begin, number, 65536);
    is_open = !is_open;
  }

  void tell(uint32_t number) {
    if (chance(30)) return emit(StepKind::kLost, number, 3);
    if (chance(40)) return emit(StepKind::kLabels, number, below(options_.label_sets + 1));
    Step& step = prepare(StepKind::kLog, number);
    step.text = "category";
    step.message = "message " + std::to_string(ns_);
    emit();
  }

  void begin_task(uint32_t number) {
    Step& step = prepare(StepKind::kTaskBegin, number);
    step.value = ++last_task_;
    step.second = tasks_.empty() || chance(50) ? 0 : tasks_[below(tasks_.size())];
    step.text = chance(50) ? "request" : "query";
    emit();
    tasks_.push_back(last_task_);
  }

  void end_task(uint32_t number) {
    if (tasks_.empty()) return;
    const size_t which = below(tasks_.size());
    emit(StepKind::kTaskEnd, number, tasks_[which]);
    tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  void close(uint32_t number, Thread& thread) {
    if (thread.has_call) end_call(number, thread);
    while (!thread.regions.empty()) end_region(number, thread);
    if (thread.grows) emit(StepKind::kGrowEnd, number);
    if (thread.trims) emit(StepKind::kTrimEnd, number);
    thread.grows = thread.trims = false;
  }

  void exit(uint32_t number, Thread& thread) {
    if (chance(60)) return;
    close(number, thread);
    emit(StepKind::kExit, number);
    threads_.erase(number);
  }

  // Who is in the midst of something gets a core for an instant, to end it.
  void stop() {
    for (auto& [number, thread] : threads_) {
      const bool has_open =
          thread.has_call || thread.grows || thread.trims || !thread.regions.empty();
      if (has_open && thread.state == State::kRunnable) run(number);
      if (thread.state == State::kRunning) close(number, thread);
      if (thread.state == State::kRunning) leave(number, StepKind::kYield, State::kRunnable);
    }
    emit(StepKind::kStop, 0);
  }

  void restart() {
    stop();
    ns_ += 1'000'000;
    emit(StepKind::kStart, 0);
  }

  dumper::StepSink& sink_;
  std::mt19937_64 random_;
  RandomStepsOptions options_;
  Step step_;
  uint64_t ns_ = 0;
  uint32_t last_thread_ = 0;
  uint64_t last_task_ = 0;
  std::map<uint32_t, Thread> threads_;
  std::vector<uint32_t> seen_cores_;
  std::vector<uint64_t> tasks_;
};

}  // namespace mprof::testing
