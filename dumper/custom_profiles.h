// SPDX-License-Identifier: Apache-2.0
// The profiles of the program's own (mprof.h), by their names.
//
// Twins     Threads that make one name at once may leave two rows of it; they are one profile.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

[[nodiscard]] constexpr bool is_custom(format::CountKind kind) {
  return kind >= format::CountKind::kFirstCustom;
}

struct CustomProfile {
  std::string name;
  format::CountKind kind{};
};

// In the order in which they were made, each name once.
class CustomProfiles {
 public:
  explicit CustomProfiles(const Dump& dump);

  [[nodiscard]] const std::vector<CustomProfile>& all() const& { return profiles_; }
  [[nodiscard]] std::vector<CustomProfile> all() && { return std::move(profiles_); }
  // nullptr: there is none of that name.
  [[nodiscard]] const CustomProfile* find(const std::string& name) const;
  // The profile that the rows of a kind belong to: another one of two twins, else itself.
  [[nodiscard]] format::CountKind first_of(format::CountKind kind) const;

 private:
  std::vector<CustomProfile> profiles_;
  std::vector<format::CountKind> first_of_;  // by row
};

}  // namespace mprof::dumper
