// SPDX-License-Identifier: Apache-2.0
// The writing side of format/count_bucket.h: finding a count bucket, and adding an event to it and
// to the journal.
//
// Called by preload/contention.cc, custom_profiles.cc, hooks_process.cc. Threads: any. Signals: not
// from a handler that interrupted its own thread here. Allocates: rows of the dump. Blocks: spins
// for another thread's addition. Fails: kNoRow; what is lost is counted here.
#pragma once

#include "format/count_bucket.h"
#include "preload/thread_state.h"

namespace mprof::preload {

bool counts_init();
size_t counts_index_bytes();

// The bucket of (kind, stack, labels) that the thread with row `thread` adds to, made if new.
uint32_t find_count(format::CountKind kind, uint32_t stack, uint32_t labels, uint32_t thread);

// One event at `now`, seen by `thread`. False: the row stayed locked.
bool add_count(ThreadBlock* thread, uint32_t row, const format::CountSample& sample, uint64_t now);

// The same without the journal, for who has no block.
bool add_count_only(uint32_t row, const format::CountSample& sample);

// One of the things counted in the row of a program's own profile is gone. Not journaled: see
// format/record.h.
bool add_removal(uint32_t row);

}  // namespace mprof::preload
