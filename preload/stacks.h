// SPDX-License-Identifier: Apache-2.0
// From a hook's caller, or from what a signal interrupted, to a row of the stack table.
//
// Threads: any. Signals: not from a handler that interrupted
// its own thread here. Allocates: rows of the dump. Blocks: no. Fails: kNoRow.
#pragma once

#include "preload/thread_state.h"

namespace mprof::preload {

// A hook's own frame, which has a frame pointer: costs the hook no instruction.
struct CallSite {
  const uintptr_t* frame;
  [[nodiscard]] uintptr_t callers_fp() const { return frame[0]; }
  [[nodiscard]] uintptr_t return_address() const { return frame[1]; }
  [[nodiscard]] uintptr_t callers_sp() const { return reinterpret_cast<uintptr_t>(frame + 2); }
};
#define MPROF_CALL_SITE() \
  (::mprof::preload::CallSite{static_cast<const uintptr_t*>(__builtin_frame_address(0))})

bool stacks_init();
size_t stacks_index_bytes();

// The stack that begins there, interned; see Registers for what a signal interrupted.
uint32_t capture_stack(ThreadBlock* block, const Registers& start);
// The stack of the hook's caller.
inline uint32_t capture_stack(ThreadBlock* block, CallSite site) {
  return capture_stack(block,
                       Registers{site.return_address(), site.callers_sp(), site.callers_fp()});
}

}  // namespace mprof::preload
