// SPDX-License-Identifier: Apache-2.0
// Steps as a file for `go tool trace`: format "go 1.19 trace", which every later Go reads, too.
//
// Threads   are goroutines, by their numbers. Where one began, as Go shows it, is the function that
//           it was made with, and its name and id: "worker() [io-1 4712]".
// Cores     are Ps, from 1, in the order of first use: the viewer draws a row for every number up
//           to the highest. Which core a P is, a log line says. P 0 is the kernel: it wakes whom no
//           thread woke, and makes the threads that were there before.
// Calls     have a leaf of their own, with their name. One that waits for a peer is a network wait.
// Trim      is a garbage collection (of all overlapping ones: one) and a sweep on the thread's
// core. Grow      is a mark assist. Times     nanoseconds since the start of the target, and 2:
// time 0 means "none" to some readers,
//           and the number of Ps stands before all else, at a time of its own.
// Viewer    It trusts the file. So: every start stack has a frame, and every region a stack; what
//           begins ends; equal times on two Ps, which have no order, never matter.
// Memory    a batch for each core, and what differs: stacks, strings, threads. Never the events.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dumper/trace/names.h"
#include "dumper/trace/step.h"
#include "dumper/trace/trace_file.h"

namespace mprof::dumper {

class GoTraceSink : public StepSink {
 public:
  static constexpr size_t kMostBatchBytes = size_t{1} << 16;
  static constexpr size_t kMostRecordBytes = 2048;  // Go 1.22 takes no longer ones

  GoTraceSink(TraceFile& file, TraceNames& names);
  void take(const Step& step) override;
  void finish() override;

 private:
  struct Proc {
    std::string batch;
    uint64_t ticks = 0;   // of its last event
    uint32_t sweeps = 0;  // thread that is giving back memory there
  };
  struct Thread {
    uint64_t sequence = 0;
    uint64_t start_stack = 0;
    uint64_t label = 0;  // string
    uint32_t tid = 0;
    std::string title;
    bool runs = false;
    bool is_in_network_call = false;
    uint32_t proc = 0;
  };
  using Values = std::initializer_list<uint64_t>;

  void begin(uint64_t ticks);
  void put(uint32_t proc, uint8_t type, Values values, std::string_view tail = {});
  void put_log(uint32_t proc, uint64_t task, std::string_view key, uint64_t stack,
               std::string_view message);
  void flush(Proc& proc);

  void make_thread(const Step& step);
  void begin_core(const Step& step);
  void run(const Step& step);
  void leave(const Step& step, uint8_t type, Values values);
  void block(const Step& step);
  void wake(const Step& step);
  void block_in_call(const Step& step);
  void return_from_call(const Step& step);
  void show_heap(const Step& step);
  void begin_trim(const Step& step);
  void end_trim(const Step& step);
  void end_sweep(Proc& proc, uint32_t number, uint64_t bytes);
  void label(const Step& step);
  void region(const Step& step, uint64_t mode);
  void sample(const Step& step);
  void show_loss(const Step& step);

  [[nodiscard]] Thread& thread(uint32_t number);
  [[nodiscard]] uint32_t proc_of(uint32_t core) const;
  [[nodiscard]] uint64_t string(std::string_view text);
  [[nodiscard]] uint64_t stack(uint32_t row);
  [[nodiscard]] uint64_t stack_of_call(const Step& step);
  [[nodiscard]] uint64_t stack_or_start(const Step& step);
  [[nodiscard]] uint64_t intern(const std::vector<TraceFrame>& frames);

  TraceFile& file_;
  TraceNames& names_;
  std::vector<Proc> procs_;
  std::vector<uint32_t> proc_of_core_;
  std::vector<Thread> threads_;  // by number
  std::unordered_map<std::string, uint64_t> strings_;
  std::vector<const std::string*> strings_in_order_;
  std::unordered_map<std::string, uint64_t> stacks_;  // by their bytes
  std::vector<const std::string*> stacks_in_order_;
  std::unordered_map<uint64_t, uint64_t> stack_of_row_;  // by row and call
  uint64_t ticks_ = 0;
  uint64_t mapped_bytes_ = 0;
  uint64_t trims_ = 0;  // that began
  uint64_t open_trims_ = 0;
  uint64_t proc_count_at_ = 0;  // offset in the file
  bool has_begun_ = false;
};

}  // namespace mprof::dumper
