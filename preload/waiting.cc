// SPDX-License-Identifier: Apache-2.0
#include "preload/waiting.h"

#include <errno.h>
#include <signal.h>

#include "preload/clock.h"
#include "preload/control.h"
#include "preload/dump_file.h"
#include "preload/handler_returns.h"
#include "preload/lifecycle.h"
#include "preload/real_locks.h"
#include "preload/sys.h"
#include "preload/trace.h"

namespace mprof::preload {
namespace {

bool is_odd(uint64_t number) { return (number & 1) != 0; }

void publish(format::ThreadRow& row, CallSite site) {
  uint64_t parked = row.parked.load(std::memory_order_relaxed);
  if (is_odd(parked)) [[unlikely]]  // left behind, or of the call that this handler interrupted
    row.parked.store(++parked, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // (P)
  row.parked_pc.store(site.return_address(), std::memory_order_relaxed);
  row.parked_sp.store(site.callers_sp(), std::memory_order_relaxed);
  row.parked_fp.store(site.callers_fp(), std::memory_order_relaxed);
  row.parked.store(parked + 1, std::memory_order_release);  // (P)
}

// Even already: a handler of the program has parked and left since.
void withdraw(format::ThreadRow& row) {
  const uint64_t parked = row.parked.load(std::memory_order_relaxed);
  if (is_odd(parked)) row.parked.store(parked + 1, std::memory_order_relaxed);
}

[[gnu::noinline]] void trace_and_show(format::WaitKind kind, uint64_t start_ticks, CallSite site) {
  work_on_sample([&](ThreadBlock* thread) {
    const uint32_t stack = capture_stack(thread, site);
    show_wait(*thread->row, kind, nullptr, stack, start_ticks);
    trace_write(thread, format::TraceKind::kWait, start_ticks, stack, static_cast<uint64_t>(kind));
  });
}

ThreadBlock* block_to_show() { return self.inside == 0 && recording() ? own_block() : nullptr; }

// A fork in between has left the row to the parent.
bool is_ours(const ParkedCall& parked) {
  return parked.thread != nullptr && parked.thread == self.block &&
         parked.thread->process == process_number && recording();
}

bool has_handler(int number) {
  struct sigaction action;
  if (real_locks.sigaction(number, nullptr, &action) != 0) return false;
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

// A signal of the program's is to be delivered as soon as our handler returns: it, too, ends the
// call.
bool has_another_signal(const ucontext_t& interrupted) {
  uint64_t pending = 0;
  constexpr long kKernelSetBytes = 8;
  sys::call<SYS_rt_sigpending>(sys::address(&pending), kKernelSetBytes);
  for (uint64_t due = pending & ~interrupted.uc_sigmask.__val[0]; due != 0; due &= due - 1)
    if (has_handler(__builtin_ctzll(due) + 1)) return true;
  return false;
}

}  // namespace

ParkedCall park(CallSite site) {
  ThreadBlock* thread = block_to_show();
  if (thread == nullptr) return {nullptr, 0};
  thread->call_was_cut = false;
  mprof_handler_returned = 0;
  publish(*thread->row, site);
  return {thread, ticks()};
}

ParkedCall park_and_show(format::WaitKind kind, CallSite site) {
  const ParkedCall parked = park(site);
  if (parked.thread == nullptr) return parked;
  if (tracing())
    trace_and_show(kind, parked.start_ticks, site);
  else
    show_wait(*parked.thread->row, kind, nullptr, format::kNoRow, parked.start_ticks);
  return parked;
}

bool was_cut(const ParkedCall& parked) {
  if (parked.thread == nullptr || !parked.thread->call_was_cut) return false;
  parked.thread->call_was_cut = false;
  return mprof_handler_returned == 0;
}

uint64_t elapsed_ns(const ParkedCall& parked) {
  const format::ClockPoint& first = header->clock_first;
  const uint64_t ns = ns_of_ticks(ticks() - parked.start_ticks, first.ticks, first.monotonic_ns);
  return ns - ns / 1024;  // the length of a tick is not known that well at the start
}

void unpark(const ParkedCall& parked) {
  if (!is_ours(parked)) return;
  withdraw(*parked.thread->row);
  notice_control();
}

// A trace that is turned on only now does not have the wait.
void unpark_and_hide(const ParkedCall& parked, format::WaitEnd end) {
  if (!is_ours(parked)) return;
  hide_wait(*parked.thread->row);
  withdraw(*parked.thread->row);
  if (tracing()) trace_event(format::TraceKind::kWaitEnd, static_cast<uint64_t>(end));
  notice_control();
}

void note_cut_call(const ucontext_t& interrupted) {
  if (interrupted.uc_mcontext.gregs[REG_RAX] != -EINTR) return;
  ThreadBlock* thread = self.block;
  if (thread == nullptr || thread->process != process_number) return;
  if (!is_odd(thread->row->parked.load(std::memory_order_relaxed))) return;
  thread->call_was_cut =
      mprof_handler_returned == 0 && !has_another_signal(interrupted) && !has_unmarked_handler();
}

}  // namespace mprof::preload
