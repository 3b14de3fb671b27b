// SPDX-License-Identifier: Apache-2.0
// From a hook's caller to a row of the stack table.
//
// Called by preload/sampled_path.cc. Threads: any. Signals: not from a handler that interrupted
// its own thread here. Allocates: rows of the dump. Blocks: no. Fails: kNoRow.
#pragma once

#include "preload/thread_state.h"

namespace mprof::preload {

// What a hook knows of its caller. Taken in the hook itself, which has a frame pointer.
struct CallSite {
  uintptr_t return_address;
  const uintptr_t* frame;  // [0] the caller's rbp, [1] the return address
};
#define MPROF_CALL_SITE()                                              \
  (::mprof::preload::CallSite{                                         \
      reinterpret_cast<uintptr_t>(__builtin_return_address(0)),        \
      static_cast<const uintptr_t*>(__builtin_frame_address(0))})

bool stacks_init();
size_t stacks_index_bytes();

// The stack of the hook's caller, interned.
uint32_t capture_stack(ThreadBlock* block, const CallSite& site);

}  // namespace mprof::preload
