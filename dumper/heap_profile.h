// SPDX-License-Identifier: Apache-2.0
// The buckets of a dump as heap, allocs and peak profiles.
//
// Estimates Values are sums of weighed samples, each with its variance; see estimate.h.
// Lost      A lost sample stands for an unknown number of blocks, so losses are comments. At rate
//           1 it is exactly one block, and a "[lost: reason]" sample counts it as allocated.
// Labels    Anonymous mappings (MPROF_MMAP=1) are part of the heap profile under the label
//           kind=mmap. Labels of the program come with their own names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dumper/cut.h"
#include "dumper/dump_reader.h"
#include "dumper/estimate.h"
#include "dumper/placed_profile.h"

namespace mprof::dumper {

enum class HeapView { kHeap, kAllocs, kPeak };
inline constexpr HeapView kHeapViews[] = {HeapView::kHeap, HeapView::kAllocs, HeapView::kPeak};
[[nodiscard]] const char* view_name(HeapView view);

struct BucketReading {
  uint32_t row = 0;
  format::BucketKind kind{};
  uint32_t stack = 0;
  uint32_t labels = format::kNoRow;
  format::HeapTotals totals{};
  format::HeapTotals peak{};  // as the totals were when the heap was at its highest
};

struct HeapReading {
  std::vector<BucketReading> buckets;
  Cut cut;
  bool peak_is_now = false;
  bool peak_moved = false;  // while it was read, so its parts may belong to two peaks
  std::string window;       // non-empty: events of this part of the run only; there is no peak
};

// Looks at the dump anew.
[[nodiscard]] HeapReading read_heap(Dump& dump);

struct HeapSums {
  Estimate alloc_objects, alloc_bytes;
  Estimate live_objects, live_bytes;
  Estimate peak_objects, peak_bytes;
  uint64_t alloc_samples = 0;
  uint64_t free_samples = 0;
};
[[nodiscard]] HeapSums sum(const HeapReading& reading);

[[nodiscard]] PlacedProfile make_profile(const Dump& dump, const HeapReading& reading,
                                         HeapView view);

}  // namespace mprof::dumper
