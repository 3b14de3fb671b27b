// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/go_trace.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/trace_record.h"

namespace mprof::dumper {
namespace {

using format::kNoRow;
using format::WaitKind;

// Numbers of Go's events.
enum Type : uint8_t {
  kBatch = 1,
  kFrequency = 2,
  kStack = 3,
  kGomaxprocs = 4,
  kProcStart = 5,
  kProcStop = 6,
  kGCStart = 7,
  kGCDone = 8,
  kSweepStart = 11,
  kSweepDone = 12,
  kGoCreate = 13,
  kGoStart = 14,
  kGoEnd = 15,
  kGoSched = 17,
  kGoPreempt = 18,
  kGoSleep = 19,
  kGoBlock = 20,
  kGoUnblock = 21,
  kGoBlockSync = 25,
  kGoBlockCond = 26,
  kGoBlockNet = 27,
  kGoSysCall = 28,
  kGoSysExit = 29,
  kGoSysBlock = 30,
  kGoWaiting = 31,
  kHeapAlloc = 33,
  kHeapGoal = 34,
  kString = 37,
  kGoStartLabel = 41,
  kMarkAssistStart = 43,
  kMarkAssistDone = 44,
  kUserTaskCreate = 45,
  kUserTaskEnd = 46,
  kUserRegion = 47,
  kUserLog = 48,
  kCpuSample = 49,
};

constexpr std::string_view kHeader("go 1.19 trace\0\0\0", 16);
constexpr uint64_t kTicksPerSecond = 1'000'000'000;
constexpr uint64_t kFirstTicks = 2;
constexpr uint64_t kNoProc = UINT64_MAX;
constexpr size_t kMostMessageBytes = size_t{1} << 16;
constexpr size_t kPaddedBytes = 5;

void put_number(std::string& out, uint64_t value) {
  uint8_t bytes[format::kMostVarintBytes];
  const uint8_t* const end = format::put_varint(bytes, value);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes));
}

// Always kPaddedBytes long, so that it can be put in place of another one.
std::string padded_number(uint32_t value) {
  std::string out;
  for (size_t i = 0; i < kPaddedBytes; ++i) {
    const bool more = i + 1 < kPaddedBytes;
    out += static_cast<char>((value & 0x7f) | (more ? 0x80 : 0));
    value >>= 7;
  }
  return out;
}

// Up to three values stand by themselves; more have their length in bytes before them.
void put_record(std::string& out, uint8_t type, std::string_view values, size_t count) {
  const size_t flags = std::min<size_t>(count, 4) - 1;
  out += static_cast<char>(type | flags << 6);
  if (count > 3) put_number(out, values.size());
  out.append(values);
}

uint8_t type_of(WaitKind wait) {
  switch (wait) {
    case WaitKind::kMutex:
    case WaitKind::kRwlockRead:
    case WaitKind::kRwlockWrite:
    case WaitKind::kSpin:
    case WaitKind::kCondRelock: return kGoBlockSync;
    case WaitKind::kCond:
    case WaitKind::kSemaphore:
    case WaitKind::kBarrier:
    case WaitKind::kJoin:
    case WaitKind::kFutex: return kGoBlockCond;
    case WaitKind::kSleep: return kGoSleep;
    case WaitKind::kPoll: return kGoBlockNet;
    default: return kGoBlock;
  }
}

const format::CallInfo& info_of(format::CallName call) {
  return format::kCallInfos[static_cast<size_t>(call)];
}

}  // namespace

GoTraceSink::GoTraceSink(TraceFile& file, TraceNames& names)
    : file_(file), names_(names), procs_(1), threads_(1) {
  threads_[0].title = "the kernel";
}

