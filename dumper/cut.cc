// SPDX-License-Identifier: Apache-2.0
#include "dumper/cut.h"

#include <fmt/format.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace mprof::dumper {
namespace {

using std::chrono::steady_clock;
constexpr auto kLongestWait = std::chrono::seconds(1);
constexpr auto kPoll = std::chrono::microseconds(200);

struct Inside {
  uint32_t row;
  uint64_t value;
};

// The writer's side is a plain store and load; the barrier is forced on it from here.
void barrier_in_all_threads() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  // Not allowed here (seccomp): store buffers drain within microseconds by themselves.
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

bool has_ended(const Dump& dump, const ThreadCopy& thread) {
  return thread.end_ticks != 0 ||
         access(fmt::format("/proc/{}/task/{}", dump.header().pid, thread.tid).c_str(), F_OK) != 0;
}

std::vector<Inside> threads_inside(const Dump& dump) {
  std::vector<Inside> inside;
  for (uint32_t row = 0; row < dump.rows(format::TableId::kThreads); ++row) {
    const auto thread = dump.thread(row);
    if (thread && thread->inside % 2 == 1 && !has_ended(dump, *thread))
      inside.push_back({row, thread->inside});
  }
  return inside;
}

bool has_left(const Dump& dump, const Inside& thread) {
  return dump.thread_row(thread.row)->inside.load(std::memory_order_acquire) != thread.value;
}

uint32_t wait_until_left(const Dump& dump, std::vector<Inside> inside) {
  const auto deadline = steady_clock::now() + kLongestWait;
  for (;;) {
    std::erase_if(inside, [&](const Inside& thread) { return has_left(dump, thread); });
    if (inside.empty() || steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(kPoll);
  }
  return static_cast<uint32_t>(inside.size());
}

}  // namespace

Cut take_cut(const Dump& dump) {
  Cut cut;
  if (dump.header().snapshot_epoch != 0 && dump.life() == Life::kSnapshot)
    cut.mode = CutMode::kSnapshot;
  if (dump.life() != Life::kRunning) return cut;
  format::Control* control = dump.control();
  if (control == nullptr) {
    cut.mode = CutMode::kReadOnly;
    return cut;
  }
  cut.mode = CutMode::kCut;
  cut.epoch = control->cut_epoch.fetch_add(1, std::memory_order_seq_cst) + 1;
  barrier_in_all_threads();
  cut.threads_inside = wait_until_left(dump, threads_inside(dump));
  return cut;
}

bool still_holds(const Dump& dump, const Cut& cut) {
  return cut.mode != CutMode::kCut ||
         dump.header().control.cut_epoch.load(std::memory_order_acquire) == cut.epoch;
}

const format::HeapTotals& totals_in(const Cut& cut, const BucketCopy& bucket) {
  const bool saved = cut.mode == CutMode::kCut && bucket.cut_epoch == cut.epoch;
  return saved ? bucket.at_cut : bucket.totals;
}

std::string describe(const Cut& cut) {
  switch (cut.mode) {
    case CutMode::kEnded: return "the target has ended; these are its last totals";
    case CutMode::kSnapshot: return "a consistent cut that was kept while the target ran";
    case CutMode::kReadOnly:
      return "the target is running and its dump may not be written by this user: read without a "
             "consistent cut, so a block may be counted as freed or live a moment early or late";
    case CutMode::kCut: break;
  }
  if (cut.threads_inside == 0) return "consistent cut of the running target";
  return fmt::format(
      "cut of the running target; {} threads were inside and did not leave in time: "
      "the cut may miss their current sample",
      cut.threads_inside);
}

}  // namespace mprof::dumper
