// SPDX-License-Identifier: Apache-2.0
// The CPU profile: a timer on each thread's own CPU clock, whose signal takes a sample.
//
// Timers    fire only while their thread runs, so they wake nobody. The first one comes uniformly
//           in (0, period], so that short threads are sampled without bias. One is made for a
//           thread by whoever knows it: itself when it starts, or any thread when the profile is
//           turned on. Its number is in the thread's row; the word is also the lock of that timer.
// Sample    (1 + overrun) periods of processor time, at the interrupted pc. Of a thread that is
//           inside mprof there is no stack: its row counts the time, readers show it as [mprof].
// Fork      Timers are not inherited; the child's are made with its dump.
// Threads   any. Signals: safe. Allocates: kernel timers; a thread that gets none is counted.
// Blocks: no. errno: kept by the caller.
#pragma once

#include <signal.h>

#include <cstdint>

#include "format/thread_table.h"
#include "preload/unwind.h"

namespace mprof::preload {

// Samples in a second of each thread's processor time; 0: off. For all threads that have a row.
void cpu_set_rate(uint32_t hz);
// 0: off.
uint32_t cpu_rate();

// In a forked child, before its first rate: it has no timers.
void cpu_begin_in_new_process();

// The thread of this row begins, or is met first. It, and nobody else, calls this.
void cpu_thread_begins(format::ThreadRow& row);
// Whether our handler fits on an alternate signal stack. So it does where there is none.
bool handler_fits(const stack_t& stack);
// Bits of format::Unsignalled, from what mask and alternate stack the kernel has of this thread.
uint32_t why_unsignalled();
// While there are any such bits a thread has no timer.
void cpu_thread_is_unsignalled(format::ThreadRow& row, uint32_t reasons);
// It ends; called by itself.
void cpu_thread_ends(format::ThreadRow& row);

// At a clean end: how much processor time there was.
void cpu_note_used();

// In the signal's handler. Siginfo's sival_int says what the timer is for.
inline constexpr int kTickCookie = 0x6d70746b;
inline constexpr int kNudgeCookie = 0x6d706e75;
void cpu_tick(const siginfo_t& info, const Registers& interrupted);

// Timers are to send another signal.
void cpu_signal_changed();

// Makes each thread run the handler once, as soon as it next runs for a moment.
void cpu_nudge_all_threads();

}  // namespace mprof::preload
