// SPDX-License-Identifier: Apache-2.0
// The profiles that a dump can be written as, by the names of -p.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/heap_profile.h"

namespace mprof::dumper {

using View = std::variant<HeapView, format::CountKind>;

[[nodiscard]] const char* view_name(View view);
// A comma-separated list. Throws std::invalid_argument that names what is accepted.
[[nodiscard]] std::vector<View> parse_views(const std::string& list);
// Those that the target recorded. A part of the time has no peak.
[[nodiscard]] std::vector<View> recorded_views(const Dump& dump, bool part_of_the_time);

}  // namespace mprof::dumper
