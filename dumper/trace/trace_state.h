// SPDX-License-Identifier: Apache-2.0
// What a dump has of a trace, by its heads alone: nothing is decoded.
#pragma once

#include <cstdint>
#include <string>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

struct TraceState {
  bool is_on = false;
  uint32_t sessions = 0;  // how often it was turned on
  uint64_t rings = 0;
  uint64_t written_bytes = 0;    // by the threads, all in all
  uint64_t dropped_records = 0;  // because a ring was full
  std::string file;              // the journal; empty: there is none
  uint64_t file_bytes = 0;       // on disk
  uint64_t given_up_bytes = 0;   // of the file: the oldest, to save space
  std::string trouble;           // why a file that is there cannot be used
};

[[nodiscard]] TraceState trace_state(const Dump& dump);

// For people, in one line.
[[nodiscard]] std::string trace_text(const Dump& dump, const TraceState& state);

}  // namespace mprof::dumper
