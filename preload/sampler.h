// SPDX-License-Identifier: Apache-2.0
// When to sample, and nothing else. The mathematics is in format/weights.h.
//
// Threads: each its own. Signals: a handler may lose or repeat a step of its thread's countdown;
// the next distance is drawn anew, so nothing is biased for long.
#pragma once

#include <cstddef>

#include "preload/thread_state.h"

namespace mprof::preload {

// The rate in force; 0 = off. Set before the first sample.
extern uint64_t heap_rate;

// True when this allocation crosses the thread's next sampling point: one subtraction and one
// branch. A zeroed ThreadState answers true at once; sample_due() then seeds it. A block of
// SIZE_MAX bytes, which no allocator gives, takes no step.
[[gnu::always_inline]] inline bool crosses_sampling_point(size_t bytes) noexcept {
  return __builtin_sub_overflow(self.steps_until_sample, uint64_t{bytes} + 1,
                                &self.steps_until_sample);
}

// The two halves of that, for hooks that need the answer before anything has changed.
[[gnu::always_inline]] inline bool would_cross_sampling_point(size_t bytes) noexcept {
  return self.steps_until_sample < uint64_t{bytes} + 1;
}
[[gnu::always_inline]] inline void take_steps(size_t bytes) noexcept {
  self.steps_until_sample -= uint64_t{bytes} + 1;
}

// The slow half: after crosses_sampling_point() was true, draws the next distance. False when the
// crossing only came from a thread that had not drawn its first one.
bool sample_due(size_t bytes);

// No sample for this thread any more.
void stop_sampling();
// The next allocation takes the slow path again.
void ask_again();

void seed_sampler(uint64_t seed);

}  // namespace mprof::preload
