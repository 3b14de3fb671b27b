// SPDX-License-Identifier: Apache-2.0
// The execution trace: records of this thread, into its trace ring. docs/trace.md has the whole.
//
// Cost      While no trace is on, a hook looks at one word.
// Rings     attached when a thread writes its first record, given back when it ends.
// Times     read by the hook: of a wait before it begins, of a release before the real one, of an
//           end when the call is back.
// Threads   any. Signals: safe; a handler that interrupted its own thread in here records nothing.
// Allocates: rows of the dump. Blocks: no. errno: kept. Fails: a ring that is full, or cannot be
//           had, drops and counts.
#pragma once

#include "format/call_names.h"
#include "format/label_table.h"
#include "format/trace_record.h"
#include "preload/stacks.h"
#include "preload/thread_state.h"

namespace mprof::preload {

extern std::atomic<bool> trace_on;  // set by trace_set() alone
inline bool tracing() { return trace_on.load(std::memory_order_relaxed); }

// For hooks, outside mprof; anywhere else, and when no trace is on, nothing is written.
void trace_event(format::TraceKind kind, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0,
                 uint64_t d = 0);
// The same with the stack of the hook's caller.
void trace_event_at(CallSite site, format::TraceKind kind, uint64_t a = 0, uint64_t b = 0,
                    uint64_t c = 0, uint64_t d = 0);
// kRelease, after the real one and dated before it.
void trace_release(CallSite site, uint64_t ticks, format::WaitKind kind, const void* object);
// kLog, with its arguments as they stand in the record; longer texts than kMostTraceText are cut.
void trace_log(CallSite site, uint64_t task, uint64_t category, const char* text, size_t bytes);

// For who works on a sample already, with a stack that is there already or kNoRow, and a time.
void trace_write(ThreadBlock* thread, format::TraceKind kind, uint64_t ticks, uint32_t stack,
                 uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0);

// The program's labels are others from now on.
void trace_labels();
// The heap as it is now, if that is worth a record; at each sampled allocation, at `stack`, and
// free. A move of the break is seen there, if not always made there.
void trace_heap(ThreadBlock* thread, uint64_t ticks, uint32_t stack);
// A kGrow or kTrim that was just written says where the break is now.
void trace_break_is_told();
// kYield; those that come right after another are counted in the next one.
void trace_yield(CallSite site);
// This thread ends: no record comes after that.
void trace_exit();
void give_trace_ring(ThreadBlock* thread);

// kRelease, in the same way.
void trace_write_release(ThreadBlock* thread, uint64_t ticks, uint32_t stack, format::WaitKind kind,
                         const void* object);

// Turns it on or off; threads that are there are declared with what they wait for. Called by
// control.cc, by one thread at a time.
void trace_set(bool on);
// In a forked child: nothing is traced until its own dump says so.
void forget_trace();

}  // namespace mprof::preload
