// SPDX-License-Identifier: Apache-2.0
// Names for what the steps of a trace refer to by number: stacks, threads, labels.
//
// Memory    grows with the number of different stacks, not with the length of the trace.
// Fails     never: what has no name is shown by its address.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

struct TraceFrame {
  uint64_t pc = 0;  // never 0; each inlined level has a number of its own
  std::string function;
  std::string file;
  uint32_t line = 0;
};

class TraceNames {
 public:
  TraceNames(const Dump& dump, Symbolizer& symbolizer) : dump_(dump), symbolizer_(symbolizer) {}

  // Leaf first, inlined frames expanded; empty for kNoRow. Valid as long as this object.
  const std::vector<TraceFrame>& stack(uint32_t row);
  // Where a thread began to run: the function that it was made with, or one named after the thread
  // when that is not known. One frame.
  std::vector<TraceFrame> start_of(uint32_t thread_row);
  // As the program named it, else "thread".
  std::string thread_name(uint32_t thread_row);
  uint32_t tid(uint32_t thread_row);
  // "key=value, key=value" of a label set.
  std::string labels(uint32_t set);
  // The lock at an address, as `mprof locks` names it; empty when it is no global.
  std::string object(uint64_t address);

 private:
  const Dump& dump_;
  Symbolizer& symbolizer_;
  std::unordered_map<uint32_t, std::vector<TraceFrame>> stacks_;
};

}  // namespace mprof::dumper
