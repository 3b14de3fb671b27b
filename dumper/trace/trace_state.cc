// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/trace_state.h"

#include <fmt/format.h>

#include "dumper/journal.h"
#include "dumper/report_top.h"

namespace mprof::dumper {
namespace {

void read_file(const Dump& dump, TraceState& state) {
  const JournalFile file(dump.path(), JournalKind::kTrace);
  state.trouble = file.trouble();
  if (!file.usable()) return;
  state.file = file.path();
  state.file_bytes = file.disk_bytes();
  try {
    const JournalReader reader(file.fd(), file.path(),
                               journal_header_of(dump.header(), JournalKind::kTrace));
    state.given_up_bytes = reader.dropped_bytes();
  } catch (const JournalError& error) {
    state.trouble = error.what();
  }
}

std::string bytes_text(uint64_t bytes) {
  return format_value(static_cast<double>(bytes), "bytes", "auto");
}

bool is_at_its_limit(const Dump& dump, const TraceState& state) {
  const format::DumpHeader& header = dump.header();
  return header.trace_stops_when_full != 0 && header.trace_max_bytes != 0 &&
         state.file_bytes >= header.trace_max_bytes;
}

}  // namespace

TraceState trace_state(const Dump& dump) {
  TraceState state;
  state.is_on = dump.header().trace_on.load(std::memory_order_relaxed) != 0;
  state.sessions = dump.header().trace_sessions.load(std::memory_order_relaxed);
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kTraceRings));
  for (uint32_t row = 0; row < rows; ++row) {
    const auto ring = dump.trace_ring(row);
    if (!ring) continue;
    ++state.rings;
    state.written_bytes += ring->head->written.load(std::memory_order_relaxed);
    state.dropped_records += ring->head->dropped.load(std::memory_order_relaxed);
  }
  read_file(dump, state);
  return state;
}

std::string trace_text(const Dump& dump, const TraceState& state) {
  if (state.sessions == 0) return "none";
  const bool runs = dump.life() == Life::kRunning;
  std::string text =
      fmt::format("turned on {}{}; {} recorded in {} rings",
                  state.sessions == 1 ? "once" : fmt::format("{} times", state.sessions),
                  !runs         ? ""
                  : state.is_on ? ", is on"
                                : ", is off",
                  bytes_text(state.written_bytes), state.rings);
  if (!state.file.empty())
    text += fmt::format("; {} takes {}", state.file, bytes_text(state.file_bytes));
  if (state.given_up_bytes != 0)
    text += fmt::format(", the oldest {} were given up", bytes_text(state.given_up_bytes));
  if (is_at_its_limit(dump, state)) text += ", as much as MPROF_TRACE_MAX allows";
  if (state.dropped_records != 0)
    text += fmt::format("; {} records dropped because a ring was full", state.dropped_records);
  return text;
}

}  // namespace mprof::dumper
