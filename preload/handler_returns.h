// SPDX-License-Identifier: Apache-2.0
// Whether a signal handler of the program has run, and returned, since a call began.
//
// Why       A call that failed with EINTR is made again only if the program had no part in it. Our
//           handler alone cannot tell: where it runs behind one of the program's (which blocked our
//           signal, or came in first), it sees the interrupted call just as if it had ended it.
// How       Handlers return to a function that makes the system call rt_sigreturn; libc names its
//           own to the kernel. For handlers set through our hooks it is one that notes the return
//           first. The handler itself, its flags and its mask are the program's.
// Unmarked  Handlers that were set past the hooks return to somebody else's. While there is one,
//           no call is made again: better an EINTR too many than a signal lost.
// Unwinding It has libc's own unwind rules, and is marked as a signal frame as that is.
//
// Threads: any, each with a note of its own. Signals: safe. Allocates: no. Blocks: no.
#pragma once

#include <signal.h>

#include <cstdint>

#include "preload/low.h"

extern "C" {
// Not 0: a handler of this thread has returned.
extern constinit thread_local uint32_t mprof_handler_returned MPROF_INITIAL_EXEC
    __attribute__((visibility("hidden")));
}

namespace mprof::preload {

// Whether that is one, and not a word for what is done instead.
bool is_function(sighandler_t handler);
// Not one of the two that libc uses itself, and refuses.
bool is_usual(int number);
// As libc's, for a usual signal and an action that is a function; errno is set.
int set_marked(int number, const struct sigaction& action, struct sigaction* before);

bool has_unmarked_handler();

}  // namespace mprof::preload
