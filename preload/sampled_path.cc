// SPDX-License-Identifier: Apache-2.0
#include "preload/sampled_path.h"

#include "format/record.h"
#include "format/weights.h"
#include "preload/buckets.h"
#include "preload/clock.h"
#include "preload/control.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/lifecycle.h"
#include "preload/live_index.h"
#include "preload/real.h"
#include "preload/trace.h"

namespace mprof::preload {
namespace {

using format::HeapSample;
using format::kNoRow;
using format::Lost;

void bump(std::atomic<uint64_t>& own_counter, uint64_t by = 1) {
  own_counter.store(own_counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

// With rate 1 every 64th sample is measured, else each.
bool measure_this(const format::ThreadRow* row) {
  return heap_rate.load(std::memory_order_relaxed) > 64 ||
         (row->samples.load(std::memory_order_relaxed) & 63) == 0;
}

void record_allocation(ThreadBlock* thread, uint32_t bucket, const HeapSample& sample,
                       uint64_t now) {
  const bool weighted = sample.weight != format::kWeightOne;
  const auto words = static_cast<uint8_t>(weighted ? 4 : 3);
  const uint64_t record[4] = {
      format::pack_record_word(
          {format::RecordKind::kAlloc, words, weighted ? format::kWeighted : uint16_t{0}, bucket}),
      now, sample.size_bytes, sample.weight};
  write_event(thread, record, words);
}

void record_free(ThreadBlock* thread, const Detached& freed, uint64_t now) {
  const bool weighted = freed.sample.weight != format::kWeightOne;
  const auto words = static_cast<uint8_t>(weighted ? 5 : 4);
  const uint64_t record[5] = {
      format::pack_record_word({format::RecordKind::kFree, words,
                                weighted ? format::kWeighted : uint16_t{0}, freed.bucket}),
      now, freed.sample.size_bytes, freed.alloc_ticks, freed.sample.weight};
  write_event(thread, record, words);
}

// The block enters the live table before the totals, so that whoever frees it finds it.
bool make_live(ThreadBlock* thread, void* block, uint32_t bucket, const HeapSample& sample,
               uint64_t now) {
  const uint32_t row = live_index.take_row(thread->free_rows);
  if (row == kNoRow) {
    count_lost(Lost::kTableFull);
    return false;
  }
  format::LiveRow* live = tables.live.at(row);
  live->size_bytes = sample.size_bytes;
  live->weight = sample.weight;
  live->ticks = now;
  live->bucket = bucket;
  live->thread = thread->row_number;
  filter_add(block);
  if (live_index.insert(row, block)) return true;
  filter_remove(block);
  live_index.give_row(thread->free_rows, row);
  count_lost(Lost::kContended);
  return false;
}

Detached take_out(ThreadBlock* thread, void* block) {
  Detached out{};
  out.process = process_number;
  out.epoch = operation_epoch();
  format::LiveRow copy;
  switch (live_index.remove(block, &copy, &out.row)) {
    case LiveIndex::Removal::kNotThere: return out;
    case LiveIndex::Removal::kBusy: count_lost(Lost::kFreeContended); return out;
    case LiveIndex::Removal::kRemoved: break;
  }
  filter_remove(block);
  live_index.give_row(thread->free_rows, out.row);
  out.is_sampled = true;
  out.bucket = copy.bucket;
  out.alloc_ticks = copy.ticks;
  out.sample = {copy.size_bytes, copy.weight};
  return out;
}

void sample_allocation(ThreadBlock* thread, void* block, size_t bytes, uint64_t rate,
                       CallSite site) {
  const uint64_t epoch = operation_epoch();
  const uint64_t now = ticks();
  const HeapSample sample{bytes, format::sample_weight(bytes, rate)};
  const uint32_t stack = capture_stack(thread, site);
  const uint32_t bucket =
      find_bucket(format::BucketKind::kHeap, stack, current_labels(), thread->row_number);
  if (bucket == kNoRow) return count_lost(Lost::kTableFull);
  if (!make_live(thread, block, bucket, sample, now)) return;
  if (!add_allocation(bucket, sample, epoch)) {
    take_out(thread, block);  // else its free would be one without an allocation
    return count_lost(Lost::kContended);
  }
  record_allocation(thread, bucket, sample, now);
  if (tracing()) [[unlikely]]
    trace_heap(thread, now, stack);
  if (measure_this(thread->row)) {
    bump(thread->row->cost_ticks, ticks() - now);
    bump(thread->row->cost_measured);
  }
  bump(thread->row->samples);
  if ((thread->row->samples.load(std::memory_order_relaxed) & 1023) == 0) update_clock();
}

void count_free(ThreadBlock* thread, const Detached& freed) {
  if (!add_free(freed.bucket, freed.sample, freed.epoch)) return count_lost(Lost::kContended);
  const uint64_t now = ticks();
  record_free(thread, freed, now);
  if (tracing()) [[unlikely]]
    trace_heap(thread, now, kNoRow);
  bump(thread->row->sampled_frees);
}

// An allocation or free below mprof itself: its own calls do not count; a signal handler's would.
void note_reentry() {
  if (self.inside == Guard::kAtWork) count_lost(Lost::kReentered);
}

// A handler that comes while the next piece is begun must leave that alone.
uint64_t sampled_rate_outside(size_t bytes) {
  const Guard guard(Guard::kAtWork);
  return sampled_rate(bytes);
}

// The thread's block when a free can be noted here and now.
ThreadBlock* own_block_outside() {
  if (self.inside == 0) [[likely]] {
    if (!recording()) return nullptr;
    ThreadBlock* thread = own_block();
    if (thread == nullptr) count_lost(Lost::kFreeContended);
    return thread;
  }
  note_reentry();
  return nullptr;
}

// The same before the free of `block`. A thread that never allocated a sampled block may free one,
// and is registered then; but not for a block that only looks like one to the filter.
ThreadBlock* block_for_free_of(const void* block) {
  if (self.block == nullptr && self.inside == 0 && recording() && !live_index.contains(block))
    return nullptr;
  return own_block_outside();
}

}  // namespace

void on_alloc(void* block, size_t bytes, CallSite site) {
  // Below mprof itself nothing may start or end: a handler can have forked in there.
  if (self.inside != 0) {
    if (heap_rate.load(std::memory_order_relaxed) == 0) return look_soon();
    if (sampled_rate(bytes) != 0) note_reentry();
    return;
  }
  if (is_off()) return stop_sampling();
  if (in_arena(block) || !ready_to_sample()) return look_soon();
  notice_control();
  const uint64_t rate = sampled_rate_outside(bytes);
  if (rate == 0 || block == nullptr || self.paused != 0) return;
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return count_lost(why_no_block());
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  sample_allocation(thread, block, bytes, rate, site);
}

bool on_free(void* block) {
  if (in_arena(block)) return false;
  ThreadBlock* thread = block_for_free_of(block);
  if (thread == nullptr) return true;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  const Detached freed = take_out(thread, block);
  if (freed.is_sampled) count_free(thread, freed);
  return true;
}

Detached detach(void* block) {
  ThreadBlock* thread = block_for_free_of(block);
  if (thread == nullptr) return {};
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  return take_out(thread, block);
}

void finish_free(const Detached& detached) {
  if (!detached.is_sampled) return;
  ThreadBlock* thread = own_block_outside();
  if (thread == nullptr || detached.process != process_number) return;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  count_free(thread, detached);
}

void reattach(void* block, const Detached& detached) {
  if (!detached.is_sampled) return;
  ThreadBlock* thread = own_block_outside();
  if (thread == nullptr || detached.process != process_number) return;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  make_live(thread, block, detached.bucket, detached.sample, detached.alloc_ticks);
}

}  // namespace mprof::preload
