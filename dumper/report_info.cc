// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dumper/count_profile.h"
#include "dumper/cpu_times.h"
#include "dumper/custom_profiles.h"
#include "dumper/doctor.h"
#include "dumper/profile_comments.h"
#include "dumper/report_top.h"
#include "dumper/terminal_text.h"
#include "dumper/trace/trace_state.h"

namespace mprof::dumper {
namespace {

using format::TableId;

constexpr size_t kMaxThreadsShown = 16;
constexpr size_t kMaxModulesShown = 32;
constexpr size_t kTopShown = 3;

// Lines of "label   value"; further lines of one label are indented to it.
class Sheet {
 public:
  void line(std::string_view label, std::string_view value) {
    out_ += fmt::format("{:<16}{}\n", label, printable(value));
  }
  void more(std::string_view value) { line("", value); }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

std::string bytes_text(double bytes) { return format_value(bytes, "bytes", "auto"); }

std::string objects_of(const Estimate& bytes, const Estimate& objects) {
  return fmt::format("{} in {} objects", estimate_text(bytes, "bytes"),
                     estimate_text(objects, "count"));
}

const char* end_text(Life life) {
  switch (life) {
    case Life::kRunning: return "still running";
    case Life::kEndedCleanly: return "ended cleanly";
    case Life::kSnapshot: return "a snapshot of the running program";
    case Life::kEndedWithoutCleanEnd: return "no clean end (killed, crashed, _exit or exec)";
  }
  return "";
}

void add_identity(const Dump& dump, Sheet& sheet) {
  const auto& header = dump.header();
  const Life life = dump.life();
  const uint64_t start = header.realtime_start_ns;
  const uint64_t end = dump.end_realtime_ns();
  sheet.line("dump", dump.path());
  sheet.line("program", command_text({dump.executable()}));
  sheet.line("command line", command_text(dump.command_line()));
  sheet.line("process", fmt::format("{}, child of {}", header.pid, header.parent_pid));
  sheet.line("started", time_text(start));
  sheet.line("duration",
             fmt::format("{}{}, {}", life == Life::kEndedWithoutCleanEnd ? "at least " : "",
                         duration_text(static_cast<double>(end > start ? end - start : 0)),
                         end_text(life)));
}

void add_settings(const Dump& dump, Sheet& sheet) {
  const auto& header = dump.header();
  const std::string allocator = dump.allocator();
  sheet.line("allocator", allocator.empty() ? "unknown" : allocator);
  sheet.line("heap rate",
             header.heap_rate_bytes == 0 ? std::string("0: heap sampling is off")
             : header.heap_rate_bytes == 1
                 ? std::string("1: every allocation, values are exact")
                 : fmt::format("one sample every {} bytes on average", header.heap_rate_bytes));
  if (was_changed(dump, format::kHeapRateChanged)) sheet.more("changed while the program ran");
  sheet.line("stacks kept", fmt::format("{} frames at most, unwinder {}", header.stack_depth_frames,
                                        unwind_name(header.unwind)));
  sheet.line("mmap", header.mmap_profiled != 0 ? "profiled" : "not profiled");
}

void add_sums(const Dump& dump, const HeapReading& reading, Sheet& sheet) {
  const HeapSums sums = sum(reading);
  const bool running = dump.life() == Life::kRunning;
  sheet.line("samples",
             fmt::format("{} allocations, {} frees", sums.alloc_samples, sums.free_samples));
  sheet.line("allocated", objects_of(sums.alloc_bytes, sums.alloc_objects));
  sheet.line(running ? "in use now" : "in use at end",
             objects_of(sums.live_bytes, sums.live_objects));
  sheet.line("peak", objects_of(sums.peak_bytes, sums.peak_objects) +
                         (reading.peak_is_now && running ? ", which is now" : ""));
  if (reading.peak_moved) sheet.more("the peak moved while it was read: parts of two are mixed");
  if (dump.header().heap_rate_bytes > 1)
    sheet.more("± is one standard error of the estimate; two cover the truth 95 times in 100");
}

void add_waits(const Dump& dump, const CountReading& counts, Sheet& sheet) {
  constexpr std::pair<format::CountKind, const char*> kShown[] = {
      {format::CountKind::kBlock, "waits"}, {format::CountKind::kMutex, "lock contention"}};
  for (const auto& [kind, label] : kShown) {
    const CountSums sums = sum(dump, counts, kind);
    if (is_recorded(dump, kind))
      sheet.line(label,
                 fmt::format("{} contentions, {} of delay; {} recorded, the longest {}",
                             estimate_text(sums.count, "count"), duration_text(sums.delay_ns),
                             sums.samples, duration_text(static_cast<double>(sums.longest_ns))));
    sheet.line(is_recorded(dump, kind) ? "" : label, rate_text(dump, kind));
  }
  const CountSums threads = sum(dump, counts, format::CountKind::kThreadCreate);
  sheet.line("threads made", estimate_text(threads.count, "count"));
}

void add_cpu(const Dump& dump, const CountReading& counts, Sheet& sheet) {
  const auto kind = format::CountKind::kCpu;
  sheet.line("processor time", rate_text(dump, kind));
  if (!is_recorded(dump, kind)) return;
  const CpuTimes times = cpu_times(dump, counts);
  sheet.more(fmt::format("{} samples with a stack, taken by {} signals; {} dropped", times.samples,
                         times.signals, times.dropped));
  for (const std::string& line : cpu_lines(times)) sheet.more(line);
}

void add_trace(const Dump& dump, Sheet& sheet) {
  const TraceState state = trace_state(dump);
  sheet.line("trace", trace_text(dump, state));
  if (!state.trouble.empty()) sheet.more(state.trouble);
}

void add_customs(const Dump& dump, const CountReading& counts, Sheet& sheet) {
  std::string label = "program's own";
  for (const CustomProfile& custom : CustomProfiles(dump).all()) {
    sheet.line(label,
               fmt::format("{}: {}", custom.name, contents_text(sum(dump, counts, custom.kind))));
    label.clear();
  }
}

std::string share(uint64_t part, uint64_t whole) {
  if (whole == 0) return fmt::format("{}", part);
  return fmt::format("{} ({:.2f}%)", part,
                     100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void add_losses(const Dump& dump, const HeapReading& reading, const std::string& double_entry,
                Sheet& sheet) {
  const StackCounts counts = stack_counts(dump);
  sheet.line("truncated",
             share(counts.truncated, counts.samples) + " stacks deeper than the limit");
  sheet.line("incomplete", share(counts.incomplete, counts.samples) +
                               " stacks not followed to the outermost frame");
  const auto lost = loss_lines(dump);
  if (lost.empty()) sheet.line("lost", "nothing");
  for (size_t i = 0; i < lost.size(); ++i) sheet.line(i == 0 ? "lost" : "", lost[i]);
  sheet.line("double entry", double_entry);
  sheet.line("read", describe(reading.cut));
  for (const std::string& line : dump.damage()) sheet.line("damage", line);
}

double thread_cost_ticks(const ThreadCopy& thread) {
  if (thread.cost_measured == 0) return 0;
  return static_cast<double>(thread.cost_ticks) / static_cast<double>(thread.cost_measured) *
         static_cast<double>(thread.samples);
}

std::vector<ThreadCopy> all_threads(const Dump& dump) {
  std::vector<ThreadCopy> threads;
  for (uint64_t row = 0; row < dump.rows(TableId::kThreads); ++row)
    if (auto thread = dump.thread(static_cast<uint32_t>(row)))
      threads.push_back(std::move(*thread));
  return threads;
}

void add_cost(const Dump& dump, const std::vector<ThreadCopy>& threads, Sheet& sheet) {
  const TickClock clock = dump.clock();
  double ticks = 0;
  uint64_t measured = 0;
  uint64_t samples = 0;
  for (const ThreadCopy& thread : threads) {
    ticks += thread_cost_ticks(thread);
    measured += thread.cost_measured;
    samples += thread.samples;
  }
  sheet.line("profiler's cost",
             fmt::format("{} of disk, {} of dump mapped, {} of other memory",
                         bytes_text(static_cast<double>(dump.disk_bytes())),
                         bytes_text(static_cast<double>(dump.file_bytes())),
                         bytes_text(static_cast<double>(dump.header().anonymous_bytes))));
  if (measured == 0 || samples == 0) return;
  const double ns = ticks * clock.ns_per_tick();
  sheet.more(fmt::format("{} on allocation samples ({} each, measured on {} of {}){}",
                         duration_text(ns), duration_text(ns / static_cast<double>(samples)),
                         measured, samples,
                         clock.calibrated() ? "" : "; clock unknown: cycles shown as ns"));
}

void add_threads(const std::vector<ThreadCopy>& all, Sheet& sheet) {
  std::vector<ThreadCopy> threads = all;
  std::sort(threads.begin(), threads.end(),
            [](const ThreadCopy& a, const ThreadCopy& b) { return a.samples > b.samples; });
  const auto ended = std::count_if(threads.begin(), threads.end(),
                                   [](const ThreadCopy& t) { return t.end_ticks != 0; });
  sheet.line("threads", fmt::format("{} seen, {} of them ended", threads.size(), ended));
  for (size_t i = 0; i < std::min(threads.size(), kMaxThreadsShown); ++i)
    sheet.more(fmt::format("{:>8}  {:<16} {} allocation samples, {} frees", threads[i].tid,
                           threads[i].name, threads[i].samples, threads[i].sampled_frees));
  if (threads.size() > kMaxThreadsShown)
    sheet.more(fmt::format("and {} more", threads.size() - kMaxThreadsShown));
}

void add_modules(const Dump& dump, Sheet& sheet) {
  const uint64_t rows = dump.rows(TableId::kModules);
  sheet.line("modules", fmt::format("{} with sampled code", rows));
  for (uint64_t row = 0; row < std::min<uint64_t>(rows, kMaxModulesShown); ++row)
    if (const auto module = dump.module(static_cast<uint32_t>(row)))
      sheet.more(fmt::format("{:x}-{:x} {} {}{}", module->start, module->end, module->path,
                             module->build_id_hex,
                             module->unloaded_ticks != 0 ? " (unloaded)" : ""));
  if (rows > kMaxModulesShown) sheet.more(fmt::format("and {} more", rows - kMaxModulesShown));
}

void add_tables(const Dump& dump, Sheet& sheet) {
  constexpr std::pair<TableId, const char*> kShown[] = {
      {TableId::kStackNodes, "stack frames"}, {TableId::kBuckets, "call stacks"},
      {TableId::kCounts, "waits, threads"},   {TableId::kLive, "live blocks"},
      {TableId::kThreads, "threads"},         {TableId::kModules, "modules"},
      {TableId::kLabels, "labels"},           {TableId::kCustoms, "own profiles"},
      {TableId::kProfbufs, "event buffers"}};
  std::string label = "tables";
  for (const auto& [table, name] : kShown) {
    sheet.line(label, fmt::format("{:<14} {} rows used, room for {}", name, dump.rows(table),
                                  dump.capacity_rows(table)));
    label.clear();
  }
}

// Why there is nothing to see.
void add_hints(const Dump& dump, const HeapReading& reading, Sheet& sheet) {
  if (sum(reading).alloc_samples != 0) return;
  if (dump.header().heap_rate_bytes == 0)
    return sheet.line("why empty", "MPROF_HEAP_RATE=0 turns heap sampling off");
  sheet.line("why empty", fmt::format("no allocation was sampled: the program allocated little "
                                      "against the rate of {} bytes (MPROF_HEAP_RATE=1 records "
                                      "all), or its allocations never reach libmprof.so",
                                      dump.header().heap_rate_bytes));
  for (const Finding& finding : examine_executable(dump.executable()))
    if (finding.is_problem) sheet.more(finding.text);
}

}  // namespace

std::string report_info(const Dump& dump, const HeapReading& reading,
                        const std::string& double_entry) {
  Sheet sheet;
  const auto threads = all_threads(dump);
  const CountReading counts = read_counts(dump);
  add_identity(dump, sheet);
  add_settings(dump, sheet);
  add_sums(dump, reading, sheet);
  add_hints(dump, reading, sheet);
  add_waits(dump, counts, sheet);
  add_cpu(dump, counts, sheet);
  add_trace(dump, sheet);
  add_customs(dump, counts, sheet);
  add_losses(dump, reading, double_entry, sheet);
  add_cost(dump, threads, sheet);
  add_threads(threads, sheet);
  add_modules(dump, sheet);
  add_tables(dump, sheet);
  return sheet.take();
}

namespace {

// Nothing for a program that waited for nobody.
std::string contention_summary(const Dump& dump, const CountReading& counts) {
  const CountSums waits = sum(dump, counts, format::CountKind::kBlock);
  const CountSums stretches = sum(dump, counts, format::CountKind::kMutex);
  if (waits.samples == 0 && stretches.samples == 0) return "";
  return fmt::format("  waited {} in {} waits; somebody waited for a lock {} in {} contentions\n",
                     duration_text(waits.delay_ns), estimate_text(waits.count, "count"),
                     duration_text(stretches.delay_ns), estimate_text(stretches.count, "count"));
}

// Nothing if the profile was never on.
std::string cpu_summary(const Dump& dump, const CountReading& counts) {
  if (!is_recorded(dump, format::CountKind::kCpu)) return "";
  const CpuTimes times = cpu_times(dump, counts);
  return fmt::format("  {} samples; {}\n", times.samples, cpu_lines(times).front());
}

}  // namespace

std::string report_summary(const Dump& dump, const HeapReading& reading, const Profile& allocs) {
  const HeapSums sums = sum(reading);
  const bool running = dump.life() == Life::kRunning;
  std::string text = fmt::format(
      "process {}: {}\n  allocated {} in {} objects; {} {}; peak {}\n", dump.header().pid,
      printable(command_text(dump.command_line())), estimate_text(sums.alloc_bytes, "bytes"),
      estimate_text(sums.alloc_objects, "count"),
      running ? "still running, in use now" : "in use at the end",
      estimate_text(sums.live_bytes, "bytes"), estimate_text(sums.peak_bytes, "bytes"));
  const CountReading counts = read_counts(dump);
  text += contention_summary(dump, counts) + cpu_summary(dump, counts);
  TopOptions options;
  options.value_type = "alloc_space";
  const TopReport top = compute_top(allocs, options);
  for (size_t i = 0; i < std::min(top.rows.size(), kTopShown) && top.rows[i].flat > 0; ++i)
    text += fmt::format("  {:>10}  {}\n", bytes_text(static_cast<double>(top.rows[i].flat)),
                        printable(top.rows[i].name));
  for (const std::string& line : loss_lines(dump)) text += fmt::format("  {}\n", line);
  for (const std::string& line : dump.damage())
    text += fmt::format("  damage: {}\n", printable(line));
  return text;
}

}  // namespace mprof::dumper
