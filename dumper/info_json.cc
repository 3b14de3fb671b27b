// SPDX-License-Identifier: Apache-2.0
#include "dumper/info_json.h"

#include <nlohmann/json.hpp>

#include "dumper/count_profile.h"
#include "dumper/cpu_times.h"
#include "dumper/custom_profiles.h"
#include "dumper/profile_comments.h"
#include "dumper/trace/trace_state.h"

namespace mprof::dumper {
namespace {

using Json = nlohmann::ordered_json;

Json estimate(const Estimate& e) { return {{"value", e.value}, {"stderr", e.standard_error}}; }

Json totals(const HeapSums& sums) {
  return {
      {"alloc_objects", estimate(sums.alloc_objects)}, {"alloc_bytes", estimate(sums.alloc_bytes)},
      {"inuse_objects", estimate(sums.live_objects)},  {"inuse_bytes", estimate(sums.live_bytes)},
      {"peak_objects", estimate(sums.peak_objects)},   {"peak_bytes", estimate(sums.peak_bytes)}};
}

Json waits(const Dump& dump, const CountReading& counts, format::CountKind kind) {
  const CountSums sums = sum(dump, counts, kind);
  return {{"samples", sums.samples},
          {"contentions", estimate(sums.count)},
          {"delay_ns", estimate(sums.delay_ns)},
          {"longest_ns", sums.longest_ns}};
}

Json cpu(const Dump& dump, const CountReading& counts) {
  const CpuTimes times = cpu_times(dump, counts);
  return {{"recorded", is_recorded(dump, format::CountKind::kCpu)},
          {"samples", times.samples},
          {"signals", times.signals},
          {"sampled_ns", times.sampled_ns},
          {"in_mprof_ns", times.in_mprof_ns},
          {"dropped_samples", times.dropped},
          {"threads", times.threads},
          {"threads_without_timer", times.without_timer},
          {"used_ns", times.used_ns},
          {"used_is_final", times.used_is_final},
          {"profiled_ns", times.profiled_ns}};
}

Json trace(const Dump& dump) {
  const TraceState state = trace_state(dump);
  return {{"on", state.is_on},
          {"sessions", state.sessions},
          {"rings", state.rings},
          {"written_bytes", state.written_bytes},
          {"dropped_records", state.dropped_records},
          {"file", state.file},
          {"file_bytes", state.file_bytes},
          {"given_up_bytes", state.given_up_bytes},
          {"trouble", state.trouble},
          {"max_bytes", dump.header().trace_max_bytes}};
}

Json customs(const Dump& dump, const CountReading& counts) {
  Json all = Json::array();
  for (const CustomProfile& custom : CustomProfiles(dump).all()) {
    const CountSums sums = sum(dump, counts, custom.kind);
    all.push_back({{"name", custom.name},
                   {"count", static_cast<uint64_t>(sums.count.value)},
                   {"added", sums.added},
                   {"removed", sums.removed}});
  }
  return all;
}

Json lost(const Dump& dump) {
  Json by_reason = Json::object();
  for (size_t i = 0; i < format::kLostReasons; ++i)
    if (const uint64_t count = dump.header().lost[i].load(std::memory_order_relaxed); count != 0)
      by_reason[format::kLostNames[i]] = count;
  return by_reason;
}

Json events(const DoubleEntry& books) {
  const StreamHealth& health = books.health;
  return {{"produced", books.samples},         {"delivered", health.events},
          {"dropped", health.lost()},          {"gaps", health.gaps},
          {"damaged", health.damaged_records}, {"equal", books.equal()},
          {"journal", health.journal},         {"without_profbuf", books.without_profbuf}};
}

}  // namespace

std::string info_json(const Dump& dump, const HeapReading& reading, const DoubleEntry& books) {
  const HeapSums sums = sum(reading);
  const StackCounts stacks = stack_counts(dump);
  const CountReading counts = read_counts(dump);
  const CountSums threads = sum(dump, counts, format::CountKind::kThreadCreate);
  const Json out = {
      {"dump", dump.path()},
      {"program", dump.executable()},
      {"command_line", dump.command_line()},
      {"pid", dump.header().pid},
      {"start_realtime_ns", dump.header().realtime_start_ns},
      {"end_realtime_ns", dump.end_realtime_ns()},
      {"running", dump.life() == Life::kRunning},
      {"ended_cleanly", dump.life() == Life::kEndedCleanly},
      {"allocator", dump.allocator()},
      {"heap_rate_bytes", dump.header().heap_rate_bytes},
      {"alloc_samples", sums.alloc_samples},
      {"free_samples", sums.free_samples},
      {"totals", totals(sums)},
      {"stacks_truncated", stacks.truncated},
      {"stacks_incomplete", stacks.incomplete},
      {"lost", lost(dump)},
      {"events", events(books)},
      {"damage", dump.damage()},
      {"block_rate_ns", dump.header().block_rate_ns},
      {"mutex_fraction", dump.header().mutex_fraction},
      {"block", waits(dump, counts, format::CountKind::kBlock)},
      {"mutex", waits(dump, counts, format::CountKind::kMutex)},
      {"threads_created", threads.samples},
      {"cpu_hz", dump.header().cpu_hz},
      {"cpu", cpu(dump, counts)},
      {"trace", trace(dump)},
      {"custom_profiles", customs(dump, counts)},
  };
  // File names may hold any bytes.
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace mprof::dumper
