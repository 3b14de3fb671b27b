// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/summary.h"

#include <algorithm>
#include <utility>

namespace mprof::dumper {
namespace {

bool is_longer(const LongWait& a, const LongWait& b) {
  return a.ns != b.ns ? a.ns > b.ns : a.begin_ns < b.begin_ns;
}

// Sleeps, polls and signals are ended by the kernel, and long when nothing is wrong.
bool is_for_a_thread(format::WaitKind wait) { return wait < format::WaitKind::kSleep; }

void widen(ByteRange& range, uint64_t bytes, bool is_first) {
  range.lowest = is_first ? bytes : std::min(range.lowest, bytes);
  range.highest = is_first ? bytes : std::max(range.highest, bytes);
  range.last = bytes;
}

}  // namespace

void Tally::add(uint64_t ns) {
  ++count;
  total_ns += ns;
  longest_ns = std::max(longest_ns, ns);
}

void LongestWaits::add(const LongWait& wait) {
  if (heap_.size() == most_) {
    if (heap_.empty() || !is_longer(wait, heap_.front())) return;
    std::pop_heap(heap_.begin(), heap_.end(), is_longer);
    heap_.pop_back();
  }
  heap_.push_back(wait);
  std::push_heap(heap_.begin(), heap_.end(), is_longer);
}

std::vector<LongWait> LongestWaits::take() {
  std::sort_heap(heap_.begin(), heap_.end(), is_longer);
  return std::move(heap_);
}

SummarySink::Thread& SummarySink::thread_of(uint32_t number) {
  const auto [found, is_new] = threads_.try_emplace(number);
  if (is_new) found->second.times = &summary_.threads[number];
  return found->second;
}

// ---- where time goes

void SummarySink::add(SpentTime& spent, const Stretch& stretch, uint64_t ns) {
  if (stretch.on == Stretch::On::kCall) return spent.calls[stretch.call].add(ns);
  spent.phases[static_cast<size_t>(stretch.phase)].add(ns);
  if (stretch.phase == Phase::kBlocked) spent.blocked[stretch.wait].add(ns);
}

void SummarySink::add_part(const Region& region, const Stretch& stretch, uint64_t ns) {
  const uint64_t part_ns = ns - std::max(stretch.since_ns, region.since_ns);
  for (NamedTimes* times : {region.by_name, region.by_task})
    if (times != nullptr) add(times->spent, stretch, part_ns);
}

void SummarySink::charge(Thread& thread, const Stretch& stretch, uint64_t ns) {
  add(thread.times->spent, stretch, ns - stretch.since_ns);
  for (const Region& region : thread.regions) add_part(region, stretch, ns);
}

void SummarySink::begin_phase(uint32_t thread, Phase phase, const Step& step) {
  thread_of(thread).phase = {Stretch::On::kPhase, step.ns,     phase,     step.wait,
                             step.call,           step.object, step.stack};
}

void SummarySink::end_phase(uint32_t thread, Phase phase, uint64_t ns, bool is_over) {
  Thread& state = thread_of(thread);
  charge(state, state.phase, ns);
  if (phase == Phase::kBlocked) note_wait(thread, state.phase, ns, is_over);
  state.phase.on = Stretch::On::kNothing;
}

void SummarySink::begin_call(const Step& step) {
  thread_of(step.thread).call = {Stretch::On::kCall, step.ns, {}, {}, step.call, 0, step.stack};
}

void SummarySink::end_call(uint32_t thread, uint64_t ns, bool is_over) {
  Thread& state = thread_of(thread);
  charge(state, state.call, ns);
  note_wait(thread, state.call, ns, is_over);
  state.call.on = Stretch::On::kNothing;
}

void SummarySink::note_wait(uint32_t thread, const Stretch& stretch, uint64_t ns, bool is_over) {
  LongWait wait;
  wait.thread = thread;
  wait.begin_ns = stretch.since_ns;
  wait.ns = ns - stretch.since_ns;
  wait.object = stretch.object;
  wait.stack = stretch.stack;
  wait.is_over = is_over;
  const bool is_call = stretch.on == Stretch::On::kCall;
  wait.what = is_call ? format::kCallInfos[static_cast<size_t>(stretch.call)].name
                      : format::kWaitNames[static_cast<size_t>(stretch.wait)];
  wait.is_call = is_call || !is_for_a_thread(stretch.wait);
  if (wait.is_call) return calls_.add(wait);
  if (is_over) {
    wait.waker = waker_;
    wait.waker_stack = waker_stack_;
  }
  waits_.add(wait);
}

// ---- steps

void SummarySink::note(const Step& step) {
  if (!std::exchange(has_begun_, true)) summary_.begin_ns = step.ns;
  switch (step.kind) {
    case StepKind::kThread: return note_thread(step);
    case StepKind::kCoreBegin: ++summary_.cores; return;
    case StepKind::kWake:
      waker_ = step.other;
      waker_stack_ = step.stack;
      return;
    case StepKind::kHeap:
    case StepKind::kGrowBegin:
    case StepKind::kGrowEnd:
    case StepKind::kTrimBegin:
    case StepKind::kTrimEnd: return note_heap(step);
    case StepKind::kCpu:
      ++summary_.cpu_samples;
      ++summary_.threads[step.thread].cpu_samples;
      return;
    case StepKind::kTaskBegin: return begin_task(step);
    case StepKind::kTaskEnd: return end_task(step.value, step.ns, true);
    case StepKind::kRegionBegin: return begin_region(step);
    case StepKind::kRegionEnd: return end_region(thread_of(step.thread), step.ns, true);
    case StepKind::kLog: ++summary_.logs; return;
    case StepKind::kLost:
      summary_.lost_records += step.value;
      summary_.gaps += step.value == 0 ? 1 : 0;
      if (step.thread != 0) summary_.threads[step.thread].lost_records += step.value;
      return;
    case StepKind::kStart: ++summary_.sessions; return;
    default: return;
  }
}

void SummarySink::note_thread(const Step& step) {
  ThreadTimes& times = summary_.threads[step.thread];
  times.row = step.thread_row;
  times.begin_ns = step.ns;
}

void SummarySink::note_heap(const Step& step) {
  Thread& thread = thread_of(step.thread);
  switch (step.kind) {
    case StepKind::kGrowBegin:
      summary_.growths.bytes += step.value;
      thread.grows_since_ns = step.ns;
      return;
    case StepKind::kTrimBegin:
      summary_.trims.bytes += step.value;
      thread.trims_since_ns = step.ns;
      return;
    case StepKind::kGrowEnd: return summary_.growths.times.add(step.ns - thread.grows_since_ns);
    case StepKind::kTrimEnd: return summary_.trims.times.add(step.ns - thread.trims_since_ns);
    default: break;
  }
  const bool is_first = !std::exchange(summary_.has_heap, true);
  widen(summary_.live, step.value, is_first);
  widen(summary_.mapped, step.second, is_first);
}

void SummarySink::begin_region(const Step& step) {
  const auto found = summary_.regions.try_emplace(step.text).first;
  const auto task = tasks_.find(step.value);
  Region region{step.ns, step.value, &found->second, nullptr, &found->first};
  if (step.value != 0 && task != tasks_.end()) region.by_task = task->second.times;
  std::vector<Region>& outer = thread_of(step.thread).regions;
  for (const Region& other : outer) {
    if (other.by_name == region.by_name) region.by_name = nullptr;
    if (other.by_task == region.by_task) region.by_task = nullptr;
  }
  outer.push_back(region);
}

void SummarySink::end_region(Thread& thread, uint64_t ns, bool is_over) {
  if (thread.regions.empty()) return;
  const Region region = thread.regions.back();
  thread.regions.pop_back();
  for (const Stretch* open : {&thread.phase, &thread.call})
    if (open->on != Stretch::On::kNothing) add_part(region, *open, ns);
  if (region.by_name == nullptr) return;
  region.by_name->whole.add(ns - region.since_ns);
  region.by_name->unfinished += is_over ? 0 : 1;
}

void SummarySink::begin_task(const Step& step) {
  end_task(step.value, step.ns, false);
  tasks_[step.value] = {&summary_.tasks[step.text], step.ns};
}

void SummarySink::end_task(uint64_t task, uint64_t ns, bool is_over) {
  const auto found = tasks_.find(task);
  if (found == tasks_.end()) return;
  NamedTimes& times = *found->second.times;
  times.whole.add(ns - found->second.since_ns);
  times.unfinished += is_over ? 0 : 1;
  tasks_.erase(found);
}

void SummarySink::end_thread(uint32_t thread, uint64_t ns) {
  Thread& state = thread_of(thread);
  while (!state.regions.empty()) end_region(state, ns, false);
  state.times->end_ns = ns;
  threads_.erase(thread);
}

void SummarySink::end_trace(uint64_t ns) {
  while (!tasks_.empty()) end_task(tasks_.begin()->first, ns, false);
  summary_.end_ns = ns;
  summary_.longest_waits = waits_.take();
  summary_.longest_calls = calls_.take();
}

}  // namespace mprof::dumper
