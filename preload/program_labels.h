// SPDX-License-Identifier: Apache-2.0
// The labels that the program gives to its threads (mprof.h).
//
// A set is a row of the label table, kNoRow for none. Its chain has every key once, in the order of
// the keys' string rows: the same labels are the same row, in whatever order they were set.
// The set in force is a word of the thread's TLS; see thread_state.h. Hooks take it as the base of
// the label sets of their samples.
// Bounds    A set has at most kMostLabels keys; longer keys and values are cut and end in "...".
//           After kMostLabelRows rows a value that would need a new one becomes "[other]"; rows
//           kept in reserve are for those, and for what is set beside them. Without even such a row
//           a label is left out. Each of these counts as Lost::kLabelsFull.
// The names of tasks and regions in a trace lie in the string table beside the labels' texts, and
// are bounded like them.
// Called by preload/api.cc, api_trace.cc. Threads: any. Signals: not from a handler that
// interrupted its own thread inside mprof. Allocates: rows of the dump. Blocks: no. Fails: declined
// and counted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::preload {

inline constexpr uint32_t kMostLabels = 16;
inline constexpr uint32_t kLongestLabelKey = 64;
inline constexpr uint32_t kLongestLabelValue = 256;
inline constexpr uint32_t kMostLabelRows = 65536;
inline constexpr uint32_t kReservedLabelRows = 8192;
inline constexpr uint32_t kMostTraceNames = 8192;

bool program_labels_init();
size_t program_labels_bytes();

// `set` with one more label, or with another value of it; false: there is no room, and nothing has
// changed. Neither text is empty.
bool add_label(uint32_t* set, const char* key, const char* value);
// `set` without a label.
uint32_t without_label(uint32_t set, const char* key);

// The row of a name; not empty, cut like a value. "[other]" when there is no room for a new one.
uint32_t trace_name(const char* name);

}  // namespace mprof::preload
