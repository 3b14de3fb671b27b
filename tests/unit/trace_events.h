// SPDX-License-Identifier: Apache-2.0
// Events for trace rings, of every kind, and the records that they are to come back as.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dumper/trace/record.h"
#include "format/call_names.h"
#include "format/label_table.h"
#include "format/trace_writer.h"

namespace mprof::testing {

inline constexpr uint64_t kTraceRows = 1000;  // of the tables of threads, stacks and labels

// A ring in memory of its own. Ticks are nanoseconds since the start.
struct TraceRing {
  explicit TraceRing(uint64_t bytes, uint32_t thread = 0)
      : data(bytes), writer(&head, data.data(), bytes, thread) {}
  TraceRing(const TraceRing&) = delete;
  TraceRing& operator=(const TraceRing&) = delete;

  format::ProfbufHead head{};
  std::vector<uint8_t> data;
  format::TraceWriter writer;
};

inline std::string random_text(std::mt19937_64& random, size_t most) {
  std::string text(random() % (most + 1), '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// Numbers of every length.
inline uint64_t random_number(std::mt19937_64& random) { return random() >> random() % 64; }

// The arguments that the kind may have.
inline void fill_arguments(std::mt19937_64& random, format::TraceEvent& event) {
  using format::TraceKind;
  constexpr auto kWaits = static_cast<uint64_t>(format::WaitKind::kCount);
  for (int i = 0; i < format::info_of(event.kind).arguments; ++i)
    event.arguments[i] = random_number(random);
  uint64_t* const a = event.arguments;
  switch (event.kind) {
    case TraceKind::kThread: a[1] = random() % (kWaits + 1), a[2] %= 1u << 30; [[fallthrough]];
    case TraceKind::kCreate: a[0] = random() % kTraceRows; break;
    case TraceKind::kWait:
    case TraceKind::kRelease: a[0] = random() % kWaits; break;
    case TraceKind::kCall: a[0] = random() % static_cast<uint64_t>(format::CallName::kCount); break;
    case TraceKind::kLabels: a[0] = random() % (kTraceRows + 1); break;
    case TraceKind::kRelock:
    case TraceKind::kGrow:
    case TraceKind::kTrim: a[1] %= 1u << 30; break;
    default: break;
  }
}

// Any kind but kEnd and kLost, which the writer makes. `text` must outlive the event.
inline format::TraceEvent random_event(std::mt19937_64& random, uint64_t ticks, std::string& text) {
  using format::TraceKind;
  constexpr auto kFirst = static_cast<uint64_t>(TraceKind::kStart);
  constexpr auto kKinds = static_cast<uint64_t>(TraceKind::kCount) - kFirst;
  format::TraceEvent event{};
  event.kind = static_cast<TraceKind>(kFirst + random() % kKinds);
  event.ticks = ticks;
  event.core = static_cast<uint32_t>(random() % 4 == 0 ? random() % 300 : 7);
  event.stack = random() % 2 == 0 ? format::kNoRow : static_cast<uint32_t>(random() % kTraceRows);
  fill_arguments(random, event);
  if (event.kind != TraceKind::kLog) return event;
  text = random_text(random, random() % 8 == 0 ? format::kMostTraceText : 20);
  event.text = text.data();
  event.text_bytes = static_cast<uint32_t>(text.size());
  return event;
}

inline dumper::TraceRecord record_of(const format::TraceEvent& event, uint32_t thread,
                                     uint64_t start_ticks = 0) {
  dumper::TraceRecord record;
  record.kind = event.kind;
  record.ns = event.ticks - start_ticks;
  record.thread = thread;
  record.core = event.core;
  record.stack = event.stack;
  std::copy_n(event.arguments, format::kMostTraceArguments, record.arguments);
  record.text.assign(event.text == nullptr ? "" : event.text, event.text_bytes);
  return record;
}

inline bool same_record(const dumper::TraceRecord& a, const dumper::TraceRecord& b) {
  return a.kind == b.kind && a.ns == b.ns && a.thread == b.thread && a.core == b.core &&
         a.stack == b.stack && a.text == b.text &&
         std::memcmp(a.arguments, b.arguments, sizeof a.arguments) == 0;
}

// How many of the first records are the same.
inline size_t same_records(const std::vector<dumper::TraceRecord>& a,
                           const std::vector<dumper::TraceRecord>& b) {
  size_t same = 0;
  while (same < a.size() && same < b.size() && same_record(a[same], b[same])) ++same;
  return same;
}

}  // namespace mprof::testing
