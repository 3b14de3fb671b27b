// SPDX-License-Identifier: Apache-2.0
#include "preload/filter.h"

namespace mprof::preload {

alignas(64) constinit std::atomic<uint8_t> filter[kFilterBytes];

namespace {

void change(std::atomic<uint8_t>& byte, int difference) {
  uint8_t old = byte.load(std::memory_order_relaxed);
  while (old != kFilterSticky &&
         !byte.compare_exchange_weak(old, static_cast<uint8_t>(old + difference),
                                     std::memory_order_relaxed)) {
  }
}

void set_all(uint8_t value) {
  for (auto& byte : filter) byte.store(value, std::memory_order_relaxed);
}

}  // namespace

void filter_add(const void* block) { change(filter_byte(block), 1); }
void filter_remove(const void* block) { change(filter_byte(block), -1); }
void filter_mark_forever(const void* block) {
  filter_byte(block).store(kFilterSticky, std::memory_order_relaxed);
}
void filter_mark_all() { set_all(kFilterSticky); }

void filter_clear() {
  // Sticky bytes stay: they may belong to arena blocks.
  for (auto& byte : filter)
    if (byte.load(std::memory_order_relaxed) != kFilterSticky)
      byte.store(0, std::memory_order_relaxed);
}

}  // namespace mprof::preload
