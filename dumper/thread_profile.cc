// SPDX-License-Identifier: Apache-2.0
#include "dumper/thread_profile.h"

#include <fmt/format.h>
#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "dumper/ask_threads.h"
#include "dumper/outside_stack.h"
#include "dumper/proc_threads.h"
#include "dumper/profile_comments.h"
#include "dumper/signal_thread.h"

namespace mprof::dumper {
namespace {

using format::kNoRow;
using format::WaitKind;

constexpr const char* kWaitStates[] = {"mutex lock",
                                       "rwlock read lock",
                                       "rwlock write lock",
                                       "spin lock",
                                       "cond wait",
                                       "cond wait, locking again",
                                       "semaphore",
                                       "barrier",
                                       "join",
                                       "futex",
                                       "sleep",
                                       "poll",
                                       "signal wait"};
static_assert(std::size(kWaitStates) == static_cast<size_t>(WaitKind::kCount));

const char* run_text(char letter) {
  switch (letter) {
    case 'R': return "running";
    case 'S': return "sleeping";
    case 'D': return "disk sleep";
    case 'T': return "stopped";
    case 't': return "traced";
    case 'X':
    case 'Z': return "ended";
    case 'I': return "idle";
    default: return "unknown";
  }
}

uint64_t monotonic_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// One consistent state of what a row shows of a wait, see format/thread_table.h.
struct ShownWait {
  WaitKind kind{};
  uint32_t stack = kNoRow;
  uint64_t object = 0;
  uint64_t start_ticks = 0;
};

std::optional<ShownWait> shown_wait(const format::ThreadRow& row) {
  for (int tries = 0; tries < 100; ++tries) {
    const uint32_t kind = row.wait_kind.load(std::memory_order_acquire);
    if (kind == 0 || kind > static_cast<uint32_t>(WaitKind::kCount)) return std::nullopt;
    const ShownWait wait = {static_cast<WaitKind>(kind - 1),
                            row.wait_stack.load(std::memory_order_relaxed),
                            row.wait_object.load(std::memory_order_relaxed),
                            row.wait_start_ticks.load(std::memory_order_relaxed)};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (row.wait_kind.load(std::memory_order_relaxed) == kind &&
        row.wait_start_ticks.load(std::memory_order_relaxed) == wait.start_ticks)
      return wait;
  }
  return std::nullopt;
}

bool is_parked(const format::ThreadRow& row) {
  return row.parked.load(std::memory_order_acquire) % 2 == 1;
}

// Who holds a lock, by what glibc keeps in it; part of its ABI.
uint32_t holder_of(uint32_t pid, WaitKind kind, uint64_t object) {
  uint64_t offset = 0;
  switch (kind) {
    case WaitKind::kMutex:
    case WaitKind::kCondRelock: offset = offsetof(pthread_mutex_t, __data.__owner); break;
    case WaitKind::kRwlockRead:
    case WaitKind::kRwlockWrite: offset = offsetof(pthread_rwlock_t, __data.__cur_writer); break;
    default: return 0;
  }
  uint32_t tid = 0;
  return read_memory(pid, object + offset, &tid, sizeof tid) == sizeof tid ? tid : 0;
}

uint32_t module_row_at(const Dump& dump, uint64_t address) {
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kModules));
  for (uint32_t row = rows; row-- > 0;)
    if (const auto module = dump.module(row);
        module && module->unloaded_ticks == 0 && address >= module->start && address < module->end)
      return row;
  return kNoRow;
}

class Collector {
 public:
  Collector(Dump& dump, const ThreadOptions& options, ThreadsReading& out)
      : dump_(dump), options_(options), out_(out), pid_(dump.header().pid) {}

  void of_running() {
    out_.running = true;
    out_.rendezvous = options_.rendezvous;
    find_rows();
    for (const ProcThread& thread : threads_of_process(pid_)) subjects_.push_back(begin(thread));
    // A thread may come to such a call, or leave it, just when it is looked at.
    for (int round = 0; round < kRounds && plan(round); ++round) {
      ask(round);
      read_parked();
    }
    for (Subject& subject : subjects_) finish(subject);
    add_notes();
  }

