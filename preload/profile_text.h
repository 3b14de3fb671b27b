// SPDX-License-Identifier: Apache-2.0
// A profile of the program's own as text, written by the program itself: Go's debug=1 form with the
// memory map behind it, which `go tool pprof` reads.
//
// Called by preload/api.cc. Threads: any. Signals: not from a handler that interrupted its own
// thread inside mprof. Allocates: no. Blocks: as the descriptor does.
// Fails: the error number of the write.
#pragma once

#include "preload/custom_profiles.h"

namespace mprof::preload {

int write_profile_text(CustomProfile* profile, int fd);

}  // namespace mprof::preload
