// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/model.h"

#include <algorithm>
#include <utility>

namespace mprof::dumper {
namespace {

using format::CallName;
using format::kNoRow;
using format::TraceKind;
using format::WaitKind;

uint32_t row_of(uint64_t argument) { return static_cast<uint32_t>(argument); }

uint32_t core_of(uint32_t core) { return std::min(core, TraceModel::kMostCores - 1); }

CallName call_name(uint64_t number) {
  return number < static_cast<uint64_t>(CallName::kCount) ? static_cast<CallName>(number)
                                                          : CallName::kIoctl;
}

}  // namespace

TraceModel::TraceModel(StepSink& sink, ModelOptions options)
    : sink_(sink), options_(std::move(options)), is_muted_(options_.from_ns > 0) {}

void TraceModel::take(const Moment& moment) {
  if (is_over_) return;
  const uint64_t ns = moment.record.ns;
  if (is_muted_ && ns >= options_.from_ns) begin_window();
  if (ns > options_.to_ns) {
    is_over_ = true;
    return advance(options_.to_ns);
  }
  advance(ns);
  tell(moment);
}

void TraceModel::finish() {
  if (is_recording_) close_session();
  is_recording_ = false;
  if (!held_samples_.empty()) advance(now_ns_ + 1);
  counts_.threads = last_number_;
  sink_.finish();
}

// What kinds of records do

void TraceModel::tell(const Moment& moment) {
  const TraceRecord& record = moment.record;
  if (record.kind == TraceKind::kStart) start(record);
  if (!is_recording_) {
    if (was_stopped_ && record.ns - stop_ns_ < kLateNs) {
      ++counts_.late;
      return;
    }
    began_by_itself_ = true;
    open_session();
  }
  const uint32_t thread = thread_of(moment);
  if (thread == kNobody) {
    ++counts_.late;
    return;
  }
  if (!is_muted_) ++counts_.records;
  tell_of(thread, moment);
}

void TraceModel::tell_of(uint32_t thread, const Moment& moment) {
  const TraceRecord& record = moment.record;
  threads_[thread].session = session_;
  switch (record.kind) {
    case TraceKind::kCpu: return sample(thread, record);
    case TraceKind::kHeap: return heap(thread, record);
    case TraceKind::kRelock: return relock(thread, record);
    default: break;
  }
  act(thread, record);
  switch (record.kind) {
    case TraceKind::kLost: {
      Step lost = step(StepKind::kLost, thread);
      lost.value = record.arguments[0];
      counts_.lost += lost.value;
      return emit(std::move(lost));
    }
    case TraceKind::kStop: return stop(record);
    case TraceKind::kThread: return declare_other(thread, record);
    case TraceKind::kCreate: return create(thread, record);
    case TraceKind::kExit: return exit(thread, moment);
    case TraceKind::kWait: return begin_wait(thread, moment);
    case TraceKind::kRelease: return wake_all(moment, thread);
    case TraceKind::kCall: return begin_call(thread, moment);
    case TraceKind::kYield: return yield(thread, record);
    case TraceKind::kGrow:
    case TraceKind::kTrim: return grow_or_trim(thread, moment);
    case TraceKind::kLabels: {
      Step labels = step(StepKind::kLabels, thread);
      labels.value = record.arguments[0];
      return emit(std::move(labels));
    }
    case TraceKind::kTaskBegin: return begin_task(thread, record);
    case TraceKind::kTaskEnd: return end_task(thread, record);
    case TraceKind::kRegionBegin: return begin_region(thread, record);
    case TraceKind::kRegionEnd: return end_region(thread, record);
    case TraceKind::kLog: return log(thread, record);
    default: return;  // that it runs is all there is to tell
  }
}

void TraceModel::start(const TraceRecord& record) {
  if (is_recording_) {
    // Others were quicker than the thread that says so.
    if (std::exchange(began_by_itself_, false) && record.ns - start_ns_ < kLateNs) return;
    close_session();  // a stop was lost
    emit(step(StepKind::kStop, kNobody));
  }
  began_by_itself_ = false;
  open_session();
}

void TraceModel::stop(const TraceRecord& record) {
  close_session();
  emit(step(StepKind::kStop, kNobody));
  is_recording_ = false;
  was_stopped_ = true;
  stop_ns_ = record.ns;
}

// `arguments`: row, wait kind + 1, age, object.
void TraceModel::declare_other(uint32_t by, const TraceRecord& record) {
  const uint32_t row = row_of(record.arguments[0]);
  const uint32_t thread = find(row);
  if (thread == by) return;
  if (thread == kNobody || threads_[thread].state == State::kGone) {
    appear(row, kNobody, kNoRow, record.arguments[1] != 0 ? &record : nullptr);
    return;
  }
  if (std::exchange(threads_[thread].session, session_) != session_) reconcile(thread, record);
}

// A thread of an earlier session: as it is now.
void TraceModel::reconcile(uint32_t thread, const TraceRecord& record) {
  const bool waits = record.arguments[1] != 0;
  const WaitKind kind = wait_kind(record.arguments[1] - 1);
  const uint64_t object = record.arguments[3];
  const Thread& t = threads_[thread];
  if (t.state == State::kInCall || t.state == State::kRunning) return;
  if (waits && t.state == State::kWaiting && t.wait == kind && t.object == object) return;
  wake(thread, kNobody, kNoRow);
  if (waits) visit(thread, t.core, [&] { block(thread, kind, object, record.stack); });
}

void TraceModel::create(uint32_t by, const TraceRecord& record) {
  const uint32_t row = row_of(record.arguments[0]);
  const uint32_t thread = find(row);
  if (thread == kNobody || threads_[thread].state == State::kGone) appear(row, by, record.stack);
}

// Who waits for its end goes on first.
void TraceModel::exit(uint32_t thread, const Moment& moment) {
  wake_all(moment, thread);
  close(thread);
  leave(thread, StepKind::kExit, State::kGone);
}

void TraceModel::begin_wait(uint32_t thread, const Moment& moment) {
  const TraceRecord& record = moment.record;
  wake_all(moment, thread);
  // The last one to come to a barrier, which wakes the others, does not wait there.
  if (moment.woken.empty() && !moment.is_no_wait)
    block(thread, wait_kind(record.arguments[0]), record.arguments[1], record.stack);
}

void TraceModel::relock(uint32_t thread, const TraceRecord& record) {
  const uint32_t stack = record.stack == kNoRow ? threads_[thread].stack : record.stack;
  visit(thread, core_of(record.core), [&] {
    finish_call(thread);
    block(thread, WaitKind::kCondRelock, record.arguments[0], stack);
  });
}

void TraceModel::begin_call(uint32_t thread, const Moment& moment) {
  Thread& t = threads_[thread];
  t.call = call_name(moment.record.arguments[0]);
  t.stack = moment.record.stack;
  tell_call(thread);
  t.call_is_open = !moment.is_long;
  if (moment.is_long) block_in_call(thread);
}

void TraceModel::tell_call(uint32_t thread) {
  Step call = step(StepKind::kCall, thread, threads_[thread].stack);
  call.call = threads_[thread].call;
  emit(std::move(call));
}

void TraceModel::block_in_call(uint32_t thread) {
  leave(thread, StepKind::kCallBlock, State::kInCall, threads_[thread].stack);
}

void TraceModel::finish_call(uint32_t thread) {
  if (!std::exchange(threads_[thread].call_is_open, false)) return;
  Step end = step(StepKind::kCallEnd, thread);
  end.call = threads_[thread].call;
  emit(std::move(end));
}

// Whether another thread had the core meanwhile is not known, unless that makes a record there.
void TraceModel::yield(uint32_t thread, const TraceRecord& record) {
  const uint64_t times = std::max<uint64_t>(record.arguments[0], 1);
  leave(thread, StepKind::kYield, State::kRunnable, record.stack, times);
  place(thread, threads_[thread].core);
}

void TraceModel::grow_or_trim(uint32_t thread, const Moment& moment) {
  const bool grows = moment.record.kind == TraceKind::kGrow;
  bool& is_open = grows ? threads_[thread].grows : threads_[thread].trims;
  if (is_open == moment.is_begin) return;
  is_open = moment.is_begin;
  const StepKind begin = grows ? StepKind::kGrowBegin : StepKind::kTrimBegin;
  const StepKind end = grows ? StepKind::kGrowEnd : StepKind::kTrimEnd;
  Step step_of = step(is_open ? begin : end, thread, moment.record.stack);
  step_of.value = moment.record.arguments[0];
  emit(std::move(step_of));
}

// A sample in the middle of a wait or call is of its begin or end, in the kernel or in a handler.
void TraceModel::sample(uint32_t thread, const TraceRecord& record) {
  const State state = threads_[thread].state;
  if (state == State::kRunnable || state == State::kRunning) run(thread, core_of(record.core));
  if (is_muted_) return;
  Step cpu = step(StepKind::kCpu, thread, record.stack);
  cpu.core = core_of(record.core);
  if (now_ns_ > threads_[thread].begin_ns)
    emit(std::move(cpu));
  else
    held_samples_.push_back(std::move(cpu));
}

void TraceModel::heap(uint32_t thread, const TraceRecord& record) {
  const State state = threads_[thread].state;
  if (state == State::kRunnable || state == State::kRunning) run(thread, core_of(record.core));
  Step heap_now = step(StepKind::kHeap, thread, record.stack);
  heap_now.value = record.arguments[0];
  heap_now.second = record.arguments[1];
  emit(std::move(heap_now));
}

// No number counts twice, also not as a parent that begins later: readers would go round in
// circles.
void TraceModel::begin_task(uint32_t thread, const TraceRecord& record) {
  const uint64_t task = record.arguments[0];
  const uint64_t parent = record.arguments[1];
  if (task == 0 || !known_tasks_.insert(task)) {
    ++counts_.unfit;
    return;
  }
  if (parent != 0) known_tasks_.insert(parent);
  Step begin = step(StepKind::kTaskBegin, thread, record.stack);
  begin.value = task;
  begin.second = parent == task ? 0 : parent;
  begin.text = text(record.arguments[2]);
  emit(std::move(begin));
}

void TraceModel::end_task(uint32_t thread, const TraceRecord& record) {
  const uint64_t task = record.arguments[0];
  if (task == 0) {
    ++counts_.unfit;
    return;
  }
  known_tasks_.insert(task);
  Step end = step(StepKind::kTaskEnd, thread, record.stack);
  end.value = task;
  emit(std::move(end));
}

void TraceModel::begin_region(uint32_t thread, const TraceRecord& record) {
  Thread& t = threads_[thread];
  if (t.regions.size() >= kMostRegions) {
    ++t.deeper;
    ++counts_.unfit;
    return;
  }
  t.regions.push_back({record.arguments[0], text(record.arguments[1]), record.stack, false});
  tell_region(thread, t.regions.back());
}

void TraceModel::tell_region(uint32_t thread, Region& region) {
  region.is_told = true;
  Step begin = step(StepKind::kRegionBegin, thread, region.stack);
  begin.value = region.task;
  begin.text = region.name;
  emit(std::move(begin));
}

// Those inside of it were lost, or left by an exception; one that is not there began before.
void TraceModel::end_region(uint32_t thread, const TraceRecord& record) {
  Thread& t = threads_[thread];
  if (t.deeper > 0) {
    --t.deeper;
    return;
  }
  const std::string name = text(record.arguments[1]);
  const auto at = std::find_if(t.regions.rbegin(), t.regions.rend(), [&](const Region& region) {
    return region.task == record.arguments[0] && region.name == name;
  });
  if (at == t.regions.rend()) return;
  close_regions(thread, static_cast<size_t>(t.regions.rend() - at) - 1, record.stack);
}

void TraceModel::close_regions(uint32_t thread, size_t remaining, uint32_t stack) {
  std::vector<Region>& regions = threads_[thread].regions;
  for (; regions.size() > remaining; regions.pop_back()) {
    Step end = step(StepKind::kRegionEnd, thread, stack);
    end.value = regions.back().task;
    end.text = regions.back().name;
    emit(std::move(end));
  }
}

void TraceModel::log(uint32_t thread, const TraceRecord& record) {
  Step line = step(StepKind::kLog, thread, record.stack);
  line.value = record.arguments[0];
  if (record.arguments[1] != 0) line.text = text(record.arguments[1] - 1);
  line.message = record.text;
  emit(std::move(line));
}

// Threads and cores

uint32_t TraceModel::find(uint32_t row) const {
  const auto found = by_row_.find(row);
  return found == by_row_.end() ? kNobody : found->second;
}

// `waiting`: a kThread record of a thread that waits.
uint32_t TraceModel::appear(uint32_t row, uint32_t by, uint32_t stack, const TraceRecord* waiting) {
  const auto thread = static_cast<uint32_t>(threads_.size());
  by_row_[row] = thread;
  Thread& t = threads_.emplace_back();
  t.row = row;
  t.session = session_;
  if (waiting != nullptr) {
    t.state = State::kWaiting;
    t.wait = wait_kind(waiting->arguments[1] - 1);
    t.object = waiting->arguments[3];
    t.stack = waiting->stack;
  }
  tell_thread(thread, by, stack);
  return thread;
}

void TraceModel::tell_thread(uint32_t thread, uint32_t by, uint32_t stack) {
  Thread& t = threads_[thread];
  if (is_muted_) return;
  t.number = ++last_number_;
  t.begin_ns = now_ns_;
  Step appears = step(StepKind::kThread, thread, stack);
  appears.other = number(by);
  appears.core = by == kNobody ? 0 : threads_[by].core;
  appears.thread_row = t.row;
  appears.is_waiting = t.state == State::kWaiting;
  if (appears.is_waiting) {
    appears.wait = t.wait;
    appears.object = t.object;
  }
  emit(std::move(appears));
}

// kNobody: it had ended before.
uint32_t TraceModel::thread_of(const Moment& moment) {
  const TraceRecord& record = moment.record;
  const uint32_t known = find(record.thread);
  if (known != kNobody && threads_[known].state != State::kGone) return known;
  if (known != kNobody && record.kind != TraceKind::kBegin) return kNobody;
  if (moment.creator == kNoRow || moment.creator == record.thread)
    return appear(record.thread, kNobody, kNoRow);
  uint32_t creator = find(moment.creator);
  if (creator == kNobody) creator = appear(moment.creator, kNobody, kNoRow);
  if (threads_[creator].state == State::kGone) return appear(record.thread, kNobody, kNoRow);
  run(creator, core_of(moment.creator_core));
  return appear(record.thread, creator, moment.creator_stack);
}

// A record by a thread: it runs there, and is in no call any more.
void TraceModel::act(uint32_t thread, const TraceRecord& record) {
  run(thread, core_of(record.core));
  if (record.kind != TraceKind::kLost) finish_call(thread);
}

void TraceModel::run(uint32_t thread, uint32_t core) {
  Thread& t = threads_[thread];
  if (t.state == State::kRunning) {
    if (t.core == core) return;
    leave(thread, StepKind::kPreempt, State::kRunnable);
  }
  if (t.state == State::kWaiting) wake(thread, kNobody, kNoRow);
  begin_core(thread, core);
  evict(core);
  if (t.state == State::kInCall) {
    Step back = step(StepKind::kCallReturn, thread);
    back.core = core;
    back.call = t.call;
    t.state = State::kRunnable;
    emit(std::move(back));
  }
  place(thread, core);
}

void TraceModel::place(uint32_t thread, uint32_t core) {
  Thread& t = threads_[thread];
  t.state = State::kRunning;
  t.core = core;
  on_core_[core] = thread;
  emit(step(StepKind::kRun, thread));
  if (std::exchange(t.has_untold, false))
    for (Region& region : t.regions)
      if (!region.is_told) tell_region(thread, region);
}

void TraceModel::begin_core(uint32_t thread, uint32_t core) {
  if (core >= on_core_.size()) {
    on_core_.resize(core + 1, kNobody);
    core_began_.resize(core + 1);
  }
  if (is_muted_ || core_began_[core]) return;
  core_began_[core] = true;
  Step begin = step(StepKind::kCoreBegin, thread);
  begin.core = core;
  emit(std::move(begin));
}

void TraceModel::evict(uint32_t core) {
  if (on_core_[core] != kNobody) leave(on_core_[core], StepKind::kPreempt, State::kRunnable);
}

void TraceModel::leave(uint32_t thread, StepKind kind, State to, uint32_t stack, uint64_t value) {
  Thread& t = threads_[thread];
  Step leaves = step(kind, thread, stack);
  leaves.value = value;
  if (kind == StepKind::kBlock) {
    leaves.wait = t.wait;
    leaves.object = t.object;
  }
  if (kind == StepKind::kCallBlock) leaves.call = t.call;
  t.state = to;
  on_core_[t.core] = kNobody;
  emit(std::move(leaves));
}

void TraceModel::block(uint32_t thread, WaitKind kind, uint64_t object, uint32_t stack) {
  Thread& t = threads_[thread];
  t.wait = kind;
  t.object = object;
  t.stack = stack;
  leave(thread, StepKind::kBlock, State::kWaiting, stack);
}

// `by` runs, or is kNobody: the kernel.
void TraceModel::wake(uint32_t thread, uint32_t by, uint32_t stack) {
  Thread& t = threads_[thread];
  if (t.state != State::kWaiting) return;
  t.state = State::kRunnable;
  Step goes_on = step(StepKind::kWake, thread, stack);
  goes_on.other = number(by);
  goes_on.core = by == kNobody ? 0 : threads_[by].core;
  emit(std::move(goes_on));
}

void TraceModel::wake_all(const Moment& moment, uint32_t by) {
  for (const uint32_t row : moment.woken)
    if (const uint32_t thread = find(row); thread != kNobody && thread != by)
      wake(thread, by, moment.record.stack);
}

// It is on the core for no time at all; who was there goes on.
template <class Action>
void TraceModel::visit(uint32_t thread, uint32_t core, const Action& action) {
  if (threads_[thread].state == State::kRunning) return action();
  const uint32_t displaced = core < on_core_.size() ? on_core_[core] : kNobody;
  run(thread, core);
  action();
  if (displaced != kNobody && on_core_[core] == kNobody) place(displaced, core);
}

// Sessions

void TraceModel::open_session() {
  is_recording_ = true;
  start_ns_ = now_ns_;
  ++session_;
  emit(step(StepKind::kStart, kNobody));
  if (session_ > 1) end_the_ended();
}

// No record tells of those that ended meanwhile.
void TraceModel::end_the_ended() {
  for (uint32_t thread = 0; thread < threads_.size(); ++thread) {
    Thread& t = threads_[thread];
    if (t.state == State::kGone || options_.end_ns(t.row) > now_ns_) continue;
    visit(thread, t.core, [&] { leave(thread, StepKind::kExit, State::kGone); });
  }
}

void TraceModel::close_session() {
  const auto close_and_yield = [this](uint32_t thread) {
    close(thread);
    leave(thread, StepKind::kYield, State::kRunnable);
  };
  for (const uint32_t thread : std::vector<uint32_t>(on_core_))
    if (thread != kNobody) close_and_yield(thread);
  for (uint32_t thread = 0; thread < threads_.size(); ++thread) {
    if (std::exchange(threads_[thread].has_untold, false)) threads_[thread].regions.clear();
    if (!has_open(threads_[thread])) continue;
    run(thread, threads_[thread].core);
    close_and_yield(thread);
  }
}

bool TraceModel::has_open(const Thread& thread) {
  return thread.call_is_open || thread.grows || thread.trims || !thread.regions.empty();
}

void TraceModel::close(uint32_t thread) {
  Thread& t = threads_[thread];
  finish_call(thread);
  if (std::exchange(t.grows, false)) emit(step(StepKind::kGrowEnd, thread));
  if (std::exchange(t.trims, false)) emit(step(StepKind::kTrimEnd, thread));
  close_regions(thread, 0, kNoRow);
  t.deeper = 0;
}

// Of a thread that does not run, its regions are told of when it does; what else is open is left
// out, with its end.
void TraceModel::begin_window() {
  advance(options_.from_ns);
  is_muted_ = false;
  if (is_recording_) emit(step(StepKind::kStart, kNobody));
  tell_all_threads();
  for (uint32_t thread = 0; thread < threads_.size(); ++thread)
    if (threads_[thread].state == State::kInCall) {
      tell_run(thread);
      tell_call(thread);
      Step blocks = step(StepKind::kCallBlock, thread, threads_[thread].stack);
      blocks.call = threads_[thread].call;
      emit(std::move(blocks));
    }
  for (const uint32_t thread : on_core_)
    if (thread != kNobody) {
      tell_run(thread);
      tell_open(thread);
    }
}

void TraceModel::tell_all_threads() {
  for (uint32_t thread = 0; thread < threads_.size(); ++thread) {
    Thread& t = threads_[thread];
    if (t.state == State::kGone) continue;
    if (t.state == State::kInCall && !is_recording_) t.state = State::kRunnable;
    tell_thread(thread, kNobody, kNoRow);
    if (t.state == State::kRunning) continue;
    t.call_is_open = t.grows = t.trims = false;
    for (Region& region : t.regions) region.is_told = false;
    t.has_untold = !t.regions.empty();
  }
}

void TraceModel::tell_run(uint32_t thread) {
  begin_core(thread, threads_[thread].core);
  emit(step(StepKind::kRun, thread));
}

void TraceModel::tell_open(uint32_t thread) {
  Thread& t = threads_[thread];
  for (Region& region : t.regions) tell_region(thread, region);
  if (t.call_is_open) tell_call(thread);
  if (t.grows) emit(step(StepKind::kGrowBegin, thread));
  if (t.trims) emit(step(StepKind::kTrimBegin, thread));
}

// Steps

Step TraceModel::step(StepKind kind, uint32_t thread, uint32_t stack) const {
  Step result;
  result.kind = kind;
  result.ns = now_ns_;
  result.thread = number(thread);
  result.core = thread == kNobody ? 0 : threads_[thread].core;
  result.stack = stack;
  return result;
}

uint32_t TraceModel::number(uint32_t thread) const {
  return thread == kNobody ? 0 : threads_[thread].number;
}

void TraceModel::emit(Step&& step) {
  if (is_muted_) return;
  if (counts_.steps++ == 0) counts_.first_ns = step.ns;
  counts_.last_ns = step.ns;
  sink_.take(step);
}

// A sample must be later than the begin of its thread: equal times have no order in every form.
void TraceModel::advance(uint64_t ns) {
  if (ns <= now_ns_) return;
  for (Step& sample : std::exchange(held_samples_, {})) {
    sample.ns = now_ns_ + 1;
    emit(std::move(sample));
  }
  now_ns_ = ns;
}

std::string TraceModel::text(uint64_t row) { return options_.text(row); }

ModelCounts tell_trace(TraceSource& records, StepSink& sink, ModelOptions options) {
  MomentSource moments(records);
  TraceModel model(sink, std::move(options));
  for (Moment moment; !model.is_over() && moments.next(moment);) model.take(moment);
  model.finish();
  return model.counts();
}

}  // namespace mprof::dumper