  void of_ended() {
    const auto rows = static_cast<uint32_t>(dump_.rows(format::TableId::kThreads));
    for (uint32_t row = 0; row < rows; ++row) {
      const auto thread = dump_.thread(row);
      if (!thread || thread->end_ticks != 0) continue;
      Subject subject;
      subject.row = row;
      subject.state.tid = thread->tid;
      subject.state.name = thread->name;
      subject.state.no_stack = "the process has ended; a dump keeps the stacks of waits for locks";
      finish(subject);
    }
    std::stable_sort(out_.threads.begin(), out_.threads.end(),
                     [](const ThreadState& a, const ThreadState& b) { return a.tid < b.tid; });
    out_.notes.emplace_back(
        "the process has ended: these are the threads that had not, with their last waits as the "
        "dump has them");
  }

 private:
  struct Subject {
    ThreadState state;
    uint32_t row = kNoRow;
    std::optional<ProcThread> proc;
    bool may_ask = false;
    bool was_asked = false;
  };
  static constexpr int kRounds = 4;

  [[nodiscard]] const format::ThreadRow* row_of(const Subject& subject) const {
    return subject.row == kNoRow ? nullptr : dump_.thread_row(subject.row);
  }

  // The newest row of each thread: ids are used again.
  void find_rows() {
    dump_.refresh();
    const auto rows = static_cast<uint32_t>(dump_.rows(format::TableId::kThreads));
    for (uint32_t row = 0; row < rows; ++row)
      if (const auto thread = dump_.thread(row); thread && thread->end_ticks == 0)
        rows_[thread->tid] = row;
  }

  Subject begin(const ProcThread& thread) {
    Subject subject;
    subject.state.tid = thread.tid;
    subject.state.name = thread.name;
    subject.state.run = thread.state;
    subject.proc = thread;
    if (const auto found = rows_.find(thread.tid); found != rows_.end())
      subject.row = found->second;
    return subject;
  }

  // False: nobody is left for whom something could be done.
  bool plan(int round) {
    bool any = false;
    for (Subject& subject : subjects_) {
      subject.may_ask = false;
      if (subject.state.origin != StackOrigin::kNone || subject.was_asked) continue;
      if (round > 0) look_again(subject);
      subject.state.no_stack = reason_not_to_ask(subject);
      subject.may_ask = subject.state.no_stack.empty();
      const format::ThreadRow* row = row_of(subject);
      any |= subject.may_ask || (row != nullptr && is_parked(*row));
    }
    return any;
  }

  void look_again(Subject& subject) {
    if (auto proc = thread_of_process(pid_, subject.state.tid))
      subject.proc = std::move(*proc);
    else
      subject.proc->state = 'X';
    subject.state.run = subject.proc->state;
  }

  // Empty: it may be asked.
  [[nodiscard]] std::string reason_not_to_ask(const Subject& subject) const {
    if (dump_.control() == nullptr) return "the dump may not be written by this user";
    const auto refusal = refusal_of(dump_, *subject.proc, row_of(subject));
    if (!refusal || (refusal->is_for_its_call && options_.interrupt)) return {};
    return refusal->why + (refusal->is_for_its_call ? "; --interrupt asks it all the same" : "");
  }

  void ask(int round) {
    std::vector<AskedThread> asked;
    for (const Subject& subject : subjects_)
      if (subject.may_ask) asked.push_back({subject.state.tid, subject.row});
    if (asked.empty() || dump_.life() != Life::kRunning) return;
    const auto must_leave_alone = [this](const AskedThread& thread) {
      const auto* row = thread.row == kNoRow ? nullptr : dump_.thread_row(thread.row);
      return row != nullptr && !options_.interrupt && is_parked(*row);
    };
    const bool meet = options_.rendezvous && round == 0;
    answers_ = ask_for_stacks(dump_, asked, meet, options_.timeout, must_leave_alone);
    out_.all_met |= answers_.all_met;
    for (Subject& subject : subjects_)
      if (subject.may_ask) take_answer(subject);
  }

