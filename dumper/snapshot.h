// SPDX-License-Identifier: Apache-2.0
// Copies of a dump beside it: one moment of a running target, under a name.
//
// Fails     DumpError with one line: the name, the folder, a target whose dump may not be written.
//           A copy appears whole or not at all.
#pragma once

#include <string>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

// DUMP.NAME.mprof, without the ".mprof" that DUMP may end in.
[[nodiscard]] std::string snapshot_path(const Dump& dump, const std::string& name);

// Gives its path. Nothing is overwritten.
std::string take_snapshot(const Dump& dump, const std::string& name);
// The one that later profiles can be taken since; it replaces the one before.
std::string take_baseline(const Dump& dump);
[[nodiscard]] Dump open_baseline(const Dump& dump);

}  // namespace mprof::dumper
