// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/wakes.h"

#include <algorithm>
#include <utility>

namespace mprof::dumper {
namespace {

using format::TraceKind;
using format::WaitEnd;
using format::WaitKind;

// A reader may take times for signed numbers.
constexpr uint64_t kMostNs = uint64_t{1} << 62;
// Ticks become nanoseconds with a rounding of their own on each side.
constexpr uint64_t kRoundingNs = 1000;

bool is_for_the_kernel(WaitKind kind) {
  return kind == WaitKind::kSleep || kind == WaitKind::kPoll || kind == WaitKind::kSignal;
}

bool is_end(const TraceRecord& record, WaitEnd end) {
  return record.arguments[0] == static_cast<uint64_t>(end);
}

// What a thread may say about others, or from a handler in the middle of a wait or a call.
bool is_aside(TraceKind kind) {
  switch (kind) {
    case TraceKind::kLost:
    case TraceKind::kStart:
    case TraceKind::kStop:
    case TraceKind::kThread:
    case TraceKind::kHeap:
    case TraceKind::kCpu: return true;
    default: return false;
  }
}

}  // namespace

WaitKind wait_kind(uint64_t number) {
  return number < static_cast<uint64_t>(WaitKind::kCount) ? static_cast<WaitKind>(number)
                                                          : WaitKind::kFutex;
}

bool MomentSource::next(Moment& moment) {
  fill();
  if (window_.empty()) return false;
  give_away(moment);
  return true;
}

void MomentSource::fill() {
  while (!at_end_ && (window_.empty() || (now_ns_ - window_.front()->moment.record.ns < kWindowNs &&
                                          window_.size() < kMostHeld))) {
    incoming_ = {};
    if (!records_.next(incoming_))
      at_end_ = true;
    else
      take(incoming_);
  }
}

void MomentSource::give_away(Moment& moment) {
  std::unique_ptr<Held> held = std::move(window_.front());
  window_.pop_front();
  forget(held.get());
  given_ns_ = held->moment.record.ns;
  std::swap(moment, held->moment);
  held->order = 0;
  spare_.push_back(std::move(held));
}

void MomentSource::forget(Held* held) {
  const TraceRecord& record = held->moment.record;
  if (const auto found = threads_.find(record.thread); found != threads_.end()) {
    if (found->second.first == held) found->second.first = nullptr;
    if (found->second.call == held) end_call(found->second, now_ns_);
    if (found->second.wait.begin == held) found->second.wait.begin = nullptr;
  }
  const auto forget_release = [&](uint64_t key) {
    const auto found = releases_.find(key);
    if (found != releases_.end() && found->second == held) releases_.erase(found);
  };
  if (record.kind == TraceKind::kRelease) forget_release(key_of(record.arguments[1], Class::kLock));
  if (record.kind == TraceKind::kExit) forget_release(key_of(record.arguments[0], Class::kExit));
  if (record.kind != TraceKind::kWait || wait_kind(record.arguments[0]) != WaitKind::kBarrier)
    return;
  const auto found = barriers_.find(record.arguments[1]);
  if (found == barriers_.end()) return;
  if (found->second.completer == held) found->second.completer = nullptr;
  if (found->second.last == held) barriers_.erase(found);
}

std::unique_ptr<MomentSource::Held> MomentSource::make(uint64_t ns) {
  std::unique_ptr<Held> held;
  if (spare_.empty()) {
    held = std::make_unique<Held>();
  } else {
    held = std::move(spare_.back());
    spare_.pop_back();
  }
  Moment& moment = held->moment;
  moment.is_begin = moment.is_long = moment.is_no_wait = false;
  moment.woken.clear();
  moment.creator = moment.creator_stack = format::kNoRow;
  moment.creator_core = 0;
  moment.record.ns = ns;
  held->order = ++order_;
  held->release_before = nullptr;
  return held;
}

MomentSource::Held* MomentSource::append(TraceRecord&& record) {
  auto held = make(record.ns);
  std::swap(held->moment.record, record);
  window_.push_back(std::move(held));
  return window_.back().get();
}

MomentSource::Held* MomentSource::insert(const TraceRecord& record, uint64_t ns) {
  auto held = make(ns);
  held->moment.record = record;
  held->moment.record.ns = ns = std::max(ns, given_ns_);
  auto at = window_.end();
  while (at != window_.begin() && (*(at - 1))->moment.record.ns > ns) --at;
  return window_.insert(at, std::move(held))->get();
}

void MomentSource::take(TraceRecord& record) {
  now_ns_ = record.ns = std::clamp(record.ns, now_ns_, kMostNs);
  const auto [found, is_new] = threads_.try_emplace(record.thread);
  Thread& thread = found->second;
  if (!is_aside(record.kind)) end_call(thread, record.ns);
  Held* first = nullptr;
  if (record.kind == TraceKind::kRelock) {
    first = relock(thread, record);
  } else {
    first = date_back(thread, record);
    Held* const held = append(std::move(record));
    if (first == nullptr) first = held;
    note(thread, held);
  }
  if (is_new) thread.first = first;
  thread.ns = now_ns_;
}

void MomentSource::note(Thread& thread, Held* held) {
  const TraceRecord& record = held->moment.record;
  const uint64_t object = record.arguments[1];
  switch (record.kind) {
    case TraceKind::kWait:
      begin_wait(thread, wait_kind(record.arguments[0]), object, *held);
      thread.wait.begin = held;
      break;
    case TraceKind::kWaitEnd: end_wait(thread, *held); break;
    case TraceKind::kRelease: release(key_of(object, Class::kLock), held); break;
    case TraceKind::kExit: release(key_of(record.arguments[0], Class::kExit), held); break;
    case TraceKind::kCall: thread.call = held; break;
    case TraceKind::kStart: session_ns_ = record.ns; break;
    case TraceKind::kThread: declare(*held); break;
    case TraceKind::kCreate: create(*held); break;
    case TraceKind::kLost:
      end_call(thread, record.ns);
      thread.wait = {};
      break;
    default:
      if (!is_aside(record.kind)) thread.wait = {};
      return;
  }
  if (record.kind == TraceKind::kWait && thread.wait.kind == WaitKind::kBarrier)
    barriers_[object].last = held;
}

void MomentSource::begin_wait(Thread& thread, WaitKind kind, uint64_t object, const Held& held) {
  thread.wait = {true, kind, object, held.moment.record.ns, held.order, nullptr};
}

void MomentSource::end_wait(Thread& thread, const Held& held) {
  const TraceRecord& record = held.moment.record;
  const Wait wait = std::exchange(thread.wait, {});
  if (is_end(record, WaitEnd::kAtOnce) && wait.begin != nullptr)
    wait.begin->moment.is_no_wait = true;
  if (!wait.is_open || is_for_the_kernel(wait.kind) || !is_end(record, WaitEnd::kGotIt)) return;
  Held* by = nullptr;
  if (wait.kind == WaitKind::kBarrier)
    by = completer(record.thread, wait);
  else
    by = waker(record.thread, wait,
               key_of(wait.object, wait.kind == WaitKind::kJoin ? Class::kExit : Class::kLock),
               record.ns);
  if (by != nullptr) by->moment.woken.push_back(record.thread);
}

MomentSource::Held* MomentSource::waker(uint32_t thread, const Wait& wait, uint64_t key,
                                        uint64_t until_ns) {
  constexpr int kFarEnough = 64;
  const auto found = releases_.find(key);
  Held* held = found == releases_.end() ? nullptr : found->second;
  for (int i = 0; held != nullptr && i < kFarEnough; ++i) {
    const uint64_t ns = held->moment.record.ns;
    if (ns < wait.ns || (ns == wait.ns && held->order < wait.order)) return nullptr;
    if (ns <= until_ns && held->moment.record.thread != thread) return held;
    Held* const before = held->release_before;
    held = before != nullptr && before->order == held->order_before ? before : nullptr;
  }
  return nullptr;
}

// All that wait go on once the last one has come. The first end of a wait shows that it had.
MomentSource::Held* MomentSource::completer(uint32_t thread, const Wait& wait) {
  const auto found = barriers_.find(wait.object);
  if (found == barriers_.end()) return nullptr;
  Barrier& barrier = found->second;
  if (barrier.completer_order < wait.order) {
    if (barrier.last->order < wait.order) return nullptr;
    barrier.completer = barrier.last;
    barrier.completer_order = barrier.last->order;
  }
  Held* const by = barrier.completer;
  return by != nullptr && by->moment.record.thread != thread ? by : nullptr;
}

MomentSource::Held* MomentSource::relock(Thread& thread, const TraceRecord& record) {
  const uint64_t age = std::min(record.arguments[1], record.ns);
  uint64_t ns = std::max(record.ns - age, thread.ns);
  const Wait wait = std::exchange(thread.wait, {});
  if (wait.is_open && wait.kind == WaitKind::kCond)
    if (Held* by =
            waker(record.thread, wait, key_of(wait.object, Class::kLock), ns + kRoundingNs)) {
      by->moment.woken.push_back(record.thread);
      ns = std::max(ns, by->moment.record.ns);
    }
  ns = std::min(ns, record.ns);
  Held* const held = insert(record, ns);
  // Releases of the mutex that came in meanwhile count, though their order is lower.
  thread.wait = {
      true,   WaitKind::kCondRelock, record.arguments[0], held->moment.record.ns, UINT64_MAX,
      nullptr};
  return held;
}

// `arguments`: row, wait kind + 1, age, object.
void MomentSource::declare(const Held& held) {
  const TraceRecord& record = held.moment.record;
  const auto row = static_cast<uint32_t>(record.arguments[0]);
  if (row == record.thread) return;
  const auto [found, is_new] = threads_.try_emplace(row);
  if (found->second.first != nullptr || found->second.ns > session_ns_) return;  // it knows better
  found->second.wait = {};
  if (record.arguments[1] != 0)
    begin_wait(found->second, wait_kind(record.arguments[1] - 1), record.arguments[3], held);
}

void MomentSource::create(const Held& held) {
  const TraceRecord& record = held.moment.record;
  const auto [found, is_new] = threads_.try_emplace(static_cast<uint32_t>(record.arguments[0]));
  Held* const first = is_new ? nullptr : found->second.first;
  if (first == nullptr || found->first == record.thread) return;
  first->moment.creator = record.thread;
  first->moment.creator_core = record.core;
  first->moment.creator_stack = record.stack;
}

void MomentSource::end_call(Thread& thread, uint64_t ns) {
  if (thread.call == nullptr) return;
  thread.call->moment.is_long = ns - thread.call->moment.record.ns >= kLongCallNs;
  thread.call = nullptr;
}

MomentSource::Held* MomentSource::date_back(const Thread& thread, const TraceRecord& record) {
  if (record.kind != TraceKind::kGrow && record.kind != TraceKind::kTrim) return nullptr;
  const uint64_t age = std::min(record.arguments[1], record.ns);
  Held* const held = insert(record, std::max(record.ns - age, thread.ns));
  held->moment.is_begin = true;
  return held;
}

void MomentSource::release(uint64_t key, Held* held) {
  Held*& newest = releases_[key];
  held->release_before = newest;
  held->order_before = newest == nullptr ? 0 : newest->order;
  newest = held;
}

}  // namespace mprof::dumper
