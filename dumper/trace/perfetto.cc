// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/perfetto.h"

namespace mprof::dumper {
namespace {

constexpr const char* kLaneNames[] = {"state",      "system calls", "regions", "labels",
                                      "heap grows", "heap trims",   "wakes",   "CPU samples",
                                      "logs",       "losses"};

constexpr uint64_t kLateSampleNs = 1;

uint32_t identity_of(const Dump& dump) {
  constexpr uint64_t kMost = (1u << 20) - 1;
  return static_cast<uint32_t>(dump.header().generation % kMost) + 1;
}

}  // namespace

PerfettoSink::PerfettoSink(const Dump& dump, TraceNames& names, TraceFile& file)
    : dump_(dump),
      names_(names),
      writer_(file, identity_of(dump), names),
      start_ns_(dump.header().clock_first.monotonic_ns) {
  static_assert(sizeof kLaneNames / sizeof *kLaneNames == kLanes);
  writer_.begin(start_ns_, dump.header().realtime_start_ns);
  process_ =
      writer_.add_process(dump.header().pid, dump.executable(), dump.command_line(), start_ns_);
  cores_ = writer_.add_track("cores", {process_, ChildOrder::kByRank});
}

// ---- tracks

uint64_t PerfettoSink::lane(uint32_t thread, Lane which) {
  const auto found = threads_.find(thread);
  if (found == threads_.end()) return process_;
  uint64_t& track = found->second.lanes[static_cast<size_t>(which)];
  if (track == 0)
    track = writer_.add_track(kLaneNames[static_cast<size_t>(which)], {found->second.track});
  return track;
}

uint64_t PerfettoSink::core_track(uint32_t core) {
  uint64_t& track = core_tracks_[core];
  if (track == 0)
    track = writer_.add_track("core " + std::to_string(core),
                              {cores_, ChildOrder::kAny, static_cast<int32_t>(core)});
  return track;
}

uint32_t PerfettoSink::tid_of(uint32_t thread) const {
  const auto found = threads_.find(thread);
  return found == threads_.end() ? 0 : found->second.tid;
}

// ---- slices

PerfettoWriter::Event PerfettoSink::instant(uint32_t thread, Lane which, uint64_t ns) {
  return {writer_, PerfettoEvent::kInstant, at(ns), lane(thread, which)};
}

PerfettoWriter::Event PerfettoSink::begin_slice(uint32_t thread, Lane which, uint64_t ns) {
  const uint64_t track = lane(thread, which);
  ++threads_[thread].open[static_cast<size_t>(which)];
  return {writer_, PerfettoEvent::kSliceBegin, at(ns), track};
}

void PerfettoSink::end_slice(uint32_t thread, Lane which, uint64_t ns, bool is_over) {
  uint32_t& open = threads_[thread].open[static_cast<size_t>(which)];
  if (open == 0) return;
  --open;
  Event event(writer_, PerfettoEvent::kSliceEnd, at(ns), lane(thread, which));
  if (!is_over) event.note_true("unfinished");
}

// ---- steps

// A sample may come after the end of its thread.
void PerfettoSink::forget_ended(uint64_t ns) {
  for (; !ended_.empty() && ended_.front().second + kLateSampleNs < ns; ended_.pop_front())
    threads_.erase(ended_.front().first);
}

void PerfettoSink::note(const Step& step) {
  forget_ended(step.ns);
  switch (step.kind) {
    case StepKind::kThread: return note_thread(step);
    case StepKind::kWake: return note_flow(step, "wakes");
    case StepKind::kHeap: return note_heap(step);
    case StepKind::kGrowBegin:
      begin_slice(step.thread, Lane::kGrowth, step.ns)
          .category("heap")
          .name("heap grows")
          .note("bytes", step.value)
          .stack(step.stack);
      return;
    case StepKind::kGrowEnd: return end_slice(step.thread, Lane::kGrowth, step.ns);
    case StepKind::kTrimBegin:
      begin_slice(step.thread, Lane::kTrims, step.ns)
          .category("heap")
          .name("heap is trimmed")
          .note("bytes", step.value)
          .stack(step.stack);
      return;
    case StepKind::kTrimEnd: return end_slice(step.thread, Lane::kTrims, step.ns);
    case StepKind::kCpu:
      instant(step.thread, Lane::kSamples, step.ns)
          .category("CPU sample")
          .name("CPU sample")
          .note("core", step.core)
          .stack(step.stack);
      return;
    case StepKind::kLabels: return note_labels(step);
    case StepKind::kTaskBegin: return begin_task(step);
    case StepKind::kTaskEnd: return end_task(step.value, step.ns, true);
    case StepKind::kRegionBegin: {
      Event event = begin_slice(step.thread, Lane::kRegions, step.ns);
      event.category("region").name(step.text);
      if (step.value != 0) event.note("task", step.value);
      event.stack(step.stack);
      return;
    }
    case StepKind::kRegionEnd: return end_slice(step.thread, Lane::kRegions, step.ns);
    case StepKind::kLog: return note_log(step);
    case StepKind::kLost: {
      Event event = instant(step.thread, Lane::kLosses, step.ns);
      event.category("lost").name("records lost");
      if (step.value != 0) event.note("count", step.value);
      return;
    }
    case StepKind::kStart:
    case StepKind::kStop: return note_recording(step);
    default: return;
  }
}

void PerfettoSink::note_thread(const Step& step) {
  Thread& thread = threads_[step.thread];
  thread.tid = names_.tid(step.thread_row);
  thread.name = names_.thread_title(step.thread_row);
  thread.track = writer_.add_thread(dump_.header().pid, thread.tid, thread.name);
  note_flow(step, "creates");
}

void PerfettoSink::note_flow(const Step& step, const char* name) {
  if (step.other == 0) return;
  flow_ = writer_.next_flow();
  instant(step.other, Lane::kWakes, step.ns)
      .category("wake")
      .name(name)
      .begins_flow(flow_)
      .note("thread", tid_of(step.thread))
      .stack(step.stack);
}

void PerfettoSink::note_labels(const Step& step) {
  end_slice(step.thread, Lane::kLabels, step.ns);
  if (step.value == 0) return;
  const std::string text = names_.labels(static_cast<uint32_t>(step.value - 1));
  begin_slice(step.thread, Lane::kLabels, step.ns).category("labels").name(text);
}

void PerfettoSink::note_heap(const Step& step) {
  if (live_ == 0) {
    live_ = writer_.add_byte_counter("heap: live", process_);
    mapped_ = writer_.add_byte_counter("heap: mapped", process_);
  }
  Event(writer_, PerfettoEvent::kCounter, at(step.ns), live_)
      .value(static_cast<int64_t>(step.value));
  Event(writer_, PerfettoEvent::kCounter, at(step.ns), mapped_)
      .value(static_cast<int64_t>(step.second));
}

void PerfettoSink::begin_task(const Step& step) {
  end_task(step.value, step.ns, false);
  if (tasks_ == 0) tasks_ = writer_.add_track("tasks", {process_, ChildOrder::kByTime});
  const auto parent = open_tasks_.find(step.second);
  const uint64_t above = parent == open_tasks_.end() ? tasks_ : parent->second;
  const uint64_t track = writer_.add_track(step.text, {above, ChildOrder::kByTime});
  open_tasks_[step.value] = track;
  Event event(writer_, PerfettoEvent::kSliceBegin, at(step.ns), track);
  event.category("task").name(step.text).note("task", step.value);
  if (step.second != 0) event.note("parent", step.second);
  event.note("thread", tid_of(step.thread)).stack(step.stack);
}

void PerfettoSink::end_task(uint64_t task, uint64_t ns, bool is_over) {
  const auto found = open_tasks_.find(task);
  if (found == open_tasks_.end()) return;
  Event event(writer_, PerfettoEvent::kSliceEnd, at(ns), found->second);
  if (!is_over) event.note_true("unfinished");
  open_tasks_.erase(found);
}

void PerfettoSink::note_log(const Step& step) {
  Event event = instant(step.thread, Lane::kLogs, step.ns);
  event.category("log").any_name(step.message);
  if (!step.text.empty()) event.note_text("category", step.text);
  if (step.value != 0) event.note("task", step.value);
  event.stack(step.stack);
}

void PerfettoSink::note_recording(const Step& step) {
  Event(writer_, PerfettoEvent::kInstant, at(step.ns), process_)
      .category("recording")
      .name(step.kind == StepKind::kStart ? "recording begins" : "recording ends");
}

// ---- phases and calls

void PerfettoSink::begin_phase(uint32_t thread, Phase phase, const Step& step) {
  Thread& state = threads_[thread];
  if (phase == Phase::kRunning) {
    state.core = step.core;
    Event(writer_, PerfettoEvent::kSliceBegin, at(step.ns), core_track(step.core))
        .category("core")
        .name(state.name)
        .note("thread", state.tid);
  }
  Event event = begin_slice(thread, Lane::kState, step.ns);
  event.category(kPhaseNames[static_cast<size_t>(phase)]);
  if (flow_ != 0) event.ends_flow(std::exchange(flow_, 0));
  name_phase(event, phase, step);
}

void PerfettoSink::name_phase(Event& event, Phase phase, const Step& step) {
  if (phase == Phase::kBlocked) return name_wait(event, step);
  if (phase == Phase::kInCall) {
    event.name(format::kCallInfos[static_cast<size_t>(step.call)].name);
    return;
  }
  event.name(kPhaseNames[static_cast<size_t>(phase)]);
  if (phase == Phase::kRunning) event.note("core", step.core);
  if (step.kind != StepKind::kWake) return;
  if (step.other == 0)
    event.note_text("woken by", "kernel");
  else
    event.note("woken by", tid_of(step.other));
}

// Locks without a name are too many to give each wait one.
void PerfettoSink::name_wait(Event& event, const Step& step) {
  const std::string wait = format::kWaitNames[static_cast<size_t>(step.wait)];
  const std::string object = step.object == 0 ? "" : names_.object(step.object);
  event.name(object.empty() ? wait : wait + " " + object).note_text("wait", wait);
  if (step.object != 0) event.note_address("object", step.object);
  event.stack(step.stack);
}

void PerfettoSink::end_phase(uint32_t thread, Phase phase, uint64_t ns, bool is_over) {
  end_slice(thread, Lane::kState, ns, is_over);
  if (phase == Phase::kRunning)
    Event(writer_, PerfettoEvent::kSliceEnd, at(ns), core_track(threads_[thread].core));
}

void PerfettoSink::begin_call(const Step& step) {
  begin_slice(step.thread, Lane::kCalls, step.ns)
      .category("system call")
      .name(format::kCallInfos[static_cast<size_t>(step.call)].name)
      .stack(step.stack);
}

void PerfettoSink::end_call(uint32_t thread, uint64_t ns, bool is_over) {
  end_slice(thread, Lane::kCalls, ns, is_over);
}

void PerfettoSink::end_thread(uint32_t thread, uint64_t ns) {
  for (size_t which = 0; which < kLanes; ++which)
    while (threads_[thread].open[which] != 0) end_slice(thread, static_cast<Lane>(which), ns);
  ended_.emplace_back(thread, ns);
}

void PerfettoSink::end_trace(uint64_t ns) {
  while (!open_tasks_.empty()) end_task(open_tasks_.begin()->first, ns, false);
  writer_.flush();
}

}  // namespace mprof::dumper
