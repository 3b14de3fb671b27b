// SPDX-License-Identifier: Apache-2.0
// A count bucket: one (kind, stack, label set) of a profile that counts events, with what they
// add up to. All profiles but the heap's are made of these. There can be several rows
// with the same key (shards, and twins of a race): readers add them up.
//
// Roles     Any thread of the target adds, one at a time under `lock`; any reader copies.
// Layout    As in bucket.h: two copies of the totals, the low bit of `version` names the valid
//           one, so a target killed in between leaves no half event.
// Cut       None: these totals only grow, and no row depends on another.
// Ordering  (K) lock: acquire CAS <-> release store. (V) release store of `version` <-> acquire
//           load.
// Signals   A handler that interrupted its own thread inside mprof never gets here.
#pragma once

#include "format/table.h"
#include "format/weights.h"

namespace mprof::format {

// What is counted, and what `value` is.
enum class CountKind : uint32_t {
  kBlock = 1,  // waits, by the waiter's stack; ticks waited
  kMutex = 2,  // releases that somebody waited for, by the releaser's stack; ticks of waiting
  kThreadCreate = 3,  // threads made, by their creator's stack; nothing
  kCpu = 4,           // timer signals, by the interrupted stack; nanoseconds of processor time
  // kFirstCustom + n: things added to the program's own profile, row n of the custom table;
  // how many of them were removed again.
  kFirstCustom = 16,
};

// A profile of the program's own (mprof.h). `name_bytes` is stored last with release.
struct CustomRow {
  std::atomic<uint32_t> name_bytes;
  uint32_t name;  // string, see kStrings
};
static_assert(sizeof(CustomRow) == 8, "both sides agree");

// Sums over events, each weighed by itself. Counts have 16 fractional bits (weights.h).
struct CountTotals {
  uint64_t count;
  uint64_t value;
  uint64_t samples;
  uint64_t longest;       // the largest single value
  double count_variance;  // events^2
  double value_variance;  // ticks^2
};
static_assert(sizeof(CountTotals) == 48, "both sides agree");

struct CountRow {
  std::atomic<uint32_t> kind;  // CountKind; stored last when the row is made, 0 until then
  uint32_t stack;              // kNoRow: no stack, it happened before mprof was there
  uint32_t labels;             // row of the label table, kNoRow for none
  uint32_t next;               // in the target's hash chain: row + 1, 0 ends
  uint32_t shard;              // threads that add at once use rows of their own
  std::atomic<uint32_t> lock;
  std::atomic<uint32_t> version;
  uint32_t reserved;
  CountTotals totals[2];
};
static_assert(sizeof(CountRow) == 128, "both sides agree");

// What one event adds: it stands for `weight` events (16 fractional bits) of `value` each.
struct CountSample {
  uint64_t value;
  uint64_t weight;
};

constexpr void add_to(CountTotals& totals, const CountSample& sample) {
  totals.count += sample.weight;
  totals.value += weighted_value(sample.value, sample.weight);
  totals.samples += 1;
  if (sample.value > totals.longest) totals.longest = sample.value;
  if (sample.weight == kWeightOne) return;
  const double factor = variance_factor(sample.weight);
  const auto value = static_cast<double>(sample.value);
  totals.count_variance += factor;
  totals.value_variance += value * value * factor;
}

}  // namespace mprof::format
