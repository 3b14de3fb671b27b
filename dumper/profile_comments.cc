// SPDX-License-Identifier: Apache-2.0
#include "dumper/profile_comments.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cmath>

#include "dumper/custom_profiles.h"
#include "dumper/report_top.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

std::string quoted(const std::string& argument) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^";
  std::string text = argument;
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

const char* exact_text(const Dump& dump, format::ChangedSetting setting) {
  return was_changed(dump, setting) ? "" : ": values are exact";
}

// Behind what is said of the rate at the end.
std::string change_text(const Dump& dump, format::ChangedSetting setting) {
  return was_changed(dump, setting) ? "; that is the rate at the end: it was changed while the "
                                      "program ran, and each sample has the weight of its time"
                                    : "";
}

std::string rate_line(uint64_t rate) {
  if (rate == 0) return "heap sampling was off (rate 0)";
  if (rate == 1) return "every allocation was recorded (rate 1): values are exact";
  return fmt::format("one heap sample every {} bytes on average; values are unbiased estimates",
                     rate);
}

std::string stack_line(const Dump& dump) {
  const StackCounts counts = stack_counts(dump);
  return fmt::format(
      "stacks: unwinder {}, at most {} frames; of {} sampled stacks {} were deeper "
      "([truncated]) and {} could not be followed to the outermost frame ([incomplete])",
      unwind_name(dump.header().unwind), dump.header().stack_depth_frames, counts.samples,
      counts.truncated, counts.incomplete);
}

std::string peak_line(const HeapReading& reading) {
  std::string line = "values are the heap when it was at its highest; its parts in use then";
  line += reading.peak_is_now ? " are those of now: the heap is at its peak" : "";
  if (reading.peak_moved)
    line += "; the peak moved while it was read, so parts of two peaks may be mixed";
  return line;
}

std::string totals_line(const HeapReading& reading, HeapView view) {
  const HeapSums sums = sum(reading);
  if (view == HeapView::kPeak)
    return fmt::format("total at the peak: {} in {} objects",
                       estimate_text(sums.peak_bytes, "bytes"),
                       estimate_text(sums.peak_objects, "count"));
  return fmt::format(
      "totals with standard error: allocated {} in {} objects; in use {} in {} "
      "objects",
      estimate_text(sums.alloc_bytes, "bytes"), estimate_text(sums.alloc_objects, "count"),
      estimate_text(sums.live_bytes, "bytes"), estimate_text(sums.live_objects, "count"));
}

std::string totals_line(const Dump& dump, const CountReading& reading, format::CountKind kind) {
  const CountSums sums = sum(dump, reading, kind);
  if (is_custom(kind)) return "total: " + contents_text(sums);
  if (kind == format::CountKind::kThreadCreate)
    return fmt::format("total: {} threads", estimate_text(sums.count, "count"));
  if (kind == format::CountKind::kCpu)
    return fmt::format(
        "total: {:.0f} samples, {} of processor time, taken by {} signals; what n signals saw is "
        "known to about the square root of n",
        sums.count.value, duration_text(sums.delay_ns), sums.samples);
  return fmt::format(
      "totals with standard error: {} contentions, {} of delay; {} events recorded, the longest {}",
      estimate_text(sums.count, "count"), duration_text(sums.delay_ns), sums.samples,
      duration_text(static_cast<double>(sums.longest_ns)));
}

std::string stack_line(const Dump& dump, const CountReading& reading, format::CountKind kind) {
  uint64_t stacks = 0;
  uint64_t truncated = 0;
  uint64_t incomplete = 0;
  for (const auto& [row, copy] : reading.rows) {
    if (copy.kind != kind || copy.stack == format::kNoRow) continue;
    const uint32_t root = dump.stack(copy.stack).root;
    ++stacks;
    truncated += root == format::kStackTruncated ? 1 : 0;
    incomplete += root == format::kStackIncomplete ? 1 : 0;
  }
  return fmt::format(
      "stacks: unwinder {}, at most {} frames; of {} rows of stack and labels {} are deeper "
      "([truncated]) and {} could not be followed to the outermost frame ([incomplete])",
      unwind_name(dump.header().unwind), dump.header().stack_depth_frames, stacks, truncated,
      incomplete);
}

void add_losses(const Dump& dump, std::vector<std::string>& lines) {
  for (std::string& line : loss_lines(dump)) lines.push_back(std::move(line));
  for (const std::string& line : dump.damage()) lines.push_back("damage: " + line);
}

const char* window_meaning(format::CountKind kind) {
  if (kind == format::CountKind::kCpu)
    return "; time in mprof itself and of samples that were dropped is known of the whole run "
           "only, "
           "so it is left out";
  return "; a wait counts, whole, where it ended";
}

