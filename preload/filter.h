// SPDX-License-Identifier: Apache-2.0
// The filter: tells a free in under a nanosecond that its block is not in the live table.
//
// Layout    64 KiB, one byte for each hash value of an address: how many live sampled blocks have
//           it. 255 sticks: from there on the byte only says "look".
// Threads   any. Signals: safe. A block's byte is raised before the program gets the block, so a
//           free of it, which comes after, cannot miss it.
#pragma once

#include <atomic>
#include <cstdint>

namespace mprof::preload {

inline constexpr uint32_t kFilterBytes = 1u << 16;
inline constexpr uint8_t kFilterSticky = 255;
extern std::atomic<uint8_t> filter[kFilterBytes];

inline std::atomic<uint8_t>& filter_byte(const void* block) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(block) >> 4;
  return filter[(a ^ (a >> 16)) & (kFilterBytes - 1)];
}

inline bool may_be_sampled(const void* block) {
  return filter_byte(block).load(std::memory_order_relaxed) != 0;
}

void filter_add(const void* block);
void filter_remove(const void* block);
void filter_mark_forever(const void* block);
// Every address is looked up from now on: with rate 1 the filter would only cost.
void filter_mark_all();
// Nothing is live any more (a forked child starts anew).
void filter_clear();

}  // namespace mprof::preload
