// SPDX-License-Identifier: Apache-2.0
// One record of a trace, as a checked value, and where a converter gets them from.
#pragma once

#include <cstdint>
#include <string>

#include "format/dump.h"
#include "format/trace_record.h"

namespace mprof::dumper {

// Arguments as in format/trace_record.h; objects are whole addresses, ages nanoseconds.
struct TraceRecord {
  format::TraceKind kind = format::TraceKind::kEnd;
  uint64_t ns = 0;                   // since the start of the target
  uint32_t thread = format::kNoRow;  // row of the thread table; whose record it is
  uint32_t core = 0;
  uint32_t stack = format::kNoRow;  // row of the stack table
  uint64_t arguments[format::kMostTraceArguments] = {};
  std::string text;  // kLog
};

// Records of all threads in the order of time, as far as that can be told: one that came late has
// the time of the one before it.
class TraceSource {
 public:
  virtual ~TraceSource() = default;
  virtual bool next(TraceRecord& record) = 0;  // false: that was all
};

}  // namespace mprof::dumper
