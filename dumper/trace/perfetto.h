// SPDX-License-Identifier: Apache-2.0
// Steps -> a Perfetto trace (protobuf track events), which ui.perfetto.dev and trace_processor
// open.
//
// Tracks    Of each thread: its state, system calls, regions, labels, growth and trims of the heap,
//           wake-ups, CPU samples, logs, losses, each on a track of its own, because a state may
//           end in the midst of a region. Of the process: a track per core with the thread on it,
//           the heap as counters, a track per task below that of its parent.
// Slices    nest on each track and have an end, also where the story was cut.
// Flows     from a wake-up on the waker's track to the state of the woken thread.
// Memory    Grows with the number of different names and stacks, of threads that run and of tasks
//           that are open; not with the length of the trace.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "dumper/dump_reader.h"
#include "dumper/trace/names.h"
#include "dumper/trace/perfetto_writer.h"
#include "dumper/trace/story.h"
#include "dumper/trace/trace_file.h"

namespace mprof::dumper {

class PerfettoSink : public StorySink {
 public:
  // Whoever owns the file commits it.
  PerfettoSink(const Dump& dump, TraceNames& names, TraceFile& file);

 protected:
  void note(const Step& step) override;
  void begin_phase(uint32_t thread, Phase phase, const Step& step) override;
  void end_phase(uint32_t thread, Phase phase, uint64_t ns, bool is_over) override;
  void begin_call(const Step& step) override;
  void end_call(uint32_t thread, uint64_t ns, bool is_over) override;
  void end_thread(uint32_t thread, uint64_t ns) override;
  void end_trace(uint64_t ns) override;

 private:
  using Event = PerfettoWriter::Event;
  enum class Lane {
    kState,
    kCalls,
    kRegions,
    kLabels,
    kGrowth,
    kTrims,
    kWakes,
    kSamples,
    kLogs,
    kLosses,
    kCount
  };
  static constexpr auto kLanes = static_cast<size_t>(Lane::kCount);
  struct Thread {
    uint64_t track = 0;
    uint32_t tid = 0;
    std::string name;
    uint32_t core = 0;                     // while it runs
    std::array<uint64_t, kLanes> lanes{};  // tracks; 0: not made
    std::array<uint32_t, kLanes> open{};   // slices
  };

  // The clock of the trace is CLOCK_MONOTONIC.
  [[nodiscard]] uint64_t at(uint64_t ns) const { return start_ns_ + ns; }
  uint64_t lane(uint32_t thread, Lane which);
  uint64_t core_track(uint32_t core);
  uint32_t tid_of(uint32_t thread) const;

  Event instant(uint32_t thread, Lane which, uint64_t ns);
  Event begin_slice(uint32_t thread, Lane which, uint64_t ns);
  void end_slice(uint32_t thread, Lane which, uint64_t ns, bool is_over = true);

  void forget_ended(uint64_t ns);
  void note_thread(const Step& step);
  void note_flow(const Step& step, const char* name);
  void note_labels(const Step& step);
  void note_heap(const Step& step);
  void begin_task(const Step& step);
  void end_task(uint64_t task, uint64_t ns, bool is_over);
  void note_log(const Step& step);
  void note_recording(const Step& step);
  void name_phase(Event& event, Phase phase, const Step& step);
  void name_wait(Event& event, const Step& step);

  const Dump& dump_;
  TraceNames& names_;
  PerfettoWriter writer_;
  uint64_t start_ns_;
  uint64_t process_ = 0, cores_ = 0, tasks_ = 0;  // tracks, and two below
  uint64_t live_ = 0, mapped_ = 0;
  uint64_t flow_ = 0;  // that the next phase ends
  std::unordered_map<uint32_t, Thread> threads_;
  std::deque<std::pair<uint32_t, uint64_t>> ended_;  // threads, and when
  std::unordered_map<uint32_t, uint64_t> core_tracks_;
  std::map<uint64_t, uint64_t> open_tasks_;
};

}  // namespace mprof::dumper
