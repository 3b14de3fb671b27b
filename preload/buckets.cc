// SPDX-License-Identifier: Apache-2.0
#include "preload/buckets.h"

#include "format/stack_table.h"
#include "format/weights.h"
#include "preload/dump_file.h"
#include "preload/keyed_rows.h"
#include "preload/single_thread.h"
#include "preload/spin.h"

namespace mprof::preload {
namespace {

using format::BucketRow;
using format::HeapSample;
using format::HeapTotals;

// What one sample weighs, worked out once.
struct Weighed {
  uint64_t objects;
  uint64_t bytes;
  double objects_variance;
  double bytes_variance;
};

Weighed weigh(const HeapSample& sample) {
  if (sample.weight == format::kWeightOne) return {format::kWeightOne, sample.size_bytes, 0, 0};
  const double factor = format::variance_factor(sample.weight);
  const auto size = static_cast<double>(sample.size_bytes);
  return {sample.weight, format::weighted_bytes(sample.size_bytes, sample.weight), factor,
          size * size * factor};
}

void apply_allocation(HeapTotals& totals, const Weighed& w) {
  totals.alloc_objects += w.objects;
  totals.alloc_bytes += w.bytes;
  totals.alloc_samples += 1;
  totals.alloc_objects_variance += w.objects_variance;
  totals.alloc_bytes_variance += w.bytes_variance;
}

void apply_free(HeapTotals& totals, const Weighed& w) {
  totals.free_objects += w.objects;
  totals.free_bytes += w.bytes;
  totals.free_samples += 1;
  totals.free_objects_variance += w.objects_variance;
  totals.free_bytes_variance += w.bytes_variance;
}

// (K)
bool lock(BucketRow* bucket) {
  return spin_until([&] { return take_if(bucket->lock, 0u, 1u); });
}
void unlock(BucketRow* bucket) { bucket->lock.store(0, std::memory_order_release); }

bool at_peak(uint64_t peak_epoch) { return (peak_epoch & 1) != 0; }

// Writes to at_cut or at_peak, between two steps of saved_version (W).
template <class Write>
void save(BucketRow* bucket, Write&& write) {
  const uint64_t version = bucket->saved_version.load(std::memory_order_relaxed);
  bucket->saved_version.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  write();
  bucket->saved_version.store(version + 2, std::memory_order_release);
}

// An operation of epoch e belongs to every cut after e: into at_cut if that was already taken,
// else the totals as they are become at_cut first when e is the first operation of its epoch.
template <class Apply>
void keep_cut(BucketRow* bucket, const HeapTotals& now, uint64_t epoch, Apply&& apply) {
  const uint64_t kept = bucket->cut_epoch.load(std::memory_order_relaxed);
  if (epoch == kept) return;
  save(bucket, [&] {
    if (epoch < kept) return apply(bucket->at_cut);
    bucket->at_cut = now;
    bucket->cut_epoch.store(epoch, std::memory_order_release);
  });
}

void keep_peak(BucketRow* bucket, const HeapTotals& now) {
  const uint64_t epoch = header->peak_epoch.load(std::memory_order_relaxed);
  if (at_peak(epoch) || bucket->peak_epoch.load(std::memory_order_relaxed) == epoch) return;
  save(bucket, [&] {
    bucket->at_peak = now;
    bucket->peak_epoch.store(epoch, std::memory_order_release);
  });
}

template <class Apply>
bool change(uint32_t number, uint64_t epoch, Apply&& apply) {
  BucketRow* bucket = tables.buckets.at(number);
  if (!lock(bucket)) return false;
  const uint32_t version = bucket->version.load(std::memory_order_relaxed);
  const HeapTotals& now = bucket->totals[version & 1];
  HeapTotals& next = bucket->totals[(version + 1) & 1];
  keep_cut(bucket, now, epoch, apply);
  keep_peak(bucket, now);
  next = now;
  apply(next);
  bucket->version.store(version + 1, std::memory_order_release);  // (V)
  unlock(bucket);
  return true;
}

// The heap reaches a new high: from now on, until the first free, the state is the peak.
void note_growth(int64_t bytes) {
  const int64_t live = add_and_get(header->live_bytes, bytes);
  int64_t peak = header->peak_bytes.load(std::memory_order_relaxed);
  if (live <= peak) return;
  while (live > peak && !replace(header->peak_bytes, peak, live)) {
  }
  uint64_t epoch = header->peak_epoch.load(std::memory_order_relaxed);
  if (!at_peak(epoch)) replace(header->peak_epoch, epoch, epoch + 1);
}

// Before the first free after a new high: buckets that change from now on keep what they had.
void leave_peak() {
  uint64_t epoch = header->peak_epoch.load(std::memory_order_relaxed);
  if (at_peak(epoch)) replace(header->peak_epoch, epoch, epoch + 1);
}

// Buckets without labels lie in the chain of their stack. One stack may have any number of buckets
// with labels: these have chains of their own, in anonymous memory; a link is row + 1.
constexpr uint32_t kLabelledHeads = 1u << 14;
std::atomic<uint32_t>* labelled_heads;

// A program that labels without end must not fill the disk with buckets: after so many a new one
// has no labels.
constexpr uint64_t kMostBelowLabelled = 1u << 16;

std::atomic<uint32_t>& head_of(const RowKey& key) {
  if (key.labels == format::kNoRow) return tables.stack_nodes.at(key.stack)->first_bucket;
  const uint64_t words = (uint64_t{key.stack} << 32 | key.labels) + key.kind * 0x9e3779b1u;
  return labelled_heads[(mix(words) + key.shard) % kLabelledHeads];
}

uint32_t find(const RowKey& key) {
  return find_keyed_row(tables.buckets, head_of(key).load(std::memory_order_acquire), key);  // (C)
}

}  // namespace

bool buckets_init() {
  labelled_heads = static_cast<std::atomic<uint32_t>*>(map_anonymous(buckets_index_bytes()));
  return labelled_heads != nullptr;
}

size_t buckets_index_bytes() { return kLabelledHeads * sizeof(uint32_t); }

uint32_t find_bucket(format::BucketKind kind, uint32_t stack, uint32_t labels, uint32_t thread) {
  if (stack == format::kNoRow) return format::kNoRow;
  RowKey key{static_cast<uint32_t>(kind), stack, labels, shard_of(thread)};
  if (labels != format::kNoRow && tables.buckets.used() >= kMostBelowLabelled) {
    const uint32_t known = find(key);
    if (known != format::kNoRow) return known;
    count_lost(format::Lost::kLabelsFull);
    key.labels = format::kNoRow;
  }
  return find_or_make_row(tables.buckets, format::TableId::kBuckets, head_of(key), key);
}

uint64_t operation_epoch() { return header->control.cut_epoch.load(std::memory_order_acquire); }

bool add_allocation(uint32_t bucket, const HeapSample& sample, uint64_t epoch) {
  const Weighed w = weigh(sample);
  if (!change(bucket, epoch, [&](HeapTotals& totals) { apply_allocation(totals, w); }))
    return false;
  note_growth(static_cast<int64_t>(w.bytes));
  return true;
}

bool add_free(uint32_t bucket, const HeapSample& sample, uint64_t epoch) {
  const Weighed w = weigh(sample);
  leave_peak();
  if (!change(bucket, epoch, [&](HeapTotals& totals) { apply_free(totals, w); })) return false;
  add_and_get(header->live_bytes, -static_cast<int64_t>(w.bytes));
  return true;
}

}  // namespace mprof::preload
