// SPDX-License-Identifier: Apache-2.0
// The half of trace.h that needs nothing but the dump: a thread's ring, and records into it.
#include <pthread.h>
#include <sched.h>

#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/rings.h"
#include "preload/trace.h"
#include "preload/trace_ring.h"

namespace mprof::preload {

constinit std::atomic<bool> trace_on{false};

namespace {

using format::kNoRow;
using format::TraceEvent;
using format::TraceKind;

// All rings together stay below this; what threads beyond would write is counted as lost.
constexpr uint64_t kMostTraceRingBytes = 256 << 20;

void attach(ThreadBlock* thread) {
  const Rings rings{tables.trace_rings,          format::TableId::kTraceRings, tables.trace_data,
                    format::TableId::kTraceData, header->trace_ring_bytes,     kMostTraceRingBytes};
  const Ring ring = take_ring(rings, thread->row_number);
  thread->trace_head = ring.head;
  if (ring.head == nullptr) return;
  thread->trace = {ring.head, reinterpret_cast<uint8_t*>(ring.data), header->trace_ring_bytes,
                   thread->row_number};
}

// Whoever has no ring asks for one again now and then: threads end.
void lose(ThreadBlock* thread) {
  if (thread->trace_head != nullptr) return;  // its ring was full, and has counted it
  count_lost(format::Lost::kTraceLost);
  constexpr uint32_t kRarely = 255;
  if ((thread->trace_records & kRarely) == 0) attach(thread);
}

bool has_joined(const ThreadBlock* thread) {
  return thread->trace_session == header->trace_sessions.load(std::memory_order_relaxed);
}

void join(ThreadBlock* thread) {
  thread->yields = 0;
  if (thread->trace_head == nullptr) attach(thread);
}

// A reader knows of a session's threads what they wrote in it.
void tell_labels(ThreadBlock* thread, const TraceEvent& first) {
  thread->trace_session = header->trace_sessions.load(std::memory_order_relaxed);
  const uint32_t set = current_labels();
  if (set == kNoRow && thread->trace_session <= 1) return;
  TraceEvent labels{TraceKind::kLabels, first.ticks, first.core};
  labels.arguments[0] = set + 1;
  write_trace_record(thread, labels);
}

}  // namespace

uint32_t current_core() {
  const int core = sched_getcpu();
  return core < 0 ? 0 : static_cast<uint32_t>(core);
}

void write_trace_record(ThreadBlock* thread, const TraceEvent& event) {
  if (self.trace_ended != 0) return;
  const bool is_first = !has_joined(thread);
  if (is_first) [[unlikely]]
    join(thread);
  if (!thread->trace.write(event)) [[unlikely]]
    lose(thread);
  constexpr uint32_t kNowAndThen = 1023;
  if ((++thread->trace_records & kNowAndThen) == 0) update_clock();
  if (is_first) [[unlikely]]
    tell_labels(thread, event);
}

void trace_write(ThreadBlock* thread, TraceKind kind, uint64_t ticks, uint32_t stack, uint64_t a,
                 uint64_t b, uint64_t c, uint64_t d) {
  write_trace_record(thread, {kind, ticks, current_core(), stack, {a, b, c, d}, nullptr, 0});
}

void trace_exit() {
  if (self.trace_ended != 0) return;
  ThreadBlock* thread = own_block();
  if (thread == nullptr) return;
  const ScopedInside inside(thread);
  trace_write(thread, TraceKind::kExit, ticks(), kNoRow, pthread_self());
  self.trace_ended = 1;
}

void give_trace_ring(ThreadBlock* thread) {
  give_ring(thread->trace_head);
  thread->trace_head = nullptr;
  thread->trace = {};
  thread->trace_session = 0;
}

}  // namespace mprof::preload
