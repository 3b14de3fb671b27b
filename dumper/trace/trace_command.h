// SPDX-License-Identifier: Apache-2.0
// `mprof trace`: the trace of a dump, or of a part of its time, in one of its forms.
//
// Memory    does not grow with the length of the trace.
// Fails     NoTrace, one line; std::system_error when the file cannot be written. It appears whole
//           or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/timeline.h"
#include "dumper/trace/merge.h"
#include "dumper/trace/model.h"
#include "dumper/trace/names.h"
#include "dumper/trace/step.h"
#include "dumper/trace/trace_file.h"

namespace mprof::dumper {

enum class TraceForm {
  kGo,        // for `go tool trace`
  kPerfetto,  // for ui.perfetto.dev
  kSummary,   // what a person reads
  kJsonSummary,
};
// Throws std::invalid_argument that names what is accepted.
[[nodiscard]] TraceForm parse_trace_form(const std::string& name);
[[nodiscard]] std::string trace_form_names();

struct TraceOutput {
  TraceForm form = TraceForm::kGo;
  std::string path;          // as TraceFile has it
  size_t rows = 20;          // kSummary; 0: all
  size_t width_columns = 0;  // kSummary; 0: lines as long as they are
};
// Writes to `file`. All that it is given outlive it.
[[nodiscard]] std::unique_ptr<StepSink> make_sink(const TraceOutput& output, const Dump& dump,
                                                  TraceNames& names, TraceFile& file);

struct NoTrace : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WrittenTrace {
  ModelCounts counts;
  TraceHealth health;
};
// Of a running target: what there is now.
WrittenTrace write_trace(Dump& dump, const Window& window, const TraceOutput& output,
                         Symbolizer& symbolizer, SymbolDetail detail);

// In `directory`, or beside the dump for ""; text goes to standard output.
[[nodiscard]] std::string default_trace_path(const Dump& dump, const std::string& directory,
                                             TraceForm form);
// "41022 events of 8 threads in 3.21 s; nothing was lost".
[[nodiscard]] std::string describe(const WrittenTrace& written);
// What is missing, one line each.
[[nodiscard]] std::vector<std::string> shortcomings(const WrittenTrace& written);

}  // namespace mprof::dumper
