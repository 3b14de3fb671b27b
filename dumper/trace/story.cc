// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/story.h"

namespace mprof::dumper {

std::optional<Phase> phase_after(const Step& step) {
  switch (step.kind) {
    case StepKind::kThread: return step.is_waiting ? Phase::kBlocked : Phase::kRunnable;
    case StepKind::kRun: return Phase::kRunning;
    case StepKind::kPreempt:
    case StepKind::kYield:
    case StepKind::kWake:
    case StepKind::kCallReturn: return Phase::kRunnable;
    case StepKind::kBlock: return Phase::kBlocked;
    case StepKind::kCallBlock: return Phase::kInCall;
    default: return std::nullopt;
  }
}

void StorySink::take(const Step& step) {
  last_ns_ = step.ns;
  note(step);
  switch (step.kind) {
    case StepKind::kCall: return open_call(step);
    case StepKind::kCallEnd: return close_call(step.thread, step.ns, true);
    case StepKind::kExit: return close(step.thread, step.ns, true);
    case StepKind::kStart: return change_all(Phase::kUnrecorded, Phase::kRunnable, step);
    case StepKind::kStop: return change_all(Phase::kRunnable, Phase::kUnrecorded, step);
    default: break;
  }
  if (step.kind == StepKind::kCallReturn) close_call(step.thread, step.ns, true);
  if (const auto phase = phase_after(step)) change(step.thread, *phase, step);
}

void StorySink::finish() {
  while (!threads_.empty()) close(threads_.begin()->first, last_ns_, false);
  end_trace(last_ns_);
}

void StorySink::change(uint32_t thread, Phase phase, const Step& step) {
  const auto [found, is_new] = threads_.try_emplace(thread);
  if (!is_new) end_phase(thread, found->second.phase, step.ns, true);
  if (phase == Phase::kRunnable && !is_recording_) phase = Phase::kUnrecorded;
  found->second.phase = phase;
  begin_phase(thread, phase, step);
}

void StorySink::change_all(Phase from, Phase to, const Step& step) {
  is_recording_ = step.kind == StepKind::kStart;
  for (auto& [thread, state] : threads_) {
    if (state.phase != from) continue;
    end_phase(thread, from, step.ns, true);
    state.phase = to;
    begin_phase(thread, to, step);
  }
}

void StorySink::open_call(const Step& step) {
  close_call(step.thread, step.ns, true);
  const auto found = threads_.find(step.thread);
  if (found == threads_.end()) return;
  found->second.has_call = true;
  begin_call(step);
}

void StorySink::close_call(uint32_t thread, uint64_t ns, bool is_over) {
  const auto found = threads_.find(thread);
  if (found == threads_.end() || !found->second.has_call) return;
  found->second.has_call = false;
  end_call(thread, ns, is_over);
}

void StorySink::close(uint32_t thread, uint64_t ns, bool is_over) {
  const auto found = threads_.find(thread);
  if (found == threads_.end()) return;
  close_call(thread, ns, is_over);
  end_phase(thread, found->second.phase, ns, is_over);
  threads_.erase(found);
  end_thread(thread, ns);
}

}  // namespace mprof::dumper
