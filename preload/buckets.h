// SPDX-License-Identifier: Apache-2.0
// The writing side of format/bucket.h: finding a bucket, and adding a sample to it.
//
// Called by preload/sampled_path.cc. Threads: any. Signals: not from a handler that interrupted
// its own thread here. Allocates: rows of the dump. Blocks: spins for another thread's addition.
// Fails: kNoRow or false, counted by the caller.
#pragma once

#include "format/bucket.h"

namespace mprof::preload {

bool buckets_init();
size_t buckets_index_bytes();

// The bucket of (kind, stack, labels) that the thread with row `thread` adds to, made if new.
uint32_t find_bucket(format::BucketKind kind, uint32_t stack, uint32_t labels, uint32_t thread);

// The epoch of consistent cuts that an operation belongs to: an allocation reads it after the
// real malloc, a free before the real free.
uint64_t operation_epoch();

bool add_allocation(uint32_t bucket, const format::HeapSample& sample, uint64_t epoch);
bool add_free(uint32_t bucket, const format::HeapSample& sample, uint64_t epoch);

}  // namespace mprof::preload
