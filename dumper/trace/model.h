// SPDX-License-Identifier: Apache-2.0
// The model: of moments it makes a story of threads and cores that obeys step.h, whatever they are.
//
// Cores     A thread that makes a record on a core is put there. Who was thought to be there is
//           preempted at that instant, and is seen again at its next record.
// Repaired  at the next record of a thread: a wait or a call whose end was lost, a thread that
//           nobody was seen to make, a task, region or call that was not seen to begin.
// Dated     A thread that begins another wait in the past (kRelock), or whose region is open when
// back      recording ends, is on a core for no time at all; who was there stays.
// Sessions  At a stop all that is open is closed and who runs yields. What comes within kLateNs of
//           it was on its way: left out and counted. What comes later begins a session.
// Window    Before `from_ns` the story is followed and not told; at `from_ns` it begins as a
//           session does, with the threads as they are. At `to_ns` it ends as at a stop.
// Memory    for each thread and each open region; for tasks only where their numbers have gaps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "dumper/trace/number_set.h"
#include "dumper/trace/step.h"
#include "dumper/trace/wakes.h"

namespace mprof::dumper {

struct ModelOptions {
  uint64_t from_ns = 0;
  uint64_t to_ns = UINT64_MAX;
  // The text at a row of the string table.
  std::function<std::string(uint64_t row)> text = [](uint64_t) { return std::string(); };
  // When a thread ended; UINT64_MAX: not seen to. Of one that ended while nothing was recorded no
  // record tells.
  std::function<uint64_t(uint32_t row)> end_ns = [](uint32_t) { return UINT64_MAX; };
};

struct ModelCounts {
  uint64_t records = 0;
  uint64_t steps = 0;
  uint64_t threads = 0;
  uint64_t lost = 0;      // as kLost records say
  uint64_t late = 0;      // left out: came after a stop, or after the end of their thread
  uint64_t unfit = 0;     // left out: regions too deep, tasks that were begun twice
  uint64_t first_ns = 0;  // of the steps
  uint64_t last_ns = 0;
};

class TraceModel {
 public:
  static constexpr uint64_t kLateNs = 10'000'000;
  static constexpr uint32_t kMostCores = 8192;
  static constexpr size_t kMostRegions = 1000;  // open ones of a thread

  TraceModel(StepSink& sink, ModelOptions options);

  void take(const Moment& moment);
  // The time of the window is over: nothing that comes will be told.
  [[nodiscard]] bool is_over() const { return is_over_; }
  void finish();
  [[nodiscard]] const ModelCounts& counts() const { return counts_; }

 private:
  static constexpr uint32_t kNobody = UINT32_MAX;
  enum class State : uint8_t { kRunnable, kRunning, kWaiting, kInCall, kGone };
  struct Region {
    uint64_t task = 0;
    std::string name;
    uint32_t stack = format::kNoRow;
    bool is_told = false;
  };
  struct Thread {
    uint32_t row = 0;
    uint32_t number = 0;
    State state = State::kRunnable;
    bool call_is_open = false;  // a short one
    bool grows = false;
    bool trims = false;
    bool has_untold = false;  // regions of before the window
    uint32_t core = 0;        // where it is, or was last
    uint32_t session = 0;
    uint32_t deeper = 0;      // regions beyond kMostRegions
    uint64_t begin_ns = 0;    // of its kThread
    format::WaitKind wait{};  // kWaiting
    uint64_t object = 0;
    uint32_t stack = format::kNoRow;  // of the wait or call that it is in
    format::CallName call{};
    std::vector<Region> regions;
  };

  // What a kind of record does.
  void tell(const Moment& moment);
  void tell_of(uint32_t thread, const Moment& moment);
  void start(const TraceRecord& record);
  void stop(const TraceRecord& record);
  void declare_other(uint32_t by, const TraceRecord& record);
  void reconcile(uint32_t thread, const TraceRecord& record);
  void create(uint32_t by, const TraceRecord& record);
  void exit(uint32_t thread, const Moment& moment);
  void begin_wait(uint32_t thread, const Moment& moment);
  void relock(uint32_t thread, const TraceRecord& record);
  void begin_call(uint32_t thread, const Moment& moment);
  void tell_call(uint32_t thread);
  void block_in_call(uint32_t thread);
  void finish_call(uint32_t thread);
  void yield(uint32_t thread, const TraceRecord& record);
  void grow_or_trim(uint32_t thread, const Moment& moment);
  void sample(uint32_t thread, const TraceRecord& record);
  void heap(uint32_t thread, const TraceRecord& record);
  void begin_task(uint32_t thread, const TraceRecord& record);
  void end_task(uint32_t thread, const TraceRecord& record);
  void begin_region(uint32_t thread, const TraceRecord& record);
  void tell_region(uint32_t thread, Region& region);
  void end_region(uint32_t thread, const TraceRecord& record);
  void close_regions(uint32_t thread, size_t remaining, uint32_t stack);
  void log(uint32_t thread, const TraceRecord& record);

  // Threads and cores.
  [[nodiscard]] uint32_t find(uint32_t row) const;
  uint32_t appear(uint32_t row, uint32_t by, uint32_t stack, const TraceRecord* waiting = nullptr);
  void tell_thread(uint32_t thread, uint32_t by, uint32_t stack);
  uint32_t thread_of(const Moment& moment);
  void act(uint32_t thread, const TraceRecord& record);
  void run(uint32_t thread, uint32_t core);
  void place(uint32_t thread, uint32_t core);
  void begin_core(uint32_t thread, uint32_t core);
  void evict(uint32_t core);
  void leave(uint32_t thread, StepKind kind, State to, uint32_t stack = format::kNoRow,
             uint64_t value = 0);
  void wake(uint32_t thread, uint32_t by, uint32_t stack);
  void wake_all(const Moment& moment, uint32_t by);
  void block(uint32_t thread, format::WaitKind kind, uint64_t object, uint32_t stack);
  template <class Action>
  void visit(uint32_t thread, uint32_t core, const Action& action);

  // Sessions.
  void open_session();
  void close_session();
  void end_the_ended();
  void close(uint32_t thread);
  [[nodiscard]] static bool has_open(const Thread& thread);
  void begin_window();
  void tell_all_threads();
  void tell_run(uint32_t thread);
  void tell_open(uint32_t thread);

  // Steps.
  [[nodiscard]] Step step(StepKind kind, uint32_t thread, uint32_t stack = format::kNoRow) const;
  void emit(Step&& step);
  void advance(uint64_t ns);
  [[nodiscard]] uint32_t number(uint32_t thread) const;
  [[nodiscard]] std::string text(uint64_t row);

  StepSink& sink_;
  ModelOptions options_;
  ModelCounts counts_;
  std::vector<Thread> threads_;
  std::unordered_map<uint32_t, uint32_t> by_row_;
  std::vector<uint32_t> on_core_;  // thread or kNobody
  std::vector<bool> core_began_;
  std::vector<Step> held_samples_;  // of threads that appear at this very instant
  NumberSet known_tasks_;
  uint64_t now_ns_ = 0;
  uint64_t stop_ns_ = 0;
  uint64_t start_ns_ = 0;
  uint32_t session_ = 0;
  uint32_t last_number_ = 0;
  bool is_recording_ = false;
  bool was_stopped_ = false;
  bool began_by_itself_ = false;
  bool is_muted_ = false;
  bool is_over_ = false;
};

// All of it: records to steps.
ModelCounts tell_trace(TraceSource& records, StepSink& sink, ModelOptions options);

}  // namespace mprof::dumper
