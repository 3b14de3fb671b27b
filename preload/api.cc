// SPDX-License-Identifier: Apache-2.0
// The library's side of mprof.h.
//
// Threads: any. Signals: safe; in a handler that interrupted mprof itself nothing is started, and
// the answer is that of the moment. Allocates: a forked child's dump. Blocks: no.
#include "preload/dump_file.h"
#include "preload/lifecycle.h"
#include "preload/low.h"
#include "preload/thread_state.h"

using namespace mprof::preload;  // the functions below are C names, outside any namespace

extern "C" {

MPROF_EXPORT int mprof_library_active() noexcept {
  if (self.inside != 0) return state.load(std::memory_order_acquire) == State::kOn ? 1 : 0;
  return ready_to_sample() ? 1 : 0;
}

MPROF_EXPORT const char* mprof_library_dump_path() noexcept {
  return mprof_library_active() != 0 ? dump_path() : nullptr;
}

}  // extern "C"
