// SPDX-License-Identifier: Apache-2.0
// `mprof trace --summary`, and `--format json-summary`: the sums of a trace as a person and as a
// program reads them.
//
// Called by trace_command.cc
// Threads   One at a time.
#pragma once

#include <cstddef>
#include <string>

#include "dumper/dump_reader.h"
#include "dumper/trace/names.h"
#include "dumper/trace/summary.h"

namespace mprof::dumper {

// The worst `rows` threads, regions and tasks, all for 0; `width_columns` 0: lines as long as they
// are.
[[nodiscard]] std::string summary_text(const TraceSummary& summary, const Dump& dump,
                                       TraceNames& names, size_t rows, size_t width_columns);
// All of them.
[[nodiscard]] std::string summary_json(const TraceSummary& summary, const Dump& dump,
                                       TraceNames& names);

}  // namespace mprof::dumper
