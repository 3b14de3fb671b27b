// SPDX-License-Identifier: Apache-2.0
// The stack of a thread on demand: how it answers a controller that asked by signal.
//
// One by one  each thread answers when its signal comes; a stack is right for its thread alone.
// Rendezvous  threads wait in the handler until all that were asked have come, and only then walk
//             their stacks, which have stood still since: a cut. The wait ends after 50 ms, for
//             all: the first one that gives up sets `released`, and readers see that it is no cut.
// Threads     each its own row. Signals: called in the handler only. Allocates: rows of the dump.
// Blocks: for the rendezvous. errno: kept.
#pragma once

#include "preload/dump_file.h"
#include "preload/thread_state.h"

namespace mprof::preload {

// Cheap, for each signal of ours. A thread without a row has not answered.
inline bool is_asked_for_stack() {
  const uint32_t request = header->control.stacks_request.load(std::memory_order_acquire);
  if (request == 0) return false;
  const format::ThreadRow* row = own_row();
  return row == nullptr || row->answer.load(std::memory_order_relaxed) != request;
}

// `interrupted` as a walk wants it: its pc + 1. Not inside mprof: then at the next signal.
void answer_stack_request(const Registers& interrupted);

}  // namespace mprof::preload