void GoTraceSink::take(const Step& step) {
  if (!has_begun_) begin(step.ns + kFirstTicks);
  ticks_ = step.ns + kFirstTicks;
  const uint32_t proc = step.thread < threads_.size() ? threads_[step.thread].proc : 0;
  switch (step.kind) {
    case StepKind::kThread: return make_thread(step);
    case StepKind::kCoreBegin: return begin_core(step);
    case StepKind::kRun: return run(step);
    case StepKind::kPreempt: return leave(step, kGoPreempt, {stack(step.stack)});
    case StepKind::kYield: return leave(step, kGoSched, {stack(step.stack)});
    case StepKind::kBlock: return leave(step, type_of(step.wait), {stack_or_start(step)});
    case StepKind::kWake: return wake(step);
    case StepKind::kCall: return put(proc, kGoSysCall, {stack_of_call(step)});
    case StepKind::kCallBlock: return block_in_call(step);
    case StepKind::kCallReturn: return return_from_call(step);
    case StepKind::kCallEnd: return;  // a short call is a moment
    case StepKind::kExit: return leave(step, kGoEnd, {});
    case StepKind::kHeap: return show_heap(step);
    case StepKind::kGrowBegin: return put(proc, kMarkAssistStart, {stack_or_start(step)});
    case StepKind::kGrowEnd: return put(proc, kMarkAssistDone, {});
    case StepKind::kTrimBegin: return begin_trim(step);
    case StepKind::kTrimEnd: return end_trim(step);
    case StepKind::kCpu: return sample(step);
    case StepKind::kLabels: return label(step);
    case StepKind::kTaskBegin:
      return put(proc, kUserTaskCreate,
                 {step.value, step.second, string(step.text), stack_or_start(step)});
    case StepKind::kTaskEnd: return put(proc, kUserTaskEnd, {step.value, stack_or_start(step)});
    case StepKind::kRegionBegin: return region(step, 0);
    case StepKind::kRegionEnd: return region(step, 1);
    case StepKind::kLog:
      return put_log(proc, step.value, step.text, stack_or_start(step), step.message);
    case StepKind::kLost: return show_loss(step);
    case StepKind::kStart: return put_log(0, 0, "trace", 0, "recording begins");
    case StepKind::kStop: return put_log(0, 0, "trace", 0, "recording ends");
  }
}

// What is open would kill the viewer, whoever wrote the steps.
void GoTraceSink::finish() {
  if (!has_begun_) begin(kFirstTicks);
  for (uint32_t number = 1; number < procs_.size(); ++number) {
    end_sweep(procs_[number], number, 0);
    put(number, kProcStop, {});
  }
  if (open_trims_ > 0) put(0, kGCDone, {});
  for (Proc& proc : procs_) flush(proc);
  std::string tables;
  std::string values;
  put_number(values, 0);
  put_number(values, ticks_);
  put_record(tables, kBatch, values, 2);
  values.clear();
  put_number(values, kTicksPerSecond);
  put_record(tables, kFrequency, values, 1);
  file_.append(tables);
  for (size_t i = 0; i < strings_in_order_.size(); ++i) {
    std::string text(1, static_cast<char>(kString));
    put_number(text, i + 1);
    put_number(text, strings_in_order_[i]->size());
    file_.append(text + *strings_in_order_[i]);
  }
  for (size_t i = 0; i < stacks_in_order_.size(); ++i) {
    values.clear();
    put_number(values, i + 1);
    values += *stacks_in_order_[i];
    std::string record;
    put_record(record, kStack, values, 4);
    file_.append(record);
  }
  file_.patch(proc_count_at_, padded_number(static_cast<uint32_t>(procs_.size())));
}

// How many Ps there are is known at the end.
void GoTraceSink::begin(uint64_t ticks) {
  has_begun_ = true;
  ticks_ = ticks;
  std::string head(kHeader);
  std::string values;
  put_number(values, 0);
  put_number(values, ticks - 1);
  put_record(head, kBatch, values, 2);
  head += static_cast<char>(kGomaxprocs | 2 << 6);
  put_number(head, 0);
  proc_count_at_ = file_.size_bytes() + head.size();
  head += padded_number(1);
  put_number(head, 0);
  file_.append(head);
}

// `values` without the time.
void GoTraceSink::put(uint32_t number, uint8_t type, Values values, std::string_view tail) {
  constexpr size_t kMostHeadBytes = 64;
  Proc& proc = procs_[number];
  if (proc.batch.size() + kMostHeadBytes + tail.size() > kMostBatchBytes) flush(proc);
  std::string numbers;
  if (proc.batch.empty()) {
    put_number(numbers, number);
    put_number(numbers, ticks_);
    put_record(proc.batch, kBatch, numbers, 2);
    proc.ticks = ticks_;
    numbers.clear();
  }
  put_number(numbers, ticks_ - proc.ticks);
  proc.ticks = ticks_;
  for (const uint64_t value : values) put_number(numbers, value);
  put_record(proc.batch, type, numbers, values.size() + 1);
  proc.batch.append(tail);
}

