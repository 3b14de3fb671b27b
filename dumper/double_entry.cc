// SPDX-License-Identifier: Apache-2.0
#include "dumper/double_entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mprof::dumper {
namespace {

EventSums sums_of(const format::HeapTotals& totals) {
  return {totals.alloc_objects, totals.alloc_bytes,   totals.free_objects,
          totals.free_bytes,    totals.alloc_samples, totals.free_samples};
}

// Of a difference modulo 2^64.
uint64_t magnitude(uint64_t difference) { return std::min(difference, uint64_t{0} - difference); }

void compare_bucket(uint32_t row, const EventSums& bucket, const EventSums& events,
                    DoubleEntry& out) {
  ++out.buckets;
  out.samples += bucket.alloc_samples + bucket.free_samples;
  if (bucket == events) return;
  ++out.different_buckets;
  const uint64_t allocs = bucket.alloc_samples - events.alloc_samples;  // modulo 2^64
  const uint64_t frees = bucket.free_samples - events.free_samples;
  out.missing_samples =
      static_cast<int64_t>(static_cast<uint64_t>(out.missing_samples) + allocs + frees);
  out.samples_apart += magnitude(allocs) + magnitude(frees);
  if (!out.first) out.first = DoubleEntry::Difference{row, bucket, events};
}

// A thread's `inside` is odd while it works on a sample, for ever if it was killed there.
uint64_t threads_at_work(const Dump& dump) {
  uint64_t count = 0;
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kThreads));
  for (uint32_t row = 0; row < rows; ++row) {
    const auto thread = dump.thread(row);
    count += thread && thread->inside % 2 == 1 ? 1 : 0;
  }
  return count;
}

DoubleEntry::Verdict verdict_of(const DoubleEntry& entry, Life life) {
  using Verdict = DoubleEntry::Verdict;
  if (life == Life::kRunning) return Verdict::kNotChecked;
  if (entry.different_buckets == 0) return Verdict::kEqual;
  const uint64_t slack = life == Life::kEndedWithoutCleanEnd ? entry.threads_at_work : 0;
  const bool only_loss_is_wrong = entry.health.gaps == 0 && entry.health.damaged_records == 0;
  // A difference in bytes alone is no missing sample.
  const bool all_lack_samples = entry.samples_apart >= entry.different_buckets;
  if (entry.health.lost() == 0 && entry.samples_apart <= slack && all_lack_samples)
    return Verdict::kEqualButForKilled;
  const uint64_t unexplained =
      magnitude(static_cast<uint64_t>(entry.missing_samples) - entry.health.lost());
  if (entry.health.lost() != 0 && only_loss_is_wrong && unexplained <= slack)
    return Verdict::kLossExplains;
  return Verdict::kDifferent;
}

std::string since(const DoubleEntry& entry, const TickClock& clock) {
  const uint64_t ticks = entry.health.first_lost_ticks;
  if (ticks == 0) return "";
  return fmt::format(", since {:.3f} s after the start",
                     static_cast<double>(clock.since_start_ns(ticks)) / 1e9);
}

std::string first_difference(const DoubleEntry& entry) {
  const EventSums& b = entry.first->in_bucket;
  const EventSums& e = entry.first->in_events;
  return fmt::format(
      "bucket {} has {} allocations and {} frees sampled, {} and {} bytes; its events have {} and "
      "{}, {} and {} bytes",
      entry.first->bucket, b.alloc_samples, b.free_samples, b.alloc_bytes, b.free_bytes,
      e.alloc_samples, e.free_samples, e.alloc_bytes, e.free_bytes);
}

}  // namespace

void EventSums::add(const Event& event) {
  const bool alloc = event.kind == format::RecordKind::kAlloc;
  (alloc ? alloc_objects : free_objects) += event.weight;
  (alloc ? alloc_bytes : free_bytes) += event.bytes;
  (alloc ? alloc_samples : free_samples) += 1;
}

std::string DoubleEntry::line(const TickClock& clock) const {
  switch (verdict) {
    case Verdict::kNotChecked: return "not checked yet; done when the program has ended";
    case Verdict::kEqual:
      return fmt::format("events equal the {} buckets to the last unit ({} samples)", buckets,
                         samples);
    case Verdict::kEqualButForKilled:
      return fmt::format(
          "events equal the {} buckets but for {} samples that {} threads were "
          "working on when the program was killed",
          buckets, samples_apart, threads_at_work);
    case Verdict::kLossExplains:
      return fmt::format(
          "events lack {} of {} samples, as many as were counted as dropped{}; the "
          "totals have them",
          missing_samples, samples, since(*this, clock));
    case Verdict::kDifferent: break;
  }
  return fmt::format(
      "events and buckets differ in {} of {} buckets: {} of {} samples are not in "
      "the events, {} were counted as dropped{}; first: {}",
      different_buckets, buckets, missing_samples, samples, health.lost(), since(*this, clock),
      first_difference(*this));
}

DoubleEntry compare(const Dump& dump, const std::vector<EventSums>& sums, StreamHealth health) {
  DoubleEntry entry;
  entry.health = std::move(health);
  entry.threads_at_work = threads_at_work(dump);
  const auto rows =
      static_cast<uint32_t>(std::max<uint64_t>(dump.rows(format::TableId::kBuckets), sums.size()));
  for (uint32_t row = 0; row < rows; ++row) {
    const auto bucket = dump.bucket(row);
    const EventSums events = row < sums.size() ? sums[row] : EventSums{};
    if (bucket || events != EventSums{})
      compare_bucket(row, bucket ? sums_of(bucket->totals) : EventSums{}, events, entry);
  }
  entry.verdict = verdict_of(entry, dump.life());
  return entry;
}

DoubleEntry check_double_entry(const Dump& dump) {
  const uint64_t rows = dump.rows(format::TableId::kBuckets);
  std::vector<EventSums> sums(rows);
  EventSums beyond;  // of buckets that the dump does not have
  StreamHealth health = read_events(dump, [&](const Event& event) {
    if (event.kind == format::RecordKind::kLost) return;
    (event.bucket < rows ? sums[event.bucket] : beyond).add(event);
  });
  if (beyond != EventSums{}) sums.push_back(beyond);
  return compare(dump, sums, std::move(health));
}

}  // namespace mprof::dumper
