// SPDX-License-Identifier: Apache-2.0
#include "dumper/double_entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <utility>

#include "format/weights.h"

namespace mprof::dumper {
namespace {

EventSums sums_of(const format::HeapTotals& totals) {
  return {totals.alloc_objects, totals.alloc_bytes,   totals.free_objects,
          totals.free_bytes,    totals.alloc_samples, totals.free_samples};
}

// Of a difference modulo 2^64.
uint64_t magnitude(uint64_t difference) { return std::min(difference, uint64_t{0} - difference); }

CountEventSums sums_of(const format::CountTotals& totals) {
  return {totals.count, totals.value, totals.samples};
}

// `missing`: of each sum of samples, bucket minus events modulo 2^64.
void note_row(uint64_t samples, std::initializer_list<uint64_t> missing, DoubleEntry& out) {
  out.samples += samples;
  for (const uint64_t difference : missing) {
    out.missing_samples =
        static_cast<int64_t>(static_cast<uint64_t>(out.missing_samples) + difference);
    out.samples_apart += magnitude(difference);
  }
}

std::string describe(uint32_t row, const EventSums& b, const EventSums& e) {
  return fmt::format(
      "bucket {} has {} allocations and {} frees sampled, {} and {} bytes; its events have {} and "
      "{}, {} and {} bytes",
      row, b.alloc_samples, b.free_samples, b.alloc_bytes, b.free_bytes, e.alloc_samples,
      e.free_samples, e.alloc_bytes, e.free_bytes);
}

std::string describe(uint32_t row, const CountEventSums& b, const CountEventSums& e) {
  return fmt::format("count row {} has {} events of {} ticks; the profbufs have {} of {}", row,
                     b.samples, b.value, e.samples, e.value);
}

void note_samples(const EventSums& bucket, const EventSums& events, DoubleEntry& out) {
  note_row(bucket.alloc_samples + bucket.free_samples,
           {bucket.alloc_samples - events.alloc_samples, bucket.free_samples - events.free_samples},
           out);
}

void note_samples(const CountEventSums& bucket, const CountEventSums& events, DoubleEntry& out) {
  note_row(bucket.samples, {bucket.samples - events.samples}, out);
}

template <class Sums>
void compare_row(uint32_t row, const Sums& bucket, const Sums& events, DoubleEntry& out) {
  ++out.buckets;
  note_samples(bucket, events, out);
  if (bucket == events) return;
  ++out.different_buckets;
  if (out.first.empty()) out.first = describe(row, bucket, events);
}

// `read` gives the bucket of a row, or nothing.
template <class Sums, class Read>
void compare_table(uint64_t rows, const std::vector<Sums>& books, const Read& read,
                   DoubleEntry& out) {
  const auto end = static_cast<uint32_t>(std::max<uint64_t>(rows, books.size()));
  for (uint32_t row = 0; row < end; ++row) {
    const auto bucket = read(row);
    const Sums events = row < books.size() ? books[row] : Sums{};
    if (bucket || events != Sums{})
      compare_row(row, bucket ? sums_of(bucket->totals) : Sums{}, events, out);
  }
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
  if (entry.known_lost() == 0 && entry.samples_apart <= slack && all_lack_samples)
    return Verdict::kEqualButForKilled;
  const uint64_t unexplained =
      magnitude(static_cast<uint64_t>(entry.missing_samples) - entry.known_lost());
  if (entry.known_lost() != 0 && only_loss_is_wrong && unexplained <= slack)
    return Verdict::kLossExplains;
  return Verdict::kDifferent;
}

std::string since(const DoubleEntry& entry, const TickClock& clock) {
  const uint64_t ticks = entry.health.first_lost_ticks;
  if (ticks == 0) return "";
  return fmt::format(", since {:.3f} s after the start",
                     static_cast<double>(clock.since_start_ns(ticks)) / 1e9);
}

std::string of_no_profbuf(const DoubleEntry& entry) {
  if (entry.without_profbuf == 0) return "";
  return fmt::format(" ({} of threads without a profbuf)", entry.without_profbuf);
}

uint64_t lost_without_profbuf(const Dump& dump) {
  const auto reason = static_cast<size_t>(format::Lost::kNoProfbuf);
  return dump.header().lost[reason].load(std::memory_order_relaxed);
}

// What happened before mprof was there has a row and no event; neither has a profile of the
// program's own.
bool has_events(const CountCopy& count) {
  return count.stack != format::kNoRow && count.kind < format::CountKind::kFirstCustom;
}

std::optional<CountCopy> count_with_events(const Dump& dump, uint32_t row) {
  auto count = dump.count(row);
  return count && has_events(*count) ? std::move(count) : std::nullopt;
}

// Events of rows that the dump does not have are summed in a row behind the last one.
template <class Sums>
Sums& sums_at(std::vector<Sums>& rows, uint32_t row) {
  return rows[std::min<size_t>(row, rows.size() - 1)];
}

}  // namespace

void EventSums::add(const Event& event) {
  const bool alloc = event.kind == format::RecordKind::kAlloc;
  (alloc ? alloc_objects : free_objects) += event.weight;
  (alloc ? alloc_bytes : free_bytes) += event.bytes;
  (alloc ? alloc_samples : free_samples) += 1;
}

void CountEventSums::add(const Event& event) {
  count += event.weight;
  value += format::weighted_value(event.value, event.weight);
  samples += 1;
}

std::string DoubleEntry::line(const TickClock& clock) const {
  switch (verdict) {
    case Verdict::kNotChecked: return "not checked: done for the dump of a program that has ended";
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
          "events lack {} of {} samples, as many as were counted as dropped{}{}; the "
          "totals have them",
          missing_samples, samples, since(*this, clock), of_no_profbuf(*this));
    case Verdict::kDifferent: break;
  }
  return fmt::format(
      "events and buckets differ in {} of {} buckets: {} of {} samples are not in "
      "the events, {} were counted as dropped{}; first: {}",
      different_buckets, buckets, missing_samples, samples, known_lost(), since(*this, clock),
      first);
}

DoubleEntry compare(const Dump& dump, const EventBooks& books, StreamHealth health) {
  DoubleEntry entry;
  entry.health = std::move(health);
  entry.threads_at_work = threads_at_work(dump);
  entry.without_profbuf = lost_without_profbuf(dump);
  compare_table(
      dump.rows(format::TableId::kBuckets), books.buckets,
      [&](uint32_t row) { return dump.bucket(row); }, entry);
  compare_table(
      dump.rows(format::TableId::kCounts), books.counts,
      [&](uint32_t row) { return count_with_events(dump, row); }, entry);
  entry.verdict = dump.header().snapshot_epoch != 0 ? DoubleEntry::Verdict::kNotChecked
                                                    : verdict_of(entry, dump.life());
  return entry;
}

DoubleEntry check_double_entry(const Dump& dump) {
  EventBooks books;
  books.buckets.resize(dump.rows(format::TableId::kBuckets) + 1);
  books.counts.resize(dump.rows(format::TableId::kCounts) + 1);
  StreamHealth health = read_events(dump, [&](const Event& event) {
    if (event.is_of_heap()) sums_at(books.buckets, event.row).add(event);
    if (event.kind == format::RecordKind::kCounted) sums_at(books.counts, event.row).add(event);
  });
  return compare(dump, books, std::move(health));
}

}  // namespace mprof::dumper