void GoTraceSink::put_log(uint32_t proc, uint64_t task, std::string_view key, uint64_t stack,
                          std::string_view message) {
  message = message.substr(0, kMostMessageBytes - 256);
  std::string tail;
  put_number(tail, message.size());
  tail.append(message);
  put(proc, kUserLog, {task, string(key), stack}, tail);
}

void GoTraceSink::flush(Proc& proc) {
  file_.append(proc.batch);
  proc.batch.clear();
}

void GoTraceSink::make_thread(const Step& step) {
  threads_.resize(std::max<size_t>(threads_.size(), step.thread + 1));
  Thread& made = threads_[step.thread];
  std::vector<TraceFrame> start = names_.start_of(step.thread_row);
  const std::string name = names_.thread_name(step.thread_row);
  made.tid = names_.tid(step.thread_row);
  start.front().function = name == kUnnamedThread || name == start.front().function
                               ? fmt::format("{} [{}]", start.front().function, made.tid)
                               : fmt::format("{} [{} {}]", start.front().function, name, made.tid);
  made.title = start.front().function;
  made.start_stack = intern(start);
  const bool by_kernel = step.other == 0;
  const uint32_t proc = by_kernel ? 0 : thread(step.other).proc;
  uint64_t creator = by_kernel ? 0 : stack(step.stack);
  // Without one the pages of tasks and regions die.
  if (!by_kernel && creator == 0) creator = thread(step.other).start_stack;
  put(proc, kGoCreate, {step.thread, made.start_stack, creator});
  made.sequence = 1;
  if (!step.is_waiting) return;
  put(0, kGoWaiting, {step.thread});
  made.sequence = 2;
}

void GoTraceSink::begin_core(const Step& step) {
  if (step.core >= proc_of_core_.size()) proc_of_core_.resize(step.core + 1);
  const auto number = static_cast<uint32_t>(procs_.size());
  proc_of_core_[step.core] = number;
  procs_.emplace_back();
  put(number, kProcStart, {thread(step.thread).tid});
  put_log(0, 0, "core", 0, fmt::format("Proc {} is core {}", number, step.core));
}

void GoTraceSink::run(const Step& step) {
  Thread& runs = thread(step.thread);
  runs.runs = true;
  runs.proc = proc_of(step.core);
  if (runs.label == 0)
    put(runs.proc, kGoStart, {step.thread, runs.sequence++});
  else
    put(runs.proc, kGoStartLabel, {step.thread, runs.sequence++, runs.label});
}

void GoTraceSink::leave(const Step& step, uint8_t type, Values values) {
  Thread& leaves = thread(step.thread);
  end_sweep(procs_[leaves.proc], leaves.proc, 0);
  put(leaves.proc, type, values);
  leaves.runs = false;
}

void GoTraceSink::wake(const Step& step) {
  const bool by_kernel = step.other == 0;
  put(by_kernel ? 0 : thread(step.other).proc, kGoUnblock,
      {step.thread, thread(step.thread).sequence++, by_kernel ? 0 : stack(step.stack)});
}

void GoTraceSink::block_in_call(const Step& step) {
  if (info_of(step.call).is_network) return leave(step, kGoBlockNet, {stack_of_call(step)});
  leave(step, kGoSysBlock, {});
}

void GoTraceSink::return_from_call(const Step& step) {
  const uint64_t sequence = thread(step.thread).sequence++;
  if (info_of(step.call).is_network) return put(0, kGoUnblock, {step.thread, sequence, 0});
  put(proc_of(step.core), kGoSysExit, {step.thread, sequence, ticks_});
}

void GoTraceSink::show_heap(const Step& step) {
  const Thread& of = thread(step.thread);
  const uint32_t proc = of.runs ? of.proc : 0;
  put(proc, kHeapAlloc, {step.value});
  if (step.second != mapped_bytes_) put(proc, kHeapGoal, {mapped_bytes_ = step.second});
}

// Collections are one at a time in all, and sweeps on each P.
void GoTraceSink::begin_trim(const Step& step) {
  const uint64_t at = stack_or_start(step);
  if (open_trims_++ == 0) put(0, kGCStart, {trims_++, at});
  Proc& proc = procs_[thread(step.thread).proc];
  proc.sweeps = step.thread;
  put(thread(step.thread).proc, kSweepStart, {at});
}

