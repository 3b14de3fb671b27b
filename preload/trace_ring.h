// SPDX-License-Identifier: Apache-2.0
// Whole records into a thread's trace ring; for the files that implement trace.h.
#pragma once

#include "preload/trace.h"

namespace mprof::preload {

uint32_t current_core();
// A trace begins.
void trace_heap_begins();
void write_trace_record(ThreadBlock* thread, const format::TraceEvent& event);

}  // namespace mprof::preload
