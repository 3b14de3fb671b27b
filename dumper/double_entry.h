// SPDX-License-Identifier: Apache-2.0
// Double entry: each sample went into its bucket, of the heap or of a count, and into a profbuf, so
// where nothing was dropped the events' sums equal the buckets, to the last unit.
//
// Threads that got no profbuf have no events; the target counts what they did.
// A target that was killed may have been between the two: at most one sample of each thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/events.h"

namespace mprof::dumper {

struct EventSums {
  uint64_t alloc_objects = 0;  // 16 fractional bits
  uint64_t alloc_bytes = 0;
  uint64_t free_objects = 0;
  uint64_t free_bytes = 0;
  uint64_t alloc_samples = 0;
  uint64_t free_samples = 0;

  void add(const Event& event);
  bool operator==(const EventSums&) const = default;
};

struct CountEventSums {
  uint64_t count = 0;  // 16 fractional bits
  uint64_t value = 0;
  uint64_t samples = 0;

  void add(const Event& event);
  bool operator==(const CountEventSums&) const = default;
};

// By row.
struct EventBooks {
  std::vector<EventSums> buckets;
  std::vector<CountEventSums> counts;
};

struct DoubleEntry {
  enum class Verdict {
    kEqual,
    kEqualButForKilled,  // a killed target's threads were at work on samples; no more is missing
    kLossExplains,       // exactly as many samples are missing as were counted as lost
    kDifferent,
    kNotChecked,  // the program still runs, or this is a snapshot, which has no events
  };
  Verdict verdict = Verdict::kNotChecked;
  uint64_t buckets = 0;  // those of counts too
  uint64_t different_buckets = 0;
  uint64_t samples = 0;         // in the buckets: allocations, frees, counted events
  int64_t missing_samples = 0;  // in the buckets and not in the events
  uint64_t samples_apart = 0;   // the same without regard to the sign, bucket by bucket
  uint64_t threads_at_work = 0;
  uint64_t without_profbuf = 0;  // events of threads that had none
  std::string first;             // what differs in the first bucket that does
  StreamHealth health;

  [[nodiscard]] bool equal() const { return verdict == Verdict::kEqual; }
  [[nodiscard]] uint64_t known_lost() const { return health.lost() + without_profbuf; }
  // For `mprof info`.
  [[nodiscard]] std::string line(const TickClock& clock) const;
};

// Compares sums of events with the buckets of the dump; `health` is of the same events.
[[nodiscard]] DoubleEntry compare(const Dump& dump, const EventBooks& books, StreamHealth health);

// Reads every event of the dump.
[[nodiscard]] DoubleEntry check_double_entry(const Dump& dump);

}  // namespace mprof::dumper
