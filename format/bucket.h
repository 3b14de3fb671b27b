// SPDX-License-Identifier: Apache-2.0
// A bucket: one (kind, stack, label set) and its totals. Go's `bucket` with its `memRecord`. There
// can be several rows with the same key (shards, and twins of a race): readers add them up.
//
// Roles     Any thread of the target adds, one at a time under `lock`; any reader copies.
// Layout    Two copies of the totals; the low bit of `version` names the one that is valid. A
//           writer fills the other copy and then adds one to `version`, so a target killed in
//           between leaves the totals as they were before its sample, never half a sample.
// Cut       A reader adds one to Control::cut_epoch. From then on the first change of a bucket
//           keeps the totals as they were in `at_cut`. An operation belongs to the epoch that it
//           read at its begin: an allocation reads it after the real malloc, a free before the
//           real free. So no cut holds a free without its allocation.
// Peak      DumpHeader::peak_epoch is odd while the heap is at its highest: the totals are the
//           peak. The first free after that makes it even; from then on a bucket's first change
//           keeps its totals in `at_peak`. A bucket whose epoch is another one has not changed
//           since: its totals are its value at the peak. The heap at its peak so costs O(1) a
//           sample. With several threads, samples in flight at the peak may be on either side.
// Saved     The words `cut_epoch` and `peak_epoch` are stored after the copy they speak of: in the
//           dump of a killed target, an equal epoch means a whole copy. A reader beside a running
//           target also looks at `saved_version`, odd while one of the copies is written.
// Ordering  (K) lock: acquire CAS <-> release store. (V) release store of `version` <-> acquire
//           load. (W) the same for `saved_version`.
// Signals   A handler that interrupted its own thread inside mprof never gets here.
#pragma once

#include "format/table.h"

namespace mprof::format {

enum class BucketKind : uint32_t { kHeap = 1, kMmap = 2 };

// Sums over samples, each weighed by itself (weights.h). Objects have 16 fractional bits.
struct HeapTotals {
  uint64_t alloc_objects;
  uint64_t alloc_bytes;
  uint64_t free_objects;
  uint64_t free_bytes;
  uint64_t alloc_samples;
  uint64_t free_samples;
  double alloc_objects_variance;  // objects^2
  double alloc_bytes_variance;    // bytes^2
  double free_objects_variance;
  double free_bytes_variance;
};
static_assert(sizeof(HeapTotals) == 80, "both sides agree");

struct BucketRow {
  std::atomic<uint32_t> kind;  // BucketKind; stored last when the row is made, 0 until then
  uint32_t stack;
  uint32_t labels;  // row of the label table, kNoRow for none
  uint32_t next;    // row + 1 of the next older bucket of the same stack, 0 ends
  uint32_t shard;   // threads that add at once use buckets of their own; readers add them up
  alignas(kCacheLine) std::atomic<uint32_t> lock;
  std::atomic<uint32_t> version;
  std::atomic<uint64_t> peak_epoch;  // of at_peak
  std::atomic<uint64_t> cut_epoch;   // of at_cut
  std::atomic<uint64_t> saved_version;
  HeapTotals totals[2];
  HeapTotals at_cut;
  HeapTotals at_peak;
};
static_assert(sizeof(BucketRow) == 448, "both sides agree");

// What one sample adds.
struct HeapSample {
  uint64_t size_bytes;
  uint64_t weight;  // weights.h
};

}  // namespace mprof::format
