// SPDX-License-Identifier: Apache-2.0
// What the library's sides of mprof.h have in common: api.cc, api_control.cc, api_trace.cc.
#pragma once

#include "preload/lifecycle.h"
#include "preload/thread_state.h"

namespace mprof::preload {

// Outside mprof, and there is a dump, or has been made just now. Anywhere else the program is
// answered as without the library.
inline bool may_work() { return self.inside == 0 && ready_to_sample(); }

}  // namespace mprof::preload
