// SPDX-License-Identifier: Apache-2.0
// What a ring of a dump holds now, copied: of a profbuf its words, of a trace ring its bytes.
//
// A drainer at work may give units back to the target while they are copied; those, below the new
// `released`, are left out: the journal has them by then.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "dumper/journal.h"
#include "format/profbuf.h"

namespace mprof::dumper {

template <class Unit>
struct RingCopy {
  SpanHead head{};
  std::vector<Unit> units;
};

// `reader`: a format::ProfbufReader or format::TraceReader of the ring, which has `capacity` units.
template <class Unit, class Reader>
RingCopy<Unit> copy_ring(uint32_t row, const Reader& reader, const format::ProfbufHead& ring,
                         uint64_t capacity) {
  RingCopy<Unit> copy;
  const uint64_t released = reader.released();
  copy.units.resize(std::min(reader.written() - released, capacity));
  const auto chunk = reader.copy(released, copy.units);
  std::atomic_thread_fence(std::memory_order_acquire);
  const uint64_t given_back = std::min(reader.released() - chunk.begin, chunk.end - chunk.begin);
  copy.units.resize(chunk.end - chunk.begin);
  copy.units.erase(copy.units.begin(), copy.units.begin() + static_cast<int64_t>(given_back));
  copy.head = {row,
               chunk.damaged ? kSpanDamaged : 0,
               chunk.begin + given_back,
               chunk.end,
               reader.dropped(),
               ring.first_drop_ticks.load(std::memory_order_relaxed)};
  return copy;
}

}  // namespace mprof::dumper
