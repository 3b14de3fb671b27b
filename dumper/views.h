// SPDX-License-Identifier: Apache-2.0
// The profiles that a dump can be written as, by the names of -p.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/custom_profiles.h"
#include "dumper/heap_profile.h"

namespace mprof::dumper {

// A profile of the program's own. Only the dump knows which there are.
struct CustomView {
  std::string name;
  bool operator==(const CustomView&) const = default;
};
using View = std::variant<HeapView, format::CountKind, CustomView>;

[[nodiscard]] std::string view_name(const View& view);
// The same as a part of a file's name: of a profile of the program's own, each character but
// letters, digits and "._-+" is a percent sign and its number, so that two names never share a
// file, none is one of mprof's, and none leads elsewhere.
[[nodiscard]] std::string file_word(const View& view);

// A comma-separated list. A name that is not one of mprof's is taken for a profile of the
// program's. Throws std::invalid_argument that names what is accepted.
[[nodiscard]] std::vector<View> parse_views(const std::string& list);
// Throws std::runtime_error, with the names that there are.
[[nodiscard]] CustomProfile find_custom(const Dump& dump, const std::string& name);
// The views under the names that the dump has for them.
[[nodiscard]] std::vector<View> resolve(const Dump& dump, const std::vector<View>& views);
// Throws std::runtime_error for one that only the whole time has: the peak, and profiles of the
// program's own, which have no events.
void require_views_of_a_part(const std::vector<View>& views);
// Those that the target recorded.
[[nodiscard]] std::vector<View> recorded_views(const Dump& dump, bool part_of_the_time);

}  // namespace mprof::dumper
