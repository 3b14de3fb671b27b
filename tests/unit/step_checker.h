// SPDX-License-Identifier: Apache-2.0
// Every rule of dumper/trace/step.h, checked step by step; and what a step looks like as text.
#pragma once

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dumper/trace/step.h"

namespace mprof::test {

inline const char* step_name(dumper::StepKind kind) {
  constexpr const char* kNames[] = {
      "thread",       "core begin", "run",         "preempt",  "yield",  "block",      "wake",
      "call",         "call block", "call return", "call end", "exit",   "heap",       "grow begin",
      "grow end",     "trim begin", "trim end",    "cpu",      "labels", "task begin", "task end",
      "region begin", "region end", "log",         "lost",     "start",  "stop"};
  static_assert(std::size(kNames) == static_cast<size_t>(dumper::StepKind::kStop) + 1);
  return kNames[static_cast<size_t>(kind)];
}

// "12 wake 3 by 1 on 0": time, kind, thread, who woke or made it, core.
inline std::string step_text(const dumper::Step& step) {
  std::string text = fmt::format("{} {}", step.ns, step_name(step.kind));
  if (step.thread != 0) text += fmt::format(" {}", step.thread);
  if (step.kind == dumper::StepKind::kThread || step.kind == dumper::StepKind::kWake)
    text += fmt::format(" by {}", step.other);
  return text + fmt::format(" on {}", step.core);
}

// Gives all steps on to another sink, if there is one.
class StepChecker : public dumper::StepSink {
 public:
  explicit StepChecker(dumper::StepSink* next = nullptr) : next_(next) {}

  void take(const dumper::Step& step) override {
    if (is_finished_) complain(step, "after the last one");
    if (step.ns < ns_) complain(step, "goes back in time");
    ns_ = std::max(ns_, step.ns);
    check(step);
    ++steps_;
    if (next_ != nullptr) next_->take(step);
  }

  void finish() override {
    is_finished_ = true;
    for (const auto& [number, thread] : threads_) {
      if (thread.state == kRunning) complain(fmt::format("{} runs at the end", number));
      if (!thread.regions.empty()) complain(fmt::format("{} has open regions", number));
      if (thread.grows || thread.trims) complain(fmt::format("{} still grows or trims", number));
    }
    if (next_ != nullptr) next_->finish();
  }

  // Empty: all rules were kept.
  [[nodiscard]] const std::vector<std::string>& complaints() const { return complaints_; }
  [[nodiscard]] size_t steps() const { return steps_; }
  [[nodiscard]] bool is_finished() const { return is_finished_; }

 private:
  enum State { kRunnable, kRunning, kWaiting, kInCall, kGone };
  struct Thread {
    State state = kRunnable;
    uint32_t core = 0;
    uint64_t begin_ns = 0;
    bool grows = false;
    bool trims = false;
    bool call_is_open = false;
    std::vector<std::pair<uint64_t, std::string>> regions;
  };

  void complain(const std::string& what) {
    if (complaints_.size() < 20) complaints_.push_back(what);
  }
  void complain(const dumper::Step& step, const std::string& what) {
    complain(step_text(step) + ": " + what);
  }

  void check(const dumper::Step& step) {
    using dumper::StepKind;
    if (step.kind == StepKind::kStart || step.kind == StepKind::kStop) return check_session(step);
    if (step.kind == StepKind::kThread) return begin_thread(step);
    const auto found = threads_.find(step.thread);
    if (found == threads_.end()) return complain(step, "a thread that never appeared");
    Thread& thread = found->second;
    if (thread.state == kGone && step.kind != StepKind::kLost && step.kind != StepKind::kCpu)
      return complain(step, "of a thread that is gone");
    switch (step.kind) {
      case StepKind::kCoreBegin:
        if (!cores_.insert(step.core).second) complain(step, "that core is not new");
        return;
      case StepKind::kRun: return run(step, thread);
      case StepKind::kPreempt:
      case StepKind::kYield: return leave(step, thread, kRunnable);
      case StepKind::kBlock: return leave(step, thread, kWaiting);
      case StepKind::kCallBlock:
        if (!follows_call_) complain(step, "does not follow its call");
        thread.call_is_open = false;
        return leave(step, thread, kInCall);
      case StepKind::kExit: return leave(step, thread, kGone);
      case StepKind::kWake:
        if (thread.state != kWaiting) complain(step, "does not wait");
        thread.state = kRunnable;
        return require_other(step);
      case StepKind::kCallReturn:
        if (thread.state != kInCall) complain(step, "is in no call");
        if (!cores_.contains(step.core)) complain(step, "on a core that never began");
        if (on_core_.contains(step.core)) complain(step, "on a core that is taken");
        thread.state = kRunnable;
        return;
      case StepKind::kHeap:
      case StepKind::kLost: return;
      case StepKind::kCpu:
        if (step.ns <= thread.begin_ns) complain(step, "a sample before its thread");
        return;
      default: break;
    }
    follows_call_ = false;
    require_running(step, thread);
    check_pair(step, thread);
  }

