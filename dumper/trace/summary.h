// SPDX-License-Identifier: Apache-2.0
// Steps -> sums: where the time of each thread, region and task went, and the longest waits.
//
// Called by trace_command.cc, and report_summary.h makes text of it
// Times     nanoseconds. The phases of a thread add up to its life. What its regions got is the
//           part of each stretch that lies in the region; of regions of the same name, or task,
//           that lie in each other only the outermost counts.
// Memory    Grows with the number of threads and of names.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dumper/trace/story.h"

namespace mprof::dumper {

struct Tally {
  uint64_t count = 0;
  uint64_t total_ns = 0;
  uint64_t longest_ns = 0;
  void add(uint64_t ns);
};

struct SpentTime {
  std::array<Tally, static_cast<size_t>(Phase::kCount)> phases;
  std::map<format::WaitKind, Tally> blocked;  // of phase kBlocked
  // All calls: the long ones, which are phase kInCall, and the short ones within kRunning.
  std::map<format::CallName, Tally> calls;
  [[nodiscard]] const Tally& in(Phase phase) const { return phases[static_cast<size_t>(phase)]; }
};

struct ThreadTimes {
  uint32_t row = format::kNoRow;  // of the thread table
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;
  SpentTime spent;
  uint64_t cpu_samples = 0;
  uint64_t lost_records = 0;
};

// Of all regions, or tasks, of a name.
struct NamedTimes {
  Tally whole;
  uint64_t unfinished = 0;
  SpentTime spent;  // by the threads within; of a task: in its regions
};

struct LongWait {
  uint32_t thread = 0;
  uint64_t begin_ns = 0;
  uint64_t ns = 0;
  const char* what = "";  // "mutex", "read"
  uint64_t object = 0;
  uint32_t stack = format::kNoRow;
  bool is_over = true;
  bool is_call = false;  // or a sleep, a poll: for the kernel anyway
  uint32_t waker = 0;    // 0: the kernel
  uint32_t waker_stack = format::kNoRow;
};

struct ByteRange {
  uint64_t lowest = 0;
  uint64_t highest = 0;
  uint64_t last = 0;
};

struct HeapChange {
  Tally times;
  uint64_t bytes = 0;
};

struct TraceSummary {
  uint64_t begin_ns = 0;  // since the start of the target
  uint64_t end_ns = 0;
  uint32_t sessions = 0;
  uint32_t cores = 0;
  std::map<uint32_t, ThreadTimes> threads;  // by their numbers
  std::map<std::string, NamedTimes> regions;
  std::map<std::string, NamedTimes> tasks;
  std::vector<LongWait> longest_waits;  // for other threads; longest first
  std::vector<LongWait> longest_calls;  // for the kernel: system calls, sleeps, polls
  bool has_heap = false;
  ByteRange live;
  ByteRange mapped;
  HeapChange growths;
  HeapChange trims;
  uint64_t cpu_samples = 0;
  uint64_t logs = 0;
  uint64_t lost_records = 0;
  uint64_t gaps = 0;  // where nobody knows how many were lost
};

// The longest few of many.
class LongestWaits {
 public:
  explicit LongestWaits(size_t most) : most_(most) {}
  void add(const LongWait& wait);
  [[nodiscard]] std::vector<LongWait> take();

 private:
  size_t most_;
  std::vector<LongWait> heap_;  // the shortest of them first
};

class SummarySink : public StorySink {
 public:
  // Keeps so many of the longest waits and calls.
  explicit SummarySink(size_t longest) : waits_(longest), calls_(longest) {}

  // After finish().
  [[nodiscard]] const TraceSummary& summary() const { return summary_; }

 protected:
  void note(const Step& step) override;
  void begin_phase(uint32_t thread, Phase phase, const Step& step) override;
  void end_phase(uint32_t thread, Phase phase, uint64_t ns, bool is_over) override;
  void begin_call(const Step& step) override;
  void end_call(uint32_t thread, uint64_t ns, bool is_over) override;
  void end_thread(uint32_t thread, uint64_t ns) override;
  void end_trace(uint64_t ns) override;

 private:
  // Time from one step to another, and on what it is spent.
  struct Stretch {
    enum class On { kNothing, kPhase, kCall } on = On::kNothing;
    uint64_t since_ns = 0;
    Phase phase{};
    format::WaitKind wait{};
    format::CallName call{};
    uint64_t object = 0;
    uint32_t stack = format::kNoRow;
  };
  struct Region {
    uint64_t since_ns = 0;
    uint64_t task = 0;
    NamedTimes* by_name = nullptr;  // null: not the outermost
    NamedTimes* by_task = nullptr;
    const std::string* name = nullptr;
  };
  struct Thread {
    ThreadTimes* times = nullptr;
    Stretch phase;
    Stretch call;
    std::vector<Region> regions;
    uint64_t grows_since_ns = 0;
    uint64_t trims_since_ns = 0;
  };
  struct Task {
    NamedTimes* times = nullptr;
    uint64_t since_ns = 0;
  };

  Thread& thread_of(uint32_t number);
  static void add(SpentTime& spent, const Stretch& stretch, uint64_t ns);
  static void add_part(const Region& region, const Stretch& stretch, uint64_t ns);
  static void charge(Thread& thread, const Stretch& stretch, uint64_t ns);
  void note_thread(const Step& step);
  void note_heap(const Step& step);
  void begin_region(const Step& step);
  void end_region(Thread& thread, uint64_t ns, bool is_over);
  void begin_task(const Step& step);
  void end_task(uint64_t task, uint64_t ns, bool is_over);
  void note_wait(uint32_t thread, const Stretch& stretch, uint64_t ns, bool is_over);

  TraceSummary summary_;
  LongestWaits waits_;
  LongestWaits calls_;
  std::map<uint32_t, Thread> threads_;
  std::map<uint64_t, Task> tasks_;
  bool has_begun_ = false;
  uint32_t waker_ = 0;
  uint32_t waker_stack_ = format::kNoRow;
};

}  // namespace mprof::dumper
