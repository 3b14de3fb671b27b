// SPDX-License-Identifier: Apache-2.0
#include "preload/trace.h"

#include <algorithm>

#include "preload/clock.h"
#include "preload/contention.h"
#include "preload/dump_file.h"
#include "preload/lifecycle.h"
#include "preload/trace_ring.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::ThreadRow;
using format::TraceKind;

// A hook inside mprof is reached by a signal's handler, or by calls of mprof's own.
bool may_trace() {
  if (!tracing()) return false;
  if (self.inside == 0) [[likely]]
    return recording();
  if (self.inside == Guard::kAtWork) count_lost(format::Lost::kTraceLost);
  return false;
}

template <class Write>
[[gnu::always_inline]] inline void write_outside(Write&& write) {
  if (may_trace()) work_on_sample(write, format::Lost::kTraceLost);
}

// A whole character less rather than a part of one.
uint32_t cut(const char* text, size_t bytes) {
  if (bytes <= format::kMostTraceText) return static_cast<uint32_t>(bytes);
  uint32_t most = format::kMostTraceText;
  while (most > 0 && (text[most] & 0xc0) == 0x80) --most;
  return most;
}

// What a row shows of a wait, in one consistent state; see format/thread_table.h.
struct Shown {
  uint32_t kind;  // WaitKind + 1, 0: none
  uint32_t stack;
  uint64_t object;
  uint64_t start_ticks;
};
constexpr Shown kNoWait{0, kNoRow, 0, 0};

Shown read_wait(const ThreadRow& row) {
  Shown shown;
  shown.kind = row.wait_kind.load(std::memory_order_acquire);
  if (shown.kind == 0) return kNoWait;
  shown.stack = row.wait_stack.load(std::memory_order_relaxed);
  shown.object = row.wait_object.load(std::memory_order_relaxed);
  shown.start_ticks = row.wait_start_ticks.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool is_whole = row.wait_kind.load(std::memory_order_relaxed) == shown.kind &&
                        row.wait_start_ticks.load(std::memory_order_relaxed) == shown.start_ticks;
  return is_whole ? shown : kNoWait;
}

// One that changes while it is looked at is over, or has just begun.
void declare(ThreadBlock* thread, uint32_t number) {
  const Shown shown = read_wait(*tables.threads.at(number));
  const uint64_t now = ticks();
  const uint64_t age = shown.kind != 0 && now > shown.start_ticks ? now - shown.start_ticks : 0;
  trace_write(thread, TraceKind::kThread, now, shown.stack, number, shown.kind, age, shown.object);
}

void begin() {
  contention_trace(true);
  header->trace_sessions.fetch_add(1, std::memory_order_relaxed);
  work_on_sample([](ThreadBlock* thread) {
    update_clock();
    trace_write(thread, TraceKind::kStart, ticks(), kNoRow,
                header->trace_sessions.load(std::memory_order_relaxed));
    for (uint32_t i = 0; i < tables.threads.used(); ++i)
      if (is_alive(*tables.threads.at(i))) declare(thread, i);
    trace_heap_begins();
    thread->last_heap_ticks = 0;
    trace_heap(thread, ticks(), kNoRow);
  });
  header->trace_on.store(1, std::memory_order_relaxed);
  trace_on.store(true, std::memory_order_release);
}

void end() {
  trace_on.store(false, std::memory_order_relaxed);
  header->trace_on.store(0, std::memory_order_relaxed);
  work_on_sample([](ThreadBlock* thread) {
    trace_write(thread, TraceKind::kStop, ticks(), kNoRow,
                header->trace_sessions.load(std::memory_order_relaxed));
    update_clock();
  });
  contention_trace(false);
}

}  // namespace

void trace_event(TraceKind kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  const uint64_t now = ticks();
  write_outside([&](ThreadBlock* thread) { trace_write(thread, kind, now, kNoRow, a, b, c, d); });
}

void trace_event_at(CallSite site, TraceKind kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  const uint64_t now = ticks();
  write_outside([&](ThreadBlock* thread) {
    trace_write(thread, kind, now, capture_stack(thread, site), a, b, c, d);
  });
}

void trace_write_release(ThreadBlock* thread, uint64_t ticks, uint32_t stack, format::WaitKind kind,
                         const void* object) {
  trace_write(thread, TraceKind::kRelease, ticks, stack, static_cast<uint64_t>(kind),
              reinterpret_cast<uintptr_t>(object));
}

void trace_release(CallSite site, uint64_t ticks, format::WaitKind kind, const void* object) {
  write_outside([&](ThreadBlock* thread) {
    trace_write_release(thread, ticks, capture_stack(thread, site), kind, object);
  });
}

void trace_log(CallSite site, uint64_t task, uint64_t category, const char* text, size_t bytes) {
  const uint64_t now = ticks();
  write_outside([&](ThreadBlock* thread) {
    const uint32_t stack = capture_stack(thread, site);
    write_trace_record(
        thread,
        {TraceKind::kLog, now, current_core(), stack, {task, category}, text, cut(text, bytes)});
  });
}

void trace_labels() {
  if (!tracing()) return;
  work_on_sample([](ThreadBlock* thread) {
    trace_write(thread, TraceKind::kLabels, ticks(), kNoRow, current_labels() + 1);
  });
}

// Who spins on it would fill the ring with nothing else.
void trace_yield(CallSite site) {
  constexpr uint64_t kRightAfterTicks = 300000;  // some 100 us
  const uint64_t now = ticks();
  write_outside([&](ThreadBlock* thread) {
    ++thread->yields;
    if (now - thread->last_yield_ticks < kRightAfterTicks) return;
    thread->last_yield_ticks = now;
    trace_write(thread, TraceKind::kYield, now, capture_stack(thread, site), thread->yields);
    thread->yields = 0;
  });
}

void trace_set(bool on) {
  if (on == tracing()) return;
  on ? begin() : end();
}

void forget_trace() {
  trace_on.store(false, std::memory_order_relaxed);
  contention_trace(false);
}

}  // namespace mprof::preload
