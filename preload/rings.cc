// SPDX-License-Identifier: Apache-2.0
#include "preload/rings.h"

#include "preload/spin.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::ProfbufHead;

std::atomic<bool> making;

bool take(ProfbufHead* head, uint32_t owner) {
  uint32_t nobody = 0;
  return head->owner.load(std::memory_order_relaxed) == 0 &&
         head->owner.compare_exchange_strong(nobody, owner, std::memory_order_acquire);  // (O)
}

template <class Row>
bool has_room(format::Table<Row>& table, format::TableId id, uint32_t rows) {
  const uint64_t capacity = table.capacity();
  return table.used() + rows <= capacity || grow_full_table(id, capacity);
}

// Both tables must agree on numbers: rows are claimed by one thread at a time, and only if both
// have room.
uint32_t make(const Rings& rings) {
  if ((rings.heads.used() + 1) * rings.bytes > rings.most_bytes) return kNoRow;
  if (!spin_until([] { return !making.exchange(true, std::memory_order_acquire); })) return kNoRow;
  const bool room =
      has_room(rings.heads, rings.heads_id, 1) && has_room(rings.data, rings.data_id, rings.bytes);
  const uint32_t number = room ? rings.heads.claim() : kNoRow;
  const uint32_t data = number == kNoRow ? kNoRow : rings.data.claim_run(rings.bytes);
  making.store(false, std::memory_order_release);
  return data == kNoRow ? kNoRow : number;
}

uint32_t take_free(const Rings& rings, uint32_t owner) {
  const uint64_t used = rings.heads.used();
  for (uint32_t i = 0; i < used; ++i)
    if (take(rings.heads.at(i), owner)) return i;
  return kNoRow;
}

uint32_t take_number(const Rings& rings, uint32_t owner) {
  const uint32_t free = take_free(rings, owner);
  if (free != kNoRow) return free;
  const uint32_t made = make(rings);
  // Another thread may have taken it over already.
  return made != kNoRow && take(rings.heads.at(made), owner) ? made : kNoRow;
}

}  // namespace

Ring take_ring(const Rings& rings, uint32_t thread_row) {
  uint32_t number = kNoRow;
  for (int attempt = 0; number == kNoRow && attempt < 3; ++attempt)
    number = take_number(rings, thread_row + 1);
  if (number == kNoRow) return {nullptr, kNoRow, nullptr};
  return {rings.heads.at(number), number, rings.data.at(number * rings.bytes)};
}

void forget_rings() { making.store(false, std::memory_order_relaxed); }

}  // namespace mprof::preload