void GoTraceSink::end_trim(const Step& step) {
  const uint32_t number = thread(step.thread).proc;
  if (procs_[number].sweeps == step.thread) end_sweep(procs_[number], number, step.value);
  if (open_trims_ > 0 && --open_trims_ == 0) put(0, kGCDone, {});
}

void GoTraceSink::end_sweep(Proc& proc, uint32_t number, uint64_t bytes) {
  if (proc.sweeps == 0) return;
  proc.sweeps = 0;
  put(number, kSweepDone, {bytes, bytes});
}

// A title is that of a stretch of running, so another stretch begins.
void GoTraceSink::label(const Step& step) {
  Thread& labelled = thread(step.thread);
  const uint64_t before = labelled.label;
  const std::string labels =
      step.value == 0 ? "" : names_.labels(static_cast<uint32_t>(step.value - 1));
  labelled.label =
      labels.empty() ? 0 : string(fmt::format("G{} {}: {}", step.thread, labelled.title, labels));
  if (labelled.label == before) return;
  Step again = step;
  leave(again, kGoPreempt, {0});
  run(again);
}

void GoTraceSink::region(const Step& step, uint64_t mode) {
  put(thread(step.thread).proc, kUserRegion,
      {step.value, mode, string(step.text), stack_or_start(step)});
}

void GoTraceSink::sample(const Step& step) {
  const uint64_t proc = step.core < proc_of_core_.size() && proc_of_core_[step.core] != 0
                            ? proc_of_core_[step.core]
                            : kNoProc;
  put(0, kCpuSample, {ticks_, proc, step.thread, stack(step.stack)});
}

void GoTraceSink::show_loss(const Step& step) {
  const std::string count = step.value == 0 ? "nobody knows how many" : std::to_string(step.value);
  put_log(0, 0, "lost", 0,
          fmt::format("{} records of G{} {}", count, step.thread, thread(step.thread).title));
}

GoTraceSink::Thread& GoTraceSink::thread(uint32_t number) { return threads_.at(number); }

uint32_t GoTraceSink::proc_of(uint32_t core) const { return proc_of_core_.at(core); }

uint64_t GoTraceSink::string(std::string_view text) {
  if (text.empty()) return 0;
  text = text.substr(0, kMostMessageBytes);
  const auto [found, is_new] = strings_.try_emplace(std::string(text), strings_.size() + 1);
  if (is_new) strings_in_order_.push_back(&found->first);
  return found->second;
}

uint64_t GoTraceSink::stack_or_start(const Step& step) {
  const uint64_t known = stack(step.stack);
  return known != 0 ? known : thread(step.thread).start_stack;
}

uint64_t GoTraceSink::stack(uint32_t row) {
  if (row == kNoRow) return 0;
  const auto [found, is_new] = stack_of_row_.try_emplace(uint64_t{row} << 32);
  if (is_new) found->second = intern(names_.stack(row));
  return found->second;
}

// With a leaf that the stack does not have: the call.
uint64_t GoTraceSink::stack_of_call(const Step& step) {
  const uint64_t key = uint64_t{step.stack} << 32 | (static_cast<uint64_t>(step.call) + 1);
  const auto [found, is_new] = stack_of_row_.try_emplace(key);
  if (!is_new) return found->second;
  const std::vector<TraceFrame>& frames = names_.stack(step.stack);
  std::vector<TraceFrame> with_leaf = {names_.frame(info_of(step.call).name)};
  with_leaf.insert(with_leaf.end(), frames.begin(), frames.end());
  return found->second = intern(with_leaf);
}

uint64_t GoTraceSink::intern(const std::vector<TraceFrame>& frames) {
  constexpr size_t kHeadBytes = 16;
  if (frames.empty()) return 0;
  std::string body;
  size_t count = 0;
  for (const TraceFrame& frame : frames) {
    std::string one;
    put_number(one, frame.pc);
    put_number(one, string(frame.function));
    put_number(one, string(frame.file));
    put_number(one, frame.line);
    if (body.size() + one.size() + kHeadBytes > kMostRecordBytes) break;
    body += one;
    ++count;
  }
  std::string bytes;
  put_number(bytes, count);
  bytes += body;
  const auto [found, is_new] = stacks_.try_emplace(std::move(bytes), stacks_.size() + 1);
  if (is_new) stacks_in_order_.push_back(&found->first);
  return found->second;
}

}  // namespace mprof::dumper
