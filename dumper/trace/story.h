// SPDX-License-Identifier: Apache-2.0
// What each thread is in from one step to another, for forms that show or add up stretches of time.
//
// Phases    follow each other without a gap from a thread's first step to its end, so their lengths
//           add up to its life. While recording is off nobody knows what a runnable thread does:
//           that is a phase of its own, kUnrecorded.
// Calls     A system call is open from its kCall on. A short one lies in kRunning, a long one is
//           the phase kInCall.
// End       finish() ends what is still open, and says that it was not over.
#pragma once

#include <map>
#include <optional>

#include "dumper/trace/step.h"

namespace mprof::dumper {

enum class Phase { kRunning, kRunnable, kBlocked, kInCall, kUnrecorded, kCount };
inline constexpr const char* kPhaseNames[] = {"running", "runnable", "blocked", "in call",
                                              "not recorded"};
static_assert(sizeof kPhaseNames / sizeof *kPhaseNames == static_cast<size_t>(Phase::kCount));

// That a step brings its thread into; none: the thread stays in its own, or ends.
[[nodiscard]] std::optional<Phase> phase_after(const Step& step);

class StorySink : public StepSink {
 public:
  void take(const Step& step) final;
  void finish() final;

 protected:
  // Every step, before what follows from it.
  virtual void note(const Step& step) = 0;
  // `step` brought it about: of this thread, or kStart and kStop.
  virtual void begin_phase(uint32_t thread, Phase phase, const Step& step) = 0;
  virtual void end_phase(uint32_t thread, Phase phase, uint64_t ns, bool is_over) = 0;
  virtual void begin_call(const Step& step) = 0;
  virtual void end_call(uint32_t thread, uint64_t ns, bool is_over) = 0;
  // After the end of its phase and call; no step names it again.
  virtual void end_thread(uint32_t thread, uint64_t ns) = 0;
  // After the end of all threads that were left.
  virtual void end_trace(uint64_t ns) = 0;

 private:
  struct Thread {
    Phase phase = Phase::kRunnable;
    bool has_call = false;
  };
  using Threads = std::map<uint32_t, Thread>;

  void change(uint32_t thread, Phase phase, const Step& step);
  void change_all(Phase from, Phase to, const Step& step);
  void open_call(const Step& step);
  void close_call(uint32_t thread, uint64_t ns, bool is_over);
  void close(uint32_t thread, uint64_t ns, bool is_over);

  Threads threads_;
  bool is_recording_ = true;
  uint64_t last_ns_ = 0;
};

}  // namespace mprof::dumper
