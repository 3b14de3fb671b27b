// SPDX-License-Identifier: Apache-2.0
// Profiles of one dump as files.
//
// Fails     std::system_error when a file cannot be written. A file appears whole or not at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dumper/timeline.h"
#include "dumper/views.h"

namespace mprof::dumper {

struct OutputOptions {
  std::vector<View> views;  // empty: what the target recorded
  std::string directory;    // empty: beside the dump
  bool text = false;        // Go's debug=1 text in place of protobuf
  SymbolDetail detail = SymbolDetail::kFull;
};

struct Reading {
  HeapReading heap;
  CountReading counts;
};

// What profiles are to be less: how the same target was before.
struct Baseline {
  Reading reading;
  uint64_t realtime_ns = 0;
};
[[nodiscard]] Baseline read_baseline(Dump& snapshot);

// Looks at the dump anew.
[[nodiscard]] Reading read_whole(Dump& dump);
// The same, or what the journal says about a part of its time.
[[nodiscard]] Reading read_wanted(Dump& dump, const std::optional<TimePoint>& from,
                                  const std::optional<TimePoint>& to);

[[nodiscard]] PlacedProfile make_profile(const Dump& dump, const Reading& reading, const View& view,
                                         LabelNames& names);

// With names; less `since` if that is there.
[[nodiscard]] Profile named_profile(const Dump& dump, const Reading& reading,
                                    const std::optional<Baseline>& since, const View& view,
                                    Symbolizer& symbolizer, SymbolDetail detail);

// Go's debug=1 text.
[[nodiscard]] std::string profile_text(const Profile& profile, const View& view);
// Where the user says: whole or not at all, unless it is a pipe or a device. Never over a dump.
void write_file(const std::string& path, const std::string& bytes);
// What the names of a dump's profiles begin with; in `directory`, or beside the dump for "".
[[nodiscard]] std::string base_path(const Dump& dump, const std::string& directory);

// Writes them and gives the names. One symbolizer serves many dumps: it knows files, not processes.
std::vector<std::string> write_profiles(const Dump& dump, const Reading& reading,
                                        const std::optional<Baseline>& since,
                                        const OutputOptions& options, Symbolizer& symbolizer);

}  // namespace mprof::dumper
