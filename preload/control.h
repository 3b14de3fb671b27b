// SPDX-License-Identifier: Apache-2.0
// Settings that change while the program runs: what `mprof ctl` or the program itself asked for in
// DumpHeader::control, put in force by whichever thread notices first.
//
// Called by the signal's handler, hooks of calls that wait, and the sampler's slow path.
// Threads   any; one applies at a time, and who comes second leaves it to that one. Signals: safe.
// Allocates: a row of the dump, kernel timers. Blocks: no. errno: kept.
// Trust     A controller may be buggy: a value that is not accepted leaves its setting as it is.
// Ordering  (E) the controller's release of `epoch` <-> acquire here; release of `applied_epoch`
//           here <-> the controller's acquire.
#pragma once

#include "preload/dump_file.h"
#include "preload/lifecycle.h"
#include "preload/thread_state.h"

namespace mprof::preload {

void apply_control();

// Outside mprof and while there is a dump; two words of one line.
inline void notice_control_of_dump() {
  const format::Control& control = header->control;
  if (control.epoch.load(std::memory_order_relaxed) !=
      control.applied_epoch.load(std::memory_order_relaxed)) [[unlikely]]
    apply_control();
}
// Anywhere else it does nothing.
inline void notice_control() {
  if (self.inside == 0 && recording()) notice_control_of_dump();
}

// In a forked child: nobody applies anything.
void forget_control();

}  // namespace mprof::preload
