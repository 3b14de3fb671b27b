// SPDX-License-Identifier: Apache-2.0
// Names for what the steps of a trace refer to by number: stacks, threads, labels.
//
// Memory    grows with the number of different stacks, not with the length of the trace.
// Fails     never: what has no name is shown by its address.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/label_names.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

struct TraceFrame {
  uint64_t pc = 0;  // never 0; each inlined level has a number of its own
  std::string function;
  std::string file;
  uint32_t line = 0;
};

// "function file:line", or what of it is known.
[[nodiscard]] std::string site_text(const TraceFrame& frame);

inline constexpr const char* kUnnamedThread = "thread";

class TraceNames {
 public:
  static constexpr size_t kMostFrames = 100;
  static constexpr size_t kMostNameBytes = 1024;  // the last ones are kept

  TraceNames(const Dump& dump, Symbolizer& symbolizer, SymbolDetail detail = SymbolDetail::kFull);

  // Leaf first, inlined frames expanded; empty for kNoRow. Valid as long as this object.
  const std::vector<TraceFrame>& stack(uint32_t row);
  // Where a thread began to run: the function that it was made with, or one named after the thread
  // when that is not known. One frame.
  std::vector<TraceFrame> start_of(uint32_t thread_row);
  // As the program named it, else kUnnamedThread.
  std::string thread_name(uint32_t thread_row);
  // The same, or the function that it began with.
  std::string thread_title(uint32_t thread_row);
  uint32_t tid(uint32_t thread_row);
  // "key=value, key=value" of a label set.
  std::string labels(uint32_t set);
  // The lock at an address, as `mprof locks` names it; empty when it is no global.
  std::string object(uint64_t address);

  // Of no place in the program.
  TraceFrame frame(std::string_view name);
  // The zero-terminated text at a row of the string table.
  const std::string& text(uint64_t row);

 private:
  void add_frames(const FrameRow& row, std::vector<TraceFrame>& out);
  [[nodiscard]] const ModuleCopy* module(uint32_t row);
  [[nodiscard]] uint64_t pc_of(uint32_t module, uint64_t pc);
  [[nodiscard]] uint64_t made_up_pc(const std::string& key);
  [[nodiscard]] uint32_t module_at(uint64_t address);
  [[nodiscard]] std::vector<SymbolFrame> symbols(uint32_t module, uint64_t address);

  const Dump& dump_;
  Symbolizer& symbolizer_;
  SymbolDetail detail_;
  LabelNames labels_;
  MemoryBudget budget_;
  std::string program_;
  std::unordered_map<uint32_t, std::vector<TraceFrame>> stacks_;
  std::unordered_map<uint32_t, std::optional<ModuleCopy>> modules_;
  std::unordered_map<uint64_t, uint32_t> module_of_pc_;  // who came first
  std::unordered_map<std::string, uint64_t> made_up_;
  std::unordered_map<uint64_t, std::string> texts_;
  std::unordered_map<uint64_t, std::string> objects_;
};

}  // namespace mprof::dumper