  void check_pair(const dumper::Step& step, Thread& thread) {
    using dumper::StepKind;
    const auto toggle = [&](bool& is_open, bool opens) {
      if (is_open == opens) complain(step, "begins twice, or ends without a begin");
      is_open = opens;
    };
    switch (step.kind) {
      case StepKind::kCall: follows_call_ = true; return toggle(thread.call_is_open, true);
      case StepKind::kCallEnd: return toggle(thread.call_is_open, false);
      case StepKind::kGrowBegin: return toggle(thread.grows, true);
      case StepKind::kGrowEnd: return toggle(thread.grows, false);
      case StepKind::kTrimBegin: return toggle(thread.trims, true);
      case StepKind::kTrimEnd: return toggle(thread.trims, false);
      case StepKind::kTaskBegin:
        if (step.value == 0 || !tasks_.insert(step.value).second)
          complain(step, "a task that began before");
        return;
      case StepKind::kRegionBegin: thread.regions.emplace_back(step.value, step.text); return;
      case StepKind::kRegionEnd:
        if (thread.regions.empty() || thread.regions.back() != std::pair(step.value, step.text))
          return complain(step, "not the innermost region");
        return thread.regions.pop_back();
      default: return;
    }
  }

  void check_session(const dumper::Step& step) {
    const bool starts = step.kind == dumper::StepKind::kStart;
    if (starts == is_recording_) complain(step, "recorded already, or not");
    is_recording_ = starts;
    if (!on_core_.empty()) complain(step, "somebody runs");
  }

  void begin_thread(const dumper::Step& step) {
    if (step.thread != threads_.size() + 1) complain(step, "is not the next number");
    if (step.other != 0) require_other(step);
    Thread thread;
    thread.state = step.is_waiting ? kWaiting : kRunnable;
    thread.begin_ns = step.ns;
    threads_.emplace(step.thread, thread);
  }

  void run(const dumper::Step& step, Thread& thread) {
    if (thread.state != kRunnable) complain(step, "is not runnable");
    if (!cores_.contains(step.core)) complain(step, "on a core that never began");
    if (!on_core_.emplace(step.core, step.thread).second) complain(step, "on a core that is taken");
    thread.state = kRunning;
    thread.core = step.core;
  }

  void leave(const dumper::Step& step, Thread& thread, State to) {
    if (!require_running(step, thread)) return;
    on_core_.erase(thread.core);
    thread.state = to;
    if (to == kGone && (!thread.regions.empty() || thread.grows || thread.trims))
      complain(step, "with something open");
  }

  bool require_running(const dumper::Step& step, const Thread& thread) {
    if (thread.state != kRunning) complain(step, "does not run");
    if (thread.core != step.core) complain(step, fmt::format("runs on core {}", thread.core));
    return thread.state == kRunning;
  }

  void require_other(const dumper::Step& step) {
    if (step.other == 0) return;
    const auto other = threads_.find(step.other);
    if (other == threads_.end() || other->second.state != kRunning ||
        other->second.core != step.core)
      complain(step, "the other one does not run there");
  }

  dumper::StepSink* next_;
  std::map<uint32_t, Thread> threads_;
  std::map<uint32_t, uint32_t> on_core_;
  std::set<uint32_t> cores_;
  std::set<uint64_t> tasks_;
  std::vector<std::string> complaints_;
  uint64_t ns_ = 0;
  size_t steps_ = 0;
  bool is_recording_ = false;
  bool is_finished_ = false;
  bool follows_call_ = false;
};

}  // namespace mprof::test
