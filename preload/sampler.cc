// SPDX-License-Identifier: Apache-2.0
#include "preload/sampler.h"

#include "format/weights.h"

namespace mprof::preload {

constinit uint64_t heap_rate = 0;

namespace {

uint64_t seed_base;
std::atomic<uint64_t> threads_seeded;

uint64_t next_random() {  // xorshift64*
  uint64_t x = self.random;
  if (x == 0) x = mix(seed_base + threads_seeded.fetch_add(1, std::memory_order_relaxed)) | 1;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  self.random = x;
  return x * 0x2545f4914f6cdd1d;
}

uint64_t next_distance() {
  return heap_rate == 1 ? 0 : format::draw_distance(next_random(), heap_rate);
}

}  // namespace

void seed_sampler(uint64_t seed) {
  seed_base = mix(seed);
  threads_seeded.store(0, std::memory_order_relaxed);
}

bool sample_due(size_t bytes) {
  const bool first = self.random == 0 && heap_rate != 1;
  uint64_t distance = next_distance();
  if (!first) {
    self.steps_until_sample = distance;
    return true;
  }
  // The first distance counts from before this block.
  if (!__builtin_sub_overflow(distance, uint64_t{bytes} + 1, &self.steps_until_sample))
    return false;
  self.steps_until_sample = next_distance();
  return true;
}

void stop_sampling() { self.steps_until_sample = UINT64_MAX; }
void ask_again() { self.steps_until_sample = 0; }

}  // namespace mprof::preload
