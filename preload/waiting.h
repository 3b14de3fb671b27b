// SPDX-License-Identifier: Apache-2.0
// What a thread waits for, written into its row of the thread table for who looks at it meanwhile;
// and what keeps the waits that a signal would end from being ended by ours.
//
// Shown     kind, object, begin and, where one was captured anyway, the stack of a wait.
// Parked    While a thread is in a call that any handler ends with EINTR, even with SA_RESTART, the
//           registers of the call's caller are in its row, and nobody asks it by signal: its stack
//           stands still and is read from outside. A signal that was on its way already does end
//           the call, and so does a CPU timer of an older kernel, which fires in its first
//           instants. The handler sees that (note_cut_call), and the hook calls again for what is
//           left of the time, unless a handler of the program ran, too (handler_returns.h).
// Left      A thread that leaves its wait by cancellation or longjmp stays shown, and parked, until
//           its next wait, which repairs both. A handler that waits in the middle of a wait ends
//           what was shown of the outer one; a parked call does not go on after a handler anyway.
// vfork     The child writes its parent's row, while the parent stands still.
// Order     (P) `wait_kind` and `parked` are stored with release once the rest is there; they are
//           taken back, with a fence behind, before the rest changes again.
// Threads   each its own row. Signals: safe. Allocates: the row's, when there is none yet. Blocks:
//           no. errno: kept.
#pragma once

#include <ucontext.h>

#include "format/label_table.h"
#include "preload/stacks.h"
#include "preload/thread_state.h"

namespace mprof::preload {

inline void hide_wait(format::ThreadRow& row) { row.wait_kind.store(0, std::memory_order_relaxed); }

// `stack`: row of the stack table, or kNoRow.
inline void show_wait(format::ThreadRow& row, format::WaitKind kind, const void* object,
                      uint32_t stack, uint64_t start_ticks) {
  hide_wait(row);
  std::atomic_thread_fence(std::memory_order_release);  // (P)
  row.wait_object.store(reinterpret_cast<uintptr_t>(object), std::memory_order_relaxed);
  row.wait_stack.store(stack, std::memory_order_relaxed);
  row.wait_start_ticks.store(start_ticks, std::memory_order_relaxed);
  row.wait_kind.store(static_cast<uint32_t>(kind) + 1, std::memory_order_release);  // (P)
}

// Lives in the frame of a hook.
struct ParkedCall {
  ThreadBlock* thread;   // nullptr: it could not be told anybody
  uint64_t start_ticks;  // 0: neither
};

// Before the real call.
ParkedCall park(CallSite site);
// A wait that a trace has, too.
ParkedCall park_and_show(format::WaitKind kind, CallSite site);

// After it, when it came back with EINTR: whether that was for our signal alone, so that it is to
// be called again.
bool was_cut(const ParkedCall& parked);
// How long the call has lasted, rather less than more.
uint64_t elapsed_ns(const ParkedCall& parked);

// At the end. A setting that was changed meanwhile is in force when this returns.
void unpark(const ParkedCall& parked);
void unpark_and_hide(const ParkedCall& parked, format::WaitEnd end);

// For the signal's handler, for any signal of ours.
void note_cut_call(const ucontext_t& interrupted);

}  // namespace mprof::preload
