// SPDX-License-Identifier: Apache-2.0
// The buckets of a dump as heap, allocs and peak profiles.
//
// Estimates Values are sums of weighed samples (format/weights.h), each with its variance. Objects
//           have 16 fractional bits in the dump; they are rounded along the running sum, so the
//           total of a profile is the rounded total and not a sum of rounding errors.
// Lost      A lost sample stands for an unknown number of blocks, so losses are comments. At rate
//           1 it is exactly one block, and a "[lost: reason]" sample counts it as allocated.
// Labels    Anonymous mappings (MPROF_MMAP=1) are part of the heap profile under the label
//           kind=mmap. Labels of the program come with their own names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/cut.h"
#include "dumper/dump_reader.h"
#include "dumper/profile.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

enum class HeapView { kHeap, kAllocs, kPeak };
inline constexpr HeapView kHeapViews[] = {HeapView::kHeap, HeapView::kAllocs, HeapView::kPeak};
[[nodiscard]] const char* view_name(HeapView view);
// A comma-separated list. Throws std::invalid_argument that names what is accepted.
[[nodiscard]] std::vector<HeapView> parse_views(const std::string& list);

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

struct Estimate {
  double value = 0;
  double standard_error = 0;
};
struct HeapSums {
  Estimate alloc_objects, alloc_bytes;
  Estimate live_objects, live_bytes;
  Estimate peak_objects, peak_bytes;
  uint64_t alloc_samples = 0;
  uint64_t free_samples = 0;
};
[[nodiscard]] HeapSums sum(const HeapReading& reading);

// A profile before it has names: where each of its locations lies in which file.
struct CodePlace {
  ModuleRef module;
  uint64_t vaddr = 0;
  bool known = false;
};
struct HeapProfile {
  Profile profile;
  std::vector<CodePlace> places;  // of each location
};

[[nodiscard]] HeapProfile make_profile(const Dump& dump, const HeapReading& reading, HeapView view);

// Gives the locations their functions and lines, and adds a comment for each module without.
void symbolize(HeapProfile& profile, Symbolizer& symbolizer, SymbolDetail detail);

}  // namespace mprof::dumper
