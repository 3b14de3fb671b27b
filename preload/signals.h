// SPDX-License-Identifier: Apache-2.0
// The one signal that mprof uses: CPU timers send it, and a controller asks a thread by it.
//
// Which     SIGURG: its default action is to ignore it, so one that comes an instant after an exec
//           does no harm, and few programs use it. When the program has a handler of its own for
//           it, sets one, or reads it by signalfd, that signal is the program's, and mprof takes
//           the next of kSignals.
// Hidden    The kernel has our handler; the program's own action for the signal is kept here, and
//           hooks_signal.cc shows it that one.
// Ours      are timer signals and queued ones with our cookie. Any other is handed on as the
//           program's action says.
// EINTR     SA_RESTART; but some calls return EINTR for any handler. Timers on a thread's CPU clock
//           only fire while it runs, and controllers leave threads alone that sit in such a call.
// Blocked   A thread that blocks the signal is not sampled and does not answer; that is its right.
//           Its timer is stopped first: what fired would be pending for the program to see. A
//           thread whose alternate stack is too small for our handler is left alone, too.
// Threads   any. Signals: safe. Allocates: no. Blocks: no.
#pragma once

#include <signal.h>

#include <cstdint>

namespace mprof::preload {

// Takes a signal. There may be none left: then there are no CPU samples, and nobody may ask.
void signals_init();
// Tells readers of this process's dump which it is.
void signals_publish();

// 0: none.
int own_signal();
// Whether it is from one of our timers, or from a controller.
bool is_own_signal(const siginfo_t& info);

// What a program does with sigaction() about our signal; `number` is ours. The action that it had;
// `action` may be nullptr. True: mprof has moved on, and the kernel must hear of the call.
bool program_sets_action(int number, const struct sigaction* action, struct sigaction* before);

// The program reads the signals of `set` from a descriptor (signalfd), and so blocks them. If ours
// is among them, mprof takes another one that is not.
void program_reads_signals(const sigset_t& set);

// Whether a reason (bits of format::Unsignalled) to send this thread nothing holds; true: that is
// new. Told before the call that makes it hold, and after the one that ends it.
bool set_unsignalled(uint32_t reason, bool holds);

}  // namespace mprof::preload
