// SPDX-License-Identifier: Apache-2.0
#include "dumper/ask_threads.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <thread>

#include "dumper/control_lock.h"
#include "dumper/signal_thread.h"
#include "format/rendezvous.h"

namespace mprof::dumper {
namespace {

using std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::microseconds(200);

// Fewer came than were announced: those that are there need not wait for the rest.
void expect_only(format::Control& control, uint32_t request, uint32_t count) {
  control.rendezvous.store(count, std::memory_order_seq_cst);
  if (control.arrived.load(std::memory_order_seq_cst) < count) return;
  uint32_t before = control.released.load(std::memory_order_acquire);
  if (format::is_released(before, request)) return;
  if (control.released.compare_exchange_strong(before, format::all_met(request)))
    syscall(SYS_futex, &control.released, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

bool have_all_answered(Dump& dump, std::vector<AskedThread>& waiting, uint32_t request) {
  std::erase_if(waiting, [&](AskedThread& thread) {
    if (thread.row == format::kNoRow) {
      dump.refresh();
      thread.row = row_of_thread(dump, thread.tid);
    }
    return thread.row != format::kNoRow && has_answered(dump, thread.row, request);
  });
  return waiting.empty();
}

}  // namespace

bool has_answered(const Dump& dump, uint32_t row, uint32_t request) {
  const auto* found = dump.thread_row(row);
  return found != nullptr && found->answer.load(std::memory_order_acquire) == request;
}

Answers ask_for_stacks(Dump& dump, const std::vector<AskedThread>& threads, bool rendezvous,
                       std::chrono::milliseconds longest,
                       const std::function<bool(const AskedThread&)>& must_leave_alone) {
  Answers answers;
  format::Control& control = *dump.control();
  const ControlLock lock(dump);
  const auto count = static_cast<uint32_t>(threads.size());
  control.arrived.store(0, std::memory_order_relaxed);
  control.rendezvous.store(rendezvous ? count : 0, std::memory_order_relaxed);
  // 0 is no request.
  answers.request = std::max(control.stacks_request.load(std::memory_order_relaxed) + 1, 1u);
  control.stacks_request.store(answers.request, std::memory_order_release);
  const auto deadline = steady_clock::now() + longest;
  std::vector<AskedThread> waiting;
  for (const AskedThread& thread : threads) {
    if (must_leave_alone(thread) || !send_signal(dump, thread.tid)) continue;
    answers.sent.insert(thread.tid);
    waiting.push_back(thread);
  }
  if (rendezvous && waiting.size() < threads.size())
    expect_only(control, answers.request, static_cast<uint32_t>(waiting.size()));
  while (!have_all_answered(dump, waiting, answers.request) && steady_clock::now() < deadline)
    std::this_thread::sleep_for(kPoll);
  answers.all_met =
      rendezvous && !answers.sent.empty() &&
      control.released.load(std::memory_order_acquire) == format::all_met(answers.request);
  control.rendezvous.store(0, std::memory_order_relaxed);  // who comes late need not wait
  return answers;
}

}  // namespace mprof::dumper
