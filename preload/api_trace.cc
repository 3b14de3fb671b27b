// SPDX-License-Identifier: Apache-2.0
// The library's side of mprof.h: what the program itself writes into a trace.
//
// The ids of tasks are given whether or not a trace is on, so that a task keeps its own when one
// begins. Whatever ends is named again by the program: nothing is kept here in between.
//
// Threads: any. Signals: safe; in a handler that interrupted mprof itself nothing is written.
// Allocates: a forked child's dump, rows of it. Blocks: no.
#include <string.h>

#include "preload/api_work.h"
#include "preload/low.h"
#include "preload/program_labels.h"
#include "preload/trace.h"

using namespace mprof::preload;  // the functions below are C names, outside any namespace
using mprof::format::TraceKind;

namespace {

constinit std::atomic<uint64_t> last_task{0};

bool may_trace() { return tracing() && may_work(); }

bool is_text(const char* text) { return text != nullptr && *text != '\0'; }

uint64_t row_of(const char* name) {
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kAtWork);
  return trace_name(is_text(name) ? name : "[unnamed]");
}

}  // namespace

extern "C" {

MPROF_EXPORT int mprof_library_trace_is_on() noexcept { return may_work() && tracing() ? 1 : 0; }

MPROF_EXPORT uint64_t mprof_library_task_begin(const char* name, uint64_t parent) noexcept {
  if (!may_work()) return 0;
  const uint64_t task = last_task.fetch_add(1, std::memory_order_relaxed) + 1;
  if (tracing())
    trace_event_at(MPROF_CALL_SITE(), TraceKind::kTaskBegin, task, parent, row_of(name));
  return task;
}

MPROF_EXPORT void mprof_library_task_end(uint64_t task) noexcept {
  if (task != 0 && may_trace()) trace_event(TraceKind::kTaskEnd, task);
}

MPROF_EXPORT void mprof_library_region_begin(uint64_t task, const char* name) noexcept {
  if (may_trace()) trace_event_at(MPROF_CALL_SITE(), TraceKind::kRegionBegin, task, row_of(name));
}

MPROF_EXPORT void mprof_library_region_end(uint64_t task, const char* name) noexcept {
  if (may_trace()) trace_event(TraceKind::kRegionEnd, task, row_of(name));
}

MPROF_EXPORT void mprof_library_log(uint64_t task, const char* category,
                                    const char* message) noexcept {
  if (message == nullptr || !may_trace()) return;
  const uint64_t category_row = is_text(category) ? row_of(category) + 1 : 0;
  trace_log(MPROF_CALL_SITE(), task, category_row, message,
            strnlen(message, mprof::format::kMostTraceText + 1));
}

}  // extern "C"
