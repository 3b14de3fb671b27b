// SPDX-License-Identifier: Apache-2.0
// Waiting for a word that another thread holds for some tens of instructions.
//
// The holder can have lost its processor; then spinning helps nobody, and a real-time thread that
// spins can keep the holder from ever running. So: spin a little, yield a little, and in the rare
// case that this was not enough sleep a little; then give up.
//
// Threads: any. Signals: safe. Blocks: at most some 10 ms, where a preempted holder is still not
// back after 400 yields.
#pragma once

#include "preload/low.h"
#include "preload/sys.h"

namespace mprof::preload {

template <class Attempt>
[[gnu::noinline, gnu::cold]] bool keep_trying(Attempt&& attempt) {
  for (int i = 0; i < 400; ++i) {
    pause_cpu();
    if (attempt()) return true;
  }
  for (int i = 0; i < 400; ++i) {
    sys::sched_yield();
    if (attempt()) return true;
  }
  for (int i = 0; i < 200; ++i) {
    sys::sleep_ns(50000);
    if (attempt()) return true;
  }
  return false;
}

template <class Attempt>
[[gnu::always_inline]] inline bool spin_until(Attempt&& attempt) {
  return attempt() || keep_trying(attempt);
}

}  // namespace mprof::preload
