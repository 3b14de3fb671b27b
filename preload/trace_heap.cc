// SPDX-License-Identifier: Apache-2.0
// The heap in the trace. How much is live is what the heap profile knows, an estimate unless every
// block is counted. How much the heap has from the system, nobody says without taking an
// allocator's locks: it is at least what is live, and at least the growth of the program break.
#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/real.h"
#include "preload/trace_ring.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::TraceKind;

std::atomic<uintptr_t> break_begin;
std::atomic<uintptr_t> break_told;  // as the trace has it

// libc keeps it: no system call.
uintptr_t program_break() { return reinterpret_cast<uintptr_t>(real.sbrk(0)); }

// Where the kernel let it begin; 0 if it does not say.
uintptr_t first_break() { return own_stat_field(47); }

void look_at_break(ThreadBlock* thread, uintptr_t now_at, uint64_t ticks, uint32_t stack) {
  uintptr_t before = break_told.load(std::memory_order_relaxed);
  if (now_at == before ||
      !break_told.compare_exchange_strong(before, now_at, std::memory_order_relaxed))
    return;
  if (now_at > before)
    trace_write(thread, TraceKind::kGrow, ticks, stack, now_at - before);
  else
    trace_write(thread, TraceKind::kTrim, ticks, stack, before - now_at);
}

uint64_t live_bytes() {
  const int64_t live = header->live_bytes.load(std::memory_order_relaxed);
  return live < 0 ? 0 : static_cast<uint64_t>(live);
}

// At most so long, or so much, is not shown.
constexpr uint64_t kShortTicks = 300000;  // some 100 us
constexpr uint64_t kLittleBytes = 65536;
bool is_worth_a_record(const ThreadBlock* thread, uint64_t live, uint64_t ticks) {
  const uint64_t last = thread->last_heap_bytes;
  const uint64_t change = live > last ? live - last : last - live;
  return ticks - thread->last_heap_ticks > kShortTicks || change > kLittleBytes + live / 32;
}

}  // namespace

void trace_heap_begins() {
  const uintptr_t now_at = program_break();
  const uintptr_t first = first_break();
  break_begin.store(first != 0 && first <= now_at ? first : now_at, std::memory_order_relaxed);
  trace_break_is_told();
}

void trace_break_is_told() { break_told.store(program_break(), std::memory_order_relaxed); }

void trace_heap(ThreadBlock* thread, uint64_t ticks, uint32_t stack) {
  const uintptr_t now_at = program_break();
  look_at_break(thread, now_at, ticks, stack);
  const uint64_t live = live_bytes();
  if (!is_worth_a_record(thread, live, ticks)) return;
  thread->last_heap_ticks = ticks;
  thread->last_heap_bytes = live;
  const uint64_t grown = now_at - break_begin.load(std::memory_order_relaxed);
  trace_write(thread, TraceKind::kHeap, ticks, kNoRow, live, grown > live ? grown : live);
}

}  // namespace mprof::preload
