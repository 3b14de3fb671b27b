// SPDX-License-Identifier: Apache-2.0
// When to sample, and nothing else. The mathematics is in format/weights.h.
//
// Pieces    The way to the next sampling point is counted down in pieces of at most a mebibyte, so
//           that each thread looks about once in a mebibyte whether the rate is another one, also
//           when nothing is sampled. Sampling points have no memory: where a piece ends without
//           one, the next may be drawn with the new rate, and no sum is biased. A point that lies
//           in the block was drawn with the old rate; it counts, with the old rate's weight.
// Threads: each its own. Signals: a handler may lose or repeat a step of its thread's countdown;
// the next distance is drawn anew, so nothing is biased for long.
#pragma once

#include <atomic>
#include <cstddef>

#include "preload/thread_state.h"

namespace mprof::preload {

// The rate in force; 0 = off.
extern std::atomic<uint64_t> heap_rate;

inline constexpr uint64_t kPieceSteps = uint64_t{1} << 20;

// True when this allocation leaves the piece: one subtraction and one branch. A zeroed ThreadState
// answers true at once; sampled_rate() then seeds it. A block of SIZE_MAX bytes, which no allocator
// gives, takes no step.
[[gnu::always_inline]] inline bool leaves_piece(size_t bytes) noexcept {
  return __builtin_sub_overflow(self.steps_until_look, uint64_t{bytes} + 1, &self.steps_until_look);
}

// The slow half, after leaves_piece() was true: the rate with which the block was sampled, or 0 if
// no sampling point lies in it. Begins the next piece.
uint64_t sampled_rate(size_t bytes);

// No sample for this thread any more.
void stop_sampling();
// The next allocation takes the slow path.
void look_soon();
// In a signal's handler: the same, if the thread counts down to a point of another rate.
inline void notice_heap_rate() {
  if (self.inside == 0 && self.drawn_rate != heap_rate.load(std::memory_order_relaxed)) look_soon();
}

void seed_sampler(uint64_t seed);

}  // namespace mprof::preload
