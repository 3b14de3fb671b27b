// SPDX-License-Identifier: Apache-2.0
// `mprof threads`: the threads of a program as text that a person reads, a paragraph for each, like
// Go's goroutine dump; and the same as a profile, by the number of its `debug` parameter.
//
// Called by main.cc and whoever serves profiles
// Threads   One at a time.
#pragma once

#include <string>

#include "dumper/symbolize.h"
#include "dumper/thread_profile.h"

namespace mprof::dumper {

enum class ThreadForm {
  kPprof = 0,       // gzip-compressed protobuf
  kGrouped = 1,     // threads with the same stack, state and labels together, which pprof reads
  kParagraphs = 2,  // each by itself
};

[[nodiscard]] std::string report_threads(const Dump& dump, const ThreadsReading& reading,
                                         ThreadForm form, Symbolizer& symbolizer,
                                         SymbolDetail detail);

}  // namespace mprof::dumper
