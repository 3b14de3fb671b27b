// SPDX-License-Identifier: Apache-2.0
// A consistent cut: all buckets as they were at one moment of a running target.
//
// How       The cut epoch is moved; a memory barrier in every thread makes sure that a thread
//           either sees the new epoch or shows that it is inside; each thread that was inside is
//           waited for. From then on format/bucket.h keeps what the moment held.
// Blocks    up to a second, if a thread stays inside (stopped, swapped out).
#pragma once

#include <cstdint>
#include <string>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

enum class CutMode {
  kEnded,     // the target has ended; nothing moves any more
  kSnapshot,  // the dump is a copy that has the totals of one cut
  kCut,       // a consistent cut was taken
  kReadOnly,  // running, and this user may not write the dump: rows are read one after another
};

struct Cut {
  CutMode mode = CutMode::kEnded;
  uint64_t epoch = 0;
  uint32_t threads_inside = 0;  // were still inside when the waiting ended
};

[[nodiscard]] Cut take_cut(const Dump& dump);
// False when another reader moved the epoch on, so that buckets may no longer hold this cut.
[[nodiscard]] bool still_holds(const Dump& dump, const Cut& cut);
[[nodiscard]] const format::HeapTotals& totals_in(const Cut& cut, const BucketCopy& bucket);
// For a profile's comment.
[[nodiscard]] std::string describe(const Cut& cut);

}  // namespace mprof::dumper