std::vector<std::string> first_lines(const Dump& dump, const std::string& view) {
  return {fmt::format("mprof {} profile of process {}, started {}", view, dump.header().pid,
                      time_text(dump.header().realtime_start_ns)),
          "command line: " + command_text(dump.command_line())};
}

std::string block_rate_text(const Dump& dump) {
  const uint64_t rate_ns = dump.header().block_rate_ns;
  if (rate_ns == 0) return "waits were not recorded (MPROF_BLOCK_RATE=0)";
  if (rate_ns == 1)
    return std::string("every wait was recorded (MPROF_BLOCK_RATE=1)") +
           exact_text(dump, format::kBlockRateChanged);
  return fmt::format(
      "waits of {} or longer were recorded, shorter ones with a chance by their length, less of "
      "threads that did nothing but wait (MPROF_BLOCK_RATE={}); values are unbiased estimates",
      duration_text(static_cast<double>(rate_ns)), rate_ns);
}

std::string mutex_fraction_text(const Dump& dump) {
  const uint32_t fraction = dump.header().mutex_fraction;
  if (fraction == 0) return "contention of locks was not recorded (MPROF_MUTEX_FRACTION=0)";
  if (fraction == 1)
    return std::string("all contention of locks was recorded (MPROF_MUTEX_FRACTION=1)") +
           exact_text(dump, format::kMutexFractionChanged);
  return fmt::format(
      "stretches of waiting much longer than {} were all recorded, others with a chance by their "
      "length (MPROF_MUTEX_FRACTION={}); values are unbiased estimates",
      duration_text(static_cast<double>(fraction) * format::kMutexFractionNs), fraction);
}

std::string ns_text(uint64_t ns) { return duration_text(static_cast<double>(ns)); }

std::string used_text(const CpuTimes& times) {
  return fmt::format("the process used {} meanwhile{}", ns_text(times.used_ns),
                     times.used_is_final ? "" : ", when it last looked");
}

std::string cpu_rate_text(const Dump& dump) {
  const uint32_t hz = dump.header().cpu_hz;
  if (hz != 0)
    return fmt::format("a sample for every {} of each thread's processor time (MPROF_CPU_HZ={})",
                       duration_text(1e9 / hz), hz);
  if (is_recorded(dump, format::CountKind::kCpu))
    return "CPU sampling is off now; it was on before";
  return "CPU samples were not taken (MPROF_CPU_HZ=0)";
}

std::string loss_line(format::Lost reason, uint64_t count) {
  const char* name = format::kLostNames[static_cast<size_t>(reason)];
  if (reason == format::Lost::kNoCpuTimer)
    return fmt::format("{} threads had no CPU timer: none of their processor time was sampled",
                       count);
  if (reason == format::Lost::kNoProfbuf)
    return fmt::format("{} events are in the totals and not in the events over time ({})", count,
                       name);
  if (reason == format::Lost::kLabelsFull)
    return fmt::format("{} labels of the program became \"[other]\" or were left out ({})", count,
                       name);
  if (reason == format::Lost::kValueNotAdded)
    return fmt::format("lost: {} values ({})", count, name);
  return fmt::format("lost: {} samples ({})", count, name);
}

std::string number(double value, const char* unit) {
  if (std::string_view(unit) == "bytes") return format_value(value, "bytes", "auto");
  return fmt::format("{:.0f}", value);
}

}  // namespace

const char* unwind_name(format::UnwindMode mode) {
  switch (mode) {
    case format::UnwindMode::kAuto: return "auto";
    case format::UnwindMode::kFramePointer: return "fp";
    case format::UnwindMode::kDwarf: return "dwarf";
  }
  return "unknown";
}

StackCounts stack_counts(const Dump& dump) {
  StackCounts counts;
  for (uint64_t row = 0; row < dump.rows(format::TableId::kThreads); ++row) {
    const auto thread = dump.thread(static_cast<uint32_t>(row));
    if (!thread) continue;
    counts.samples += thread->samples;
    counts.truncated += thread->truncated_stacks;
    counts.incomplete += thread->incomplete_stacks;
  }
  return counts;
}

std::vector<std::string> loss_lines(const Dump& dump) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < format::kLostReasons; ++i)
    if (const uint64_t count = dump.header().lost[i].load(std::memory_order_relaxed); count != 0)
      lines.push_back(loss_line(static_cast<format::Lost>(i), count));
  if (const uint64_t failed = dump.header().mapped_growth_failures; failed != 0)
    lines.push_back(
        fmt::format("the dump could not grow {} times (disk full, a limit, or the "
                    "file was removed)",
                    failed));
  const uint64_t since = dump.header().first_lost_ticks.load(std::memory_order_relaxed);
  if (!lines.empty() && since != 0)
    lines.push_back(
        fmt::format("the first loss was {} after the start",
                    duration_text(static_cast<double>(dump.clock().since_start_ns(since)))));
  return lines;
}

