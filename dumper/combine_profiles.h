// SPDX-License-Identifier: Apache-2.0
// Sums and differences of profiles, by the rules of pprof.
//
// Same      Two samples are the same when their stacks and labels are. Two locations are the same
//           when functions, files, lines, mapping and the address within the mapping are; so runs
//           with address space randomization add up. Two mappings are the same when build id (else
//           path), file offset and size are. A mapping without a name (generated code) is only the
//           same at the same place.
// Threads   any.
// Fails     std::invalid_argument with one line: what the profiles disagree about.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "dumper/profile.h"

namespace mprof::dumper {

// A sum that grows profile by profile: it holds distinct rows only, so that thousands of files can
// be added one after the other.
class ProfileSum {
 public:
  ProfileSum();
  ~ProfileSum();
  ProfileSum(const ProfileSum&) = delete;
  ProfileSum& operator=(const ProfileSum&) = delete;

  // Value types and period type must be those of the first one. Rows that no sample names are left
  // out. Time: the earliest; duration: the sum; period: the largest; comments: each once;
  // drop_frames and keep_frames: of the first.
  void add(const Profile& profile);
  // The same with the values negated, for differences. `mark` puts the label pprof::base=true on.
  void subtract(const Profile& profile, bool mark);
  // Without the samples that came out as zero.
  [[nodiscard]] Profile take();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Throws unless the types of values and period are the same.
void require_same_types(const Profile& a, const Profile& b);

[[nodiscard]] Profile merge(std::span<const Profile> profiles);

// profile - base.
enum class SubtractMode {
  // Percentages of a report refer to the difference (pprof -base); the duration is what `profile`
  // has beyond `base`, as for two states of one process.
  kDifference,
  // Base samples stay apart under the label pprof::base=true, and percentages refer to the base
  // (pprof -diff_base); time and duration are those of a sum.
  kMarkBase
};
[[nodiscard]] Profile subtract(const Profile& profile, const Profile& base,
                               SubtractMode mode = SubtractMode::kDifference);

// Multiplies the values so that each type's total becomes that of `target` (pprof -normalize), and
// says by how much. A total of 0 cannot be scaled: its values become 0.
std::vector<double> scale_to_total(Profile& profile, const Profile& target);

}  // namespace mprof::dumper
