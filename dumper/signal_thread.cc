// SPDX-License-Identifier: Apache-2.0
#include "dumper/signal_thread.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace mprof::dumper {
namespace {

bool is_parked(const format::ThreadRow* row) {
  return row != nullptr && row->parked.load(std::memory_order_acquire) % 2 == 1;
}

// A wait of libc's own, which goes on by itself after a handler.
bool is_libcs_wait(const format::ThreadRow* row) {
  if (row == nullptr) return false;
  const uint32_t kind = row->wait_kind.load(std::memory_order_acquire);
  return kind != 0 && kind - 1 <= static_cast<uint32_t>(format::WaitKind::kJoin);
}

bool has_signal(uint64_t set, uint32_t number) { return (set >> (number - 1) & 1) != 0; }

std::optional<Refusal> for_its_call(const Dump& dump, const ProcThread& thread,
                                    const format::ThreadRow* row) {
  constexpr const char* kWaits = "it waits in a call that a signal would interrupt";
  if (is_parked(row)) return Refusal{kWaits, true};
  if (!thread.call_known) return std::nullopt;
  const char* call = call_without_restart(dump.header().pid, thread.call, is_libcs_wait(row));
  if (call == nullptr) return std::nullopt;
  return Refusal{fmt::format("{} ({})", kWaits, call), true};
}

std::optional<Refusal> refusal_of(const Dump& dump, const ProcThread& thread) {
  const uint32_t row = row_of_thread(dump, thread.tid);
  return refusal_of(dump, thread, row == format::kNoRow ? nullptr : dump.thread_row(row));
}

}  // namespace

uint32_t row_of_thread(const Dump& dump, uint32_t tid) {
  for (auto row = static_cast<uint32_t>(dump.rows(format::TableId::kThreads)); row-- > 0;)
    if (const auto* found = dump.thread_row(row);
        found != nullptr && found->tid.load(std::memory_order_acquire) == tid &&
        found->end_ticks.load(std::memory_order_relaxed) == 0)
      return row;
  return format::kNoRow;
}

std::optional<Refusal> refusal_of(const Dump& dump, const ProcThread& thread,
                                  const format::ThreadRow* row) {
  const uint32_t number = dump.header().signal_number.load(std::memory_order_acquire);
  if (number == 0 || number > 64)
    return Refusal{"the program has handlers of its own for every signal that mprof could use"};
  if (thread.state == 'Z' || thread.state == 'X') return Refusal{"it has ended"};
  if (thread.state == 'T' || thread.state == 't') return Refusal{"it is stopped"};
  if (!has_signal(thread.caught, number))
    return Refusal{fmt::format("signal {} has no handler in it", number)};
  if (has_signal(thread.blocked, number))
    return Refusal{fmt::format("it blocks signal {}", number)};
  if (row != nullptr &&
      (row->unsignalled.load(std::memory_order_relaxed) & format::kSmallSignalStack) != 0)
    return Refusal{"its alternate signal stack is too small for one more handler"};
  return for_its_call(dump, thread, row);
}

std::optional<std::string> why_not_signal(const Dump& dump, uint32_t tid) {
  const auto thread = thread_of_process(dump.header().pid, tid);
  if (!thread) return "it has ended";
  if (auto refusal = refusal_of(dump, *thread)) return std::move(refusal->why);
  return std::nullopt;
}

bool send_signal(const Dump& dump, uint32_t tid) {
  const auto number = static_cast<int>(dump.header().signal_number.load(std::memory_order_acquire));
  siginfo_t info{};
  info.si_signo = number;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = format::kSignalCookie;
  return syscall(SYS_rt_tgsigqueueinfo, dump.header().pid, tid, number, &info) == 0;
}

bool signal_thread(const Dump& dump, uint32_t tid) {
  return dump.life() == Life::kRunning && send_signal(dump, tid);
}

ThreadsToAsk threads_to_ask(const Dump& dump) {
  ThreadsToAsk found;
  std::vector<ProcThread> threads = threads_of_process(dump.header().pid);
  std::stable_partition(threads.begin(), threads.end(),
                        [](const ProcThread& thread) { return thread.state == 'R'; });
  found.some_run = !threads.empty() && threads.front().state == 'R';
  for (const ProcThread& thread : threads) {
    if (const auto refusal = refusal_of(dump, thread))
      found.why_none = fmt::format("thread {}: {}", thread.tid, refusal->why);
    else
      found.tids.push_back(thread.tid);
  }
  return found;
}

}  // namespace mprof::dumper