std::string estimate_text(const Estimate& estimate, const char* unit) {
  const std::string value = number(estimate.value, unit);
  if (estimate.standard_error <= 0) return value;
  return fmt::format("{} ± {}", value, number(estimate.standard_error, unit));
}

std::string duration_text(const Estimate& ns) {
  if (ns.standard_error <= 0) return duration_text(ns.value);
  return fmt::format("{} ± {}", duration_text(ns.value), duration_text(ns.standard_error));
}

std::string rate_text(const Dump& dump, format::CountKind kind) {
  switch (kind) {
    case format::CountKind::kBlock:
      return block_rate_text(dump) + change_text(dump, format::kBlockRateChanged);
    case format::CountKind::kMutex:
      return mutex_fraction_text(dump) + change_text(dump, format::kMutexFractionChanged);
    case format::CountKind::kCpu: return cpu_rate_text(dump);
    case format::CountKind::kThreadCreate: return "every thread was recorded: values are exact";
    default: return "the program itself added and removed: values are exact";
  }
}

std::string contents_text(const CountSums& sums) {
  return fmt::format("{:.0f} now: {} added, {} removed", sums.count.value, sums.added,
                     sums.removed);
}

std::vector<std::string> cpu_lines(const CpuTimes& times) {
  std::string line = fmt::format("processor time: {} sampled", ns_text(times.all_sampled_ns()));
  if (times.in_mprof_ns != 0)
    line += fmt::format(", {} of it in mprof itself", ns_text(times.in_mprof_ns));
  return {line + "; " + used_text(times),
          fmt::format("the profile was on for {}; samples of {} threads",
                      ns_text(times.profiled_ns), times.threads)};
}

std::string command_text(const std::vector<std::string>& arguments) {
  std::string text;
  for (const std::string& argument : arguments) {
    if (!text.empty()) text += ' ';
    text += quoted(argument);
  }
  return text;
}

std::string duration_text(double ns) {
  const double seconds = ns / 1e9;
  if (ns < 1000) return fmt::format("{:.0f} ns", ns);
  if (seconds < 1e-3) return fmt::format("{:.1f} us", ns / 1e3);
  if (seconds < 1) return fmt::format("{:.1f} ms", ns / 1e6);
  if (seconds < 120) return fmt::format("{:.2f} s", seconds);
  const auto whole = static_cast<uint64_t>(std::min(seconds, 1e15));
  if (seconds < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string time_text(uint64_t realtime_ns) {
  const auto seconds = static_cast<time_t>(realtime_ns / 1'000'000'000);
  tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return "unknown";
  char text[64];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

std::vector<std::string> comments_for(const Dump& dump, const HeapReading& reading, HeapView view) {
  std::vector<std::string> lines = first_lines(dump, view_name(view));
  lines.push_back(rate_line(dump.header().heap_rate_bytes) +
                  change_text(dump, format::kHeapRateChanged));
  lines.push_back(totals_line(reading, view));
  if (view == HeapView::kPeak) lines.push_back(peak_line(reading));
  lines.push_back(stack_line(dump));
  if (!reading.window.empty()) lines.push_back(reading.window);
  lines.push_back("read: " + describe(reading.cut));
  add_losses(dump, lines);
  return lines;
}

std::vector<std::string> comments_for(const Dump& dump, const CountReading& reading,
                                      format::CountKind kind) {
  std::vector<std::string> lines = first_lines(dump, profile_name(dump, kind));
  lines.push_back(rate_text(dump, kind));
  lines.push_back(totals_line(dump, reading, kind));
  lines.push_back(stack_line(dump, reading, kind));
  if (!dump.clock().calibrated())
    lines.push_back("the rate of the clock is unknown: delays are cycles, shown as nanoseconds");
  if (kind == format::CountKind::kCpu && reading.window.empty())
    for (std::string& line : cpu_lines(cpu_times(dump, reading))) lines.push_back(std::move(line));
  if (!reading.window.empty()) lines.push_back(reading.window + window_meaning(kind));
  add_losses(dump, lines);
  return lines;
}

std::vector<std::string> comments_for(const Dump& dump, const std::vector<std::string>& notes,
                                      const char* view) {
  std::vector<std::string> lines = first_lines(dump, view);
  lines.insert(lines.end(), notes.begin(), notes.end());
  add_losses(dump, lines);
  return lines;
}

}  // namespace mprof::dumper