  void take_answer(Subject& subject) {
    ThreadState& state = subject.state;
    if (subject.row == kNoRow) subject.row = row_of_thread(dump_, state.tid);
    const format::ThreadRow* row = row_of(subject);
    if (row == nullptr || !has_answered(dump_, subject.row, answers_.request)) {
      subject.was_asked = answers_.sent.contains(state.tid);
      state.no_stack = subject.was_asked
                           ? fmt::format("it did not answer within {} ms", options_.timeout.count())
                           : "it was about to wait in a call that a signal would end";
      return;
    }
    set_stack(subject, row->answer_stack.load(std::memory_order_relaxed), StackOrigin::kAnswer);
    if (state.origin == StackOrigin::kNone) state.no_stack = "its stack had no room in the dump";
  }

  void set_stack(Subject& subject, uint32_t leaf, StackOrigin origin) {
    if (leaf == kNoRow) return;
    dump_.refresh();
    subject.state.stack = dump_.stack(leaf);
    subject.state.origin = origin;
    subject.state.no_stack.clear();
  }

  void read_parked() {
    for (Subject& subject : subjects_) {
      const format::ThreadRow* row = row_of(subject);
      if (subject.state.origin == StackOrigin::kNone && row != nullptr && is_parked(*row))
        read_from_outside(subject, *row);
    }
  }

  void read_from_outside(Subject& subject, const format::ThreadRow& row) {
    if (outside_ == nullptr) outside_ = std::make_unique<OutsideStacks>(pid_);
    // It may leave its call and come to the next one meanwhile.
    for (int tries = 0; tries < 3; ++tries) {
      const uint64_t parked = row.parked.load(std::memory_order_acquire);
      if (parked % 2 == 0) break;
      const StandingRegisters registers = {row.parked_pc.load(std::memory_order_relaxed),
                                           row.parked_sp.load(std::memory_order_relaxed),
                                           row.parked_fp.load(std::memory_order_relaxed)};
      const auto stands_still = [&] {
        std::atomic_thread_fence(std::memory_order_acquire);
        return row.parked.load(std::memory_order_relaxed) == parked;
      };
      if (const auto walk = outside_->walk(subject.state.tid, registers,
                                           dump_.header().stack_depth_frames, stands_still))
        return set_walk(subject.state, *walk);
    }
    subject.state.no_stack = fmt::format(
        "it is in a call that a signal would end, and its stack could not be read from outside: {}",
        outside_->problem().empty() ? "it left the call" : outside_->problem());
  }

  void set_walk(ThreadState& state, const OutsideWalk& walk) {
    state.stack = {};
    for (const uint64_t pc : walk.pcs) state.stack.frames.push_back({pc, module_at(pc - 1)});
    state.stack.root = walk.complete    ? format::kStackComplete
                       : walk.truncated ? format::kStackTruncated
                                        : format::kStackIncomplete;
    state.origin = StackOrigin::kOutside;
    state.no_stack.clear();
  }

  // A module that the target itself has not met yet is added.
  uint32_t module_at(uint64_t address) {
    if (const uint32_t row = module_row_at(dump_, address); row != kNoRow) return row;
    const auto first = static_cast<uint32_t>(dump_.rows(format::TableId::kModules));
    for (size_t i = 0; i < out_.modules.size(); ++i)
      if (address >= out_.modules[i].start && address < out_.modules[i].end)
        return first + static_cast<uint32_t>(i);
    auto module = outside_->module_at(address);
    if (!module) return kNoRow;
    out_.modules.push_back(std::move(*module));
    return first + static_cast<uint32_t>(out_.modules.size() - 1);
  }

  void finish(Subject& subject) {
    if (const format::ThreadRow* row = row_of(subject)) {
      ThreadState& state = subject.state;
      state.labels = row->labels.load(std::memory_order_relaxed) - 1;  // 0 = none becomes kNoRow
      if (const auto thread = dump_.thread(subject.row)) state.creation = thread->creation;
      if (const auto wait = shown_wait(*row)) set_wait(subject, *wait);
    }
    out_.threads.push_back(std::move(subject.state));
  }

