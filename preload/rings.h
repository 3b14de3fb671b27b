// SPDX-License-Identifier: Apache-2.0
// Rings of the dump, taken by threads and given back: profbufs, trace rings.
//
// A ring is a head in one table and bytes in another, under the same number. One that was given
// back is taken by the next thread; else a new one is made.
// Threads   any. Signals: safe. Allocates: rows of the dump. Blocks: no. Fails: nullptr.
// Ordering  (O) release of `owner` by who gives it back <-> acquire by who takes it.
#pragma once

#include "format/profbuf.h"
#include "preload/dump_file.h"

namespace mprof::preload {

struct Rings {
  format::Table<format::ProfbufHead>& heads;
  format::TableId heads_id;
  format::Table<char>& data;
  format::TableId data_id;
  uint32_t bytes;       // of one
  uint64_t most_bytes;  // of all together
};

struct Ring {
  format::ProfbufHead* head;  // nullptr: there is none to be had
  uint32_t number;
  char* data;
};
// `thread_row`: of the thread that takes it.
Ring take_ring(const Rings& rings, uint32_t thread_row);
inline void give_ring(format::ProfbufHead* head) {
  if (head != nullptr) head->owner.store(0, std::memory_order_release);  // (O)
}

// In a forked child: nobody makes one.
void forget_rings();

}  // namespace mprof::preload
