// SPDX-License-Identifier: Apache-2.0
// Profiles of one dump as files.
//
// Fails     std::system_error when a file cannot be written. A file appears whole or not at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dumper/heap_profile.h"
#include "dumper/timeline.h"

namespace mprof::dumper {

struct OutputOptions {
  std::vector<HeapView> views = {HeapView::kHeap};
  std::string directory;  // empty: beside the dump
  bool text = false;      // Go's debug=1 text in place of protobuf
  SymbolDetail detail = SymbolDetail::kFull;
};

// The heap of the dump, or what the journal says about a part of its time.
[[nodiscard]] HeapReading read_wanted(Dump& dump, const std::optional<TimePoint>& from,
                                      const std::optional<TimePoint>& to);

// Writes them and gives the names. One symbolizer serves many dumps: it knows files, not processes.
std::vector<std::string> write_profiles(const Dump& dump, const HeapReading& reading,
                                        const OutputOptions& options, Symbolizer& symbolizer);

}  // namespace mprof::dumper
