// SPDX-License-Identifier: Apache-2.0
#include "preload/sampler.h"

#include "format/weights.h"

namespace mprof::preload {

constinit std::atomic<uint64_t> heap_rate{0};

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

// Farther than any point that is drawn.
constexpr uint64_t kNever = uint64_t{1} << 62;

uint64_t draw(uint64_t rate) {
  if (rate == 0) return kNever;
  return rate == 1 ? 0 : format::draw_distance(next_random(), rate);
}

void aim(uint64_t distance, uint64_t rate) {
  const uint64_t piece = distance < kPieceSteps ? distance : kPieceSteps;
  self.steps_until_look = piece;
  self.steps_beyond = distance - piece;
  self.drawn_rate = rate;
}

// From before a block whose steps were taken already. A handler that allocated in between may have
// passed the point: then it is here.
uint64_t distance_before(uint64_t steps) {
  const uint64_t distance = self.steps_until_look + steps + self.steps_beyond;
  return distance > 2 * kNever ? 0 : distance;
}

}  // namespace

void seed_sampler(uint64_t seed) {
  seed_base = mix(seed);
  threads_seeded.store(0, std::memory_order_relaxed);
}

uint64_t sampled_rate(size_t bytes) {
  const uint64_t steps = uint64_t{bytes} + 1;
  const uint64_t rate = heap_rate.load(std::memory_order_relaxed);
  const uint64_t drawn = self.drawn_rate;
  const uint64_t distance = drawn == 0 ? draw(rate) : distance_before(steps);
  const uint64_t in_force = drawn == 0 ? rate : drawn;
  if (distance >= steps) {
    aim(in_force == rate ? distance - steps : draw(rate), rate);
    return 0;
  }
  aim(draw(rate), rate);
  return rate == 0 ? 0 : in_force;
}

void stop_sampling() { self.steps_until_look = UINT64_MAX; }

// The steps that are left stay on the way to the point.
void look_soon() {
  self.steps_beyond += self.steps_until_look;
  self.steps_until_look = 0;
}

}  // namespace mprof::preload
