// SPDX-License-Identifier: Apache-2.0
// The slow half of the heap hooks: guard, weight, capture, intern, count, journal, in this order.
//
// Called by preload/hooks_*.cc. Threads: any. Signals: a handler that interrupted its own thread
// in here is only counted. Allocates: rows of the dump. Blocks: no. errno: kept, by whatever
// below makes a system call.
#pragma once

#include "format/bucket.h"
#include "preload/sampler.h"
#include "preload/stacks.h"

namespace mprof::preload {

// After an allocation that crossed a sampling point; `block` may be null.
void on_alloc(void* block, size_t bytes, CallSite site);

// Before the free of a block that may be sampled. False: the block is not the next allocator's
// and must not be given to it.
bool on_free(void* block);

// A sampled block on its way through realloc: out of the live table before the real call (another
// thread may get its address at once), and back if that call fails.
struct Detached {
  bool is_sampled;
  uint32_t process;  // process_number: what was taken out before a fork is the parent's
  uint32_t row;
  uint32_t bucket;
  uint64_t epoch;
  uint64_t alloc_ticks;
  format::HeapSample sample;
};
Detached detach(void* block);
void finish_free(const Detached& detached);
void reattach(void* block, const Detached& detached);

}  // namespace mprof::preload
