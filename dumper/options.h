// SPDX-License-Identifier: Apache-2.0
// The command line of mprof, parsed and checked.
//
// Fails     UsageError: what is wrong and what is accepted, one line.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/control.h"
#include "dumper/report_threads.h"
#include "dumper/report_top.h"
#include "dumper/serve.h"
#include "dumper/timeline.h"
#include "dumper/trace/trace_command.h"
#include "dumper/views.h"

namespace mprof::dumper {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Command {
  kHelp,
  kRun,
  kPprof,
  kTop,
  kInfo,
  kDoctor,
  kDrain,
  kTimeline,
  kLifetimes,
  kLocks,
  kDiff,
  kMerge,
  kPs,
  kServe,
  kCtl,
  kThreads,
  kTrace
};

struct Options {
  Command command = Command::kHelp;
  std::string help;                                // kHelp: what to print
  std::vector<std::string> program;                // run, doctor: command and arguments
  std::vector<std::string> dumps;                  // files or pids
  std::map<std::string, std::string> environment;  // run: MPROF_* from options
  std::vector<View> views;                         // empty: what the target recorded
  std::string directory;
  std::string output_file;  // diff, merge, threads, trace
  bool drain = true;
  bool write_profiles = true;  // run
  bool write_trace = true;     // run: if there is one
  bool run_it = true;
  bool text = false;
  bool csv = false;
  bool json = false;
  bool once = false;
  bool detach = false;
  size_t rows = 20;
  size_t intervals = 40;
  SymbolOptions symbols;
  TopSort sort = TopSort::kFlat;
  View top_view = HeapView::kHeap;
  bool objects = false;      // top: blocks in place of bytes
  bool contentions = false;  // top: contentions in place of their time
  bool samples = false;      // top: samples in place of processor time
  std::string value_type;    // diff: by name; empty: the profile's default
  bool normalize = false;    // diff: A to B's total
  ThreadOptions threads;
  ThreadForm thread_form = ThreadForm::kParagraphs;
  TraceForm trace_form = TraceForm::kGo;
  std::optional<TimePoint> from;
  std::optional<TimePoint> to;
  ServeOptions serve;
  bool since_reset = false;  // pprof, top: less the baseline
  SettingsChange change;     // ctl
  std::string snapshot;      // ctl: its name; empty: none
  bool reset = false;        // ctl
};

[[nodiscard]] Options parse_options(int argc, const char* const* argv);

}  // namespace mprof::dumper