  void set_wait(Subject& subject, const ShownWait& wait) {
    ThreadState& state = subject.state;
    state.wait = wait.kind;
    state.wait_object = wait.object;
    state.waited_ns = ns_since(wait.start_ticks);
    if (out_.running && wait.object != 0) state.holder = holder_of(pid_, wait.kind, wait.object);
    if (state.origin == StackOrigin::kNone) set_stack(subject, wait.stack, StackOrigin::kWait);
  }

  [[nodiscard]] uint64_t ns_since(uint64_t ticks) const {
    const TickClock clock = dump_.clock();
    const uint64_t now = out_.running ? monotonic_now_ns() : dump_.end_realtime_ns();
    const uint64_t then = out_.running ? clock.monotonic_ns(ticks) : clock.realtime_ns(ticks);
    return now - std::min(now, then);
  }

  void add_notes() {
    const auto count = [this](StackOrigin origin) {
      return std::count_if(out_.threads.begin(), out_.threads.end(),
                           [origin](const ThreadState& t) { return t.origin == origin; });
    };
    const auto answered = count(StackOrigin::kAnswer);
    if (!options_.rendezvous)
      out_.notes.emplace_back(
          "threads were asked one by one: a stack is right for its own thread, and threads moved "
          "between one and the next");
    else if (out_.all_met)
      out_.notes.push_back(fmt::format(
          "rendezvous: {} threads stood still at one moment; those that are in calls which a "
          "signal would end were read where they stand",
          answered));
    else
      out_.notes.emplace_back(
          "rendezvous was asked for and did not come about within 50 ms: stacks are each of its "
          "own moment");
    out_.notes.push_back(fmt::format(
        "{} stacks answered, {} read from outside, {} as captured when a wait began, {} missing",
        answered, count(StackOrigin::kOutside), count(StackOrigin::kWait),
        count(StackOrigin::kNone)));
  }

  Dump& dump_;
  const ThreadOptions& options_;
  ThreadsReading& out_;
  uint32_t pid_;
  std::map<uint32_t, uint32_t> rows_;  // by thread id
  std::vector<Subject> subjects_;
  Answers answers_;
  std::unique_ptr<OutsideStacks> outside_;
};

}  // namespace

ThreadsReading collect_threads(Dump& dump, const ThreadOptions& options) {
  ThreadsReading reading;
  Collector collector(dump, options, reading);
  if (dump.life() == Life::kRunning)
    collector.of_running();
  else
    collector.of_ended();
  return reading;
}

std::string state_text(const ThreadState& thread) {
  return thread.wait ? kWaitStates[static_cast<size_t>(*thread.wait)] : run_text(thread.run);
}

std::string object_text(const Dump& dump, const ThreadState& thread, LabelNames& names) {
  if (!thread.wait || thread.wait_object == 0 || *thread.wait == WaitKind::kJoin) return {};
  LabelCopy label;
  label.key = format::kLabelLock;
  label.type = format::LabelType::kAddress;
  label.address = thread.wait_object;
  label.module = module_row_at(dump, thread.wait_object);
  return names.text_of(label);
}

ThreadProfile make_profile(const Dump& dump, const ThreadsReading& reading, LabelNames& names) {
  ThreadProfile out;
  Profile& profile = out.placed.profile;
  profile.types = {{"threads", "count"}};
  profile.period_type = profile.types.front();
  profile.period = 1;
  fill_times(dump, profile);
  {
    StackTranslator stacks(dump, out.placed);
    for (const ModuleCopy& module : reading.modules) stacks.add_module(module);
    for (const ThreadState& thread : reading.threads) {
      Sample sample;
      sample.locations = thread.origin == StackOrigin::kNone
                             ? std::vector{stacks.synthetic("[no stack]")}
                             : stacks.locations(thread.stack);
      sample.values = {1};
      sample.labels = names.of_set(thread.labels);
      sample.labels.push_back({"thread", thread.name, 0, {}, false});
      sample.labels.push_back({"state", state_text(thread), 0, {}, false});
      out.stacks.push_back(sample.locations);
      stacks.add(std::move(sample));
    }
  }
  profile.comments = comments_for(dump, reading.notes, "thread");
  return out;
}

}  // namespace mprof::dumper
