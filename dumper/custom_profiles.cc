// SPDX-License-Identifier: Apache-2.0
#include "dumper/custom_profiles.h"

#include <fmt/format.h>

#include <algorithm>

namespace mprof::dumper {
namespace {

constexpr auto kFirst = static_cast<uint32_t>(format::CountKind::kFirstCustom);

// More than the library makes, and few enough to compare each with all.
constexpr uint32_t kMostRows = 4096;

format::CountKind kind_of(uint32_t row) { return static_cast<format::CountKind>(kFirst + row); }

}  // namespace

CustomProfiles::CustomProfiles(const Dump& dump) {
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kCustoms));
  if (rows > kMostRows)
    dump.add_damage(
        fmt::format("custom table: {} rows; only the first {} are looked at", rows, kMostRows));
  for (uint32_t row = 0; row < std::min(rows, kMostRows); ++row) {
    first_of_.push_back(kind_of(row));
    const auto name = dump.custom(row);
    if (!name) continue;
    if (const CustomProfile* twin = find(*name))
      first_of_.back() = twin->kind;
    else
      profiles_.push_back({*name, kind_of(row)});
  }
}

const CustomProfile* CustomProfiles::find(const std::string& name) const {
  const auto found = std::find_if(profiles_.begin(), profiles_.end(),
                                  [&](const CustomProfile& p) { return p.name == name; });
  return found == profiles_.end() ? nullptr : &*found;
}

format::CountKind CustomProfiles::first_of(format::CountKind kind) const {
  const uint32_t row = static_cast<uint32_t>(kind) - kFirst;
  return is_custom(kind) && row < first_of_.size() ? first_of_[row] : kind;
}

}  // namespace mprof::dumper
