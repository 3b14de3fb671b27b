// SPDX-License-Identifier: Apache-2.0
#include "preload/live_index.h"

#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/single_thread.h"
#include "preload/spin.h"

namespace mprof::preload {

using format::kNoRow;
using format::LiveRow;

constinit LiveIndex live_index;

bool LiveIndex::init(uint32_t heads) {
  heads_ = static_cast<std::atomic<uint32_t>*>(map_anonymous(heads * sizeof(uint32_t)));
  mask_ = heads - 1;
  batches_.store(0, std::memory_order_relaxed);
  return heads_ != nullptr;
}

std::atomic<uint32_t>& LiveIndex::head_of(const void* block) const {
  // Neighbours in memory are neighbours here: a program that goes through its blocks in order finds
  // the heads in its cache. Regions 16 MiB apart are spread.
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  return heads_[((address >> 4) + mix(address >> 24)) & mask_];
}

uint32_t LiveIndex::take_row(LiveFreeList& own) {
  if (own.first == 0 && !pop_batch(own)) return claim_row(tables.live, format::TableId::kLive);
  const uint32_t row = own.first - 1;
  own.first = tables.live.at(row)->next;
  --own.count;
  return row;
}

void LiveIndex::give_row(LiveFreeList& own, uint32_t row) {
  tables.live.at(row)->next = own.first;
  own.first = row + 1;
  // With one thread they are all its own.
  if (++own.count >= 2 * kBatchRows && !single_threaded()) push_batch(own);
}

void LiveIndex::give_all(LiveFreeList& own) {
  while (own.count != 0) push_batch(own);
}

namespace {

std::atomic_ref<uint32_t> batch_below(LiveRow* row) { return std::atomic_ref(row->batch); }

}  // namespace

// Moves up to kBatchRows rows of `own` to the global list, as one entry.
void LiveIndex::push_batch(LiveFreeList& own) {
  const uint32_t first = own.first;
  uint32_t last = first;
  uint32_t moved = 1;
  for (; moved < kBatchRows && moved < own.count; ++moved) last = tables.live.at(last - 1)->next;
  own.first = tables.live.at(last - 1)->next;
  own.count -= moved;
  tables.live.at(last - 1)->next = 0;
  LiveRow* head_row = tables.live.at(first - 1);
  head_row->size_bytes = moved;  // read by the one that pops it
  uint64_t top = batches_.load(std::memory_order_relaxed);
  uint64_t changed;
  do {
    batch_below(head_row).store(static_cast<uint32_t>(top), std::memory_order_relaxed);
    changed = ((top >> 32) + 1) << 32 | first;
  } while (!batches_.compare_exchange_weak(top, changed, std::memory_order_release,
                                           std::memory_order_relaxed));  // (G)
}

bool LiveIndex::pop_batch(LiveFreeList& own) {
  uint64_t top = batches_.load(std::memory_order_acquire);  // (G)
  uint64_t changed;
  do {
    if (static_cast<uint32_t>(top) == 0) return false;
    // May read a row that another thread has taken meanwhile; then the tag has changed.
    const uint32_t below =
        batch_below(tables.live.at(static_cast<uint32_t>(top) - 1)).load(std::memory_order_relaxed);
    changed = ((top >> 32) + 1) << 32 | below;
  } while (!batches_.compare_exchange_weak(top, changed, std::memory_order_acquire,
                                           std::memory_order_acquire));
  own.first = static_cast<uint32_t>(top);
  own.count = static_cast<uint32_t>(tables.live.at(own.first - 1)->size_bytes);
  return true;
}

namespace {

// (H). On success `link` is the chain's first row + 1.
bool lock_chain(std::atomic<uint32_t>& head, uint32_t locked_bit, uint32_t* link) {
  return spin_until([&] {
    *link = head.load(std::memory_order_relaxed) & ~locked_bit;
    return take_if(head, *link, *link | locked_bit);
  });
}

// Where a block's row is in a locked chain; `live` is null if it is not there.
struct Place {
  LiveRow* live;
  LiveRow* previous;
  uint32_t row;
};

Place place_in_chain(uint32_t link, const void* block) {
  const auto address = reinterpret_cast<uintptr_t>(block);
  LiveRow* previous = nullptr;
  while (link != 0) {
    LiveRow* live = tables.live.at(link - 1);
    if (live->address.load(std::memory_order_relaxed) == address) return {live, previous, link - 1};
    previous = live;
    link = live->next;
  }
  return {nullptr, nullptr, kNoRow};
}

void copy_values(const LiveRow& from, LiveRow* to) {
  to->size_bytes = from.size_bytes;
  to->weight = from.weight;
  to->ticks = from.ticks;
  to->bucket = from.bucket;
}

}  // namespace

bool LiveIndex::insert(uint32_t row, const void* block) {
  std::atomic<uint32_t>& head = head_of(block);
  uint32_t link;
  if (!lock_chain(head, kLocked, &link)) return false;
  LiveRow* live = tables.live.at(row);
  live->next = link;
  live->address.store(reinterpret_cast<uintptr_t>(block), std::memory_order_release);
  head.store(row + 1, std::memory_order_release);  // (H)
  return true;
}

bool LiveIndex::contains(const void* block) const {
  format::LiveRow unused;
  return find(block, &unused) != Found::kNo;
}

LiveIndex::Found LiveIndex::find(const void* block, LiveRow* copy) const {
  std::atomic<uint32_t>& head = head_of(block);
  if (head.load(std::memory_order_relaxed) == 0) return Found::kNo;
  uint32_t first;
  if (!lock_chain(head, kLocked, &first)) return Found::kBusy;
  const Place place = place_in_chain(first, block);
  if (place.live != nullptr) copy_values(*place.live, copy);
  head.store(first, std::memory_order_release);  // (H)
  return place.live == nullptr ? Found::kNo : Found::kYes;
}

LiveIndex::Removal LiveIndex::remove(const void* block, LiveRow* copy, uint32_t* row) {
  std::atomic<uint32_t>& head = head_of(block);
  // An empty chain needs no lock: an insert of this block happened before its free.
  if (head.load(std::memory_order_relaxed) == 0) return Removal::kNotThere;
  uint32_t link;
  if (!lock_chain(head, kLocked, &link)) return Removal::kBusy;
  uint32_t first = link;
  const Place place = place_in_chain(first, block);
  if (place.live != nullptr) {
    *row = place.row;
    copy_values(*place.live, copy);
    place.live->address.store(0, std::memory_order_release);
    if (place.previous != nullptr)
      place.previous->next = place.live->next;
    else
      first = place.live->next;
  }
  head.store(first, std::memory_order_release);  // (H)
  return place.live == nullptr ? Removal::kNotThere : Removal::kRemoved;
}

}  // namespace mprof::preload
