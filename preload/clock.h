// SPDX-License-Identifier: Apache-2.0
// The time of events: the cycle counter where the kernel itself trusts it as its clock source,
// else CLOCK_MONOTONIC. Measured here: rdtsc 7 ns, clock_gettime 16 ns; an exact profile takes
// two times for each block.
//
// Threads: any. Signals: safe. Allocates: no. Blocks: no.
#pragma once

#include <time.h>

#include <cstdint>

namespace mprof::preload {

extern bool clock_is_tsc;  // set once by clock_init(), before the first event

void clock_init();

inline uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// So many nanoseconds in ticks, by what went by since a moment at which both clocks were read;
// rough while that is less than some milliseconds ago.
uint64_t ticks_of_ns(uint64_t ns, uint64_t since_ticks, uint64_t since_ns);
// The other way.
uint64_t ns_of_ticks(uint64_t count, uint64_t since_ticks, uint64_t since_ns);

inline uint64_t ticks() { return clock_is_tsc ? __builtin_ia32_rdtsc() : monotonic_ns(); }

}  // namespace mprof::preload
