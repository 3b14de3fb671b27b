// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/report_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "dumper/profile_comments.h"
#include "dumper/report_top.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

constexpr size_t kMostFrames = 8;

const char* name_of(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }
const char* name_of(format::WaitKind wait) { return format::kWaitNames[static_cast<size_t>(wait)]; }
const char* name_of(format::CallName call) {
  return format::kCallInfos[static_cast<size_t>(call)].name;
}

std::string ns_text(uint64_t ns) { return duration_text(static_cast<double>(ns)); }

std::string bytes_text(uint64_t bytes) {
  return format_value(static_cast<double>(bytes), "bytes", "auto");
}

std::string counted(uint64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f}%", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

// What the numbers mean, and what is missing from them.
std::vector<std::string> notes_of(const TraceSummary& summary) {
  std::vector<std::string> notes = {
      "running: from a record on a core to the one that ends that; if the kernel took the core "
      "away "
      "meanwhile and no record tells, that time is in it",
      "runnable: from a wake-up, or another thread's record on the core, to the next record; a "
      "thread "
      "that computes and records nothing is taken for runnable (CPU samples are records)"};
  const bool was_off = std::any_of(
      summary.threads.begin(), summary.threads.end(),
      [](const auto& entry) { return entry.second.spent.in(Phase::kUnrecorded).count != 0; });
  if (was_off)
    notes.emplace_back("not recorded: recording was off, and nobody knows what the thread did");
  if (summary.lost_records != 0 || summary.gaps != 0)
    notes.push_back(fmt::format(
        "lost: {}{}; what they told is missing, and times near them are wrong",
        counted(summary.lost_records, "record", "records"),
        summary.gaps == 0 ? ""
                          : " and an unknown number in " + counted(summary.gaps, "gap", "gaps")));
  return notes;
}

struct NamedRow {
  const std::string* name;
  const NamedTimes* times;
};

std::vector<NamedRow> longest_first(const std::map<std::string, NamedTimes>& named) {
  std::vector<NamedRow> rows;
  for (const auto& [name, times] : named) rows.push_back({&name, &times});
  std::stable_sort(rows.begin(), rows.end(), [](const NamedRow& a, const NamedRow& b) {
    return a.times->whole.total_ns > b.times->whole.total_ns;
  });
  return rows;
}

std::vector<const ThreadTimes*> busiest_first(const std::map<uint32_t, ThreadTimes>& threads) {
  std::vector<const ThreadTimes*> rows;
  for (const auto& [number, times] : threads) rows.push_back(&times);
  std::stable_sort(rows.begin(), rows.end(), [](const ThreadTimes* a, const ThreadTimes* b) {
    return a->spent.in(Phase::kRunning).total_ns > b->spent.in(Phase::kRunning).total_ns;
  });
  return rows;
}

// ---- the text

class SummaryText {
 public:
  SummaryText(const TraceSummary& summary, const Dump& dump, TraceNames& names, size_t rows,
              size_t width_columns)
      : summary_(summary),
        dump_(dump),
        names_(names),
        rows_(rows == 0 ? SIZE_MAX : rows),
        width_columns_(width_columns) {}

  std::string run() {
    add_head();
    add_threads();
    add_named("region", "regions", summary_.regions);
    add_named("task", "tasks", summary_.tasks);
    add_waits("Longest waits for other threads", summary_.longest_waits);
    add_waits("Longest system calls, sleeps and polls", summary_.longest_calls);
    return std::move(out_);
  }

 private:
  void line(const std::string& text) { out_ += fitted("", text, width_columns_) + "\n"; }

  void add_head() {
    out_ += printable(fmt::format("Trace of {}, process {}: {}, {}, {}", dump_.executable(),
                                  dump_.header().pid, ns_text(summary_.end_ns - summary_.begin_ns),
                                  counted(summary_.threads.size(), "thread", "threads"),
                                  counted(summary_.cores, "core", "cores"))) +
            "\n";
    if (summary_.sessions > 1) line(fmt::format("recorded in {} parts", summary_.sessions));
    for (const std::string& note : notes_of(summary_)) out_ += printable(note) + "\n";
    add_heap();
  }

  void add_heap() {
    if (summary_.has_heap)
      line(fmt::format("heap: {} to {} in use, {} to {} mapped", bytes_text(summary_.live.lowest),
                       bytes_text(summary_.live.highest), bytes_text(summary_.mapped.lowest),
                       bytes_text(summary_.mapped.highest)));
    add_change("grew by", summary_.growths);
    add_change("gave back", summary_.trims);
  }

  void add_change(const char* verb, const HeapChange& change) {
    if (change.times.count == 0) return;
    const std::string times =
        change.times.total_ns == 0
            ? ""
            : fmt::format(", {} in all, the longest {}", ns_text(change.times.total_ns),
                          ns_text(change.times.longest_ns));
    line(fmt::format("heap {} {} in {}{}", verb, bytes_text(change.bytes),
                     counted(change.times.count, "step", "steps"), times));
  }

  void add_threads() {
    const std::vector<const ThreadTimes*> rows = busiest_first(summary_.threads);
    const size_t shown = std::min(rows.size(), rows_);
    for (size_t i = 0; i < shown; ++i) {
      const ThreadTimes& thread = *rows[i];
      out_ += '\n';
      const std::string lost = counted(thread.lost_records, "record", "records");
      line(fmt::format("thread {}: {}, from {} on{}{}", label_of(thread),
                       ns_text(thread.end_ns - thread.begin_ns), ns_text(thread.begin_ns),
                       samples_text(thread), thread.lost_records == 0 ? "" : ", lost " + lost));
      add_spent(thread.spent, thread.end_ns - thread.begin_ns);
    }
    add_rest(rows.size() - shown, "thread", "threads");
  }

  static std::string samples_text(const ThreadTimes& thread) {
    if (thread.cpu_samples == 0) return "";
    return ", " + counted(thread.cpu_samples, "CPU sample", "CPU samples");
  }

  std::string label_of(const ThreadTimes& thread) {
    return fmt::format("{} \"{}\"", names_.tid(thread.row), names_.thread_title(thread.row));
  }

  std::string label_of(uint32_t number) {
    const auto found = summary_.threads.find(number);
    return found == summary_.threads.end() ? "the kernel" : "thread " + label_of(found->second);
  }

  void add_named(const char* one, const char* many,
                 const std::map<std::string, NamedTimes>& named) {
    const std::vector<NamedRow> rows = longest_first(named);
    const size_t shown = std::min(rows.size(), rows_);
    for (size_t i = 0; i < shown; ++i) {
      const Tally& whole = rows[i].times->whole;
      out_ += '\n';
      line(fmt::format("{} \"{}\": {}, {} in all, the longest {}{}", one, *rows[i].name,
                       counted(whole.count, "time", "times"), ns_text(whole.total_ns),
                       ns_text(whole.longest_ns), unfinished_text(rows[i].times->unfinished)));
      add_spent(rows[i].times->spent, whole.total_ns);
    }
    add_rest(rows.size() - shown, one, many);
  }

  static std::string unfinished_text(uint64_t count) {
    return count == 0 ? "" : fmt::format(", {} of them not over", count);
  }

  void add_rest(size_t count, const char* one, const char* many) {
    if (count == 0) return;
    out_ += fmt::format("\n{} more {}: -n 0 shows all\n", count, count == 1 ? one : many);
  }

  void add_spent(const SpentTime& spent, uint64_t whole_ns) {
    line(fmt::format("   {:>10} {:>6} {:>10} {:>10}", "time", "share", "count", "longest"));
    add_row(spent.in(Phase::kRunning), whole_ns, name_of(Phase::kRunning));
    add_row(spent.in(Phase::kRunnable), whole_ns, name_of(Phase::kRunnable));
    for (const auto& [wait, tally] : spent.blocked)
      add_row(tally, whole_ns, fmt::format("blocked: {}", name_of(wait)));
    add_row(spent.in(Phase::kInCall), whole_ns, "in long system calls");
    add_row(spent.in(Phase::kUnrecorded), whole_ns, name_of(Phase::kUnrecorded));
    if (!spent.calls.empty()) line("   in system calls, long ones and, while running, short ones:");
    for (const auto& [call, tally] : spent.calls) add_row(tally, whole_ns, name_of(call));
  }

  void add_row(const Tally& tally, uint64_t whole_ns, const std::string& what) {
    if (tally.count == 0) return;
    line(fmt::format("   {:>10} {:>6} {:>10} {:>10}  {}", ns_text(tally.total_ns),
                     percent(tally.total_ns, whole_ns), tally.count, ns_text(tally.longest_ns),
                     what));
  }

  void add_waits(const char* heading, const std::vector<LongWait>& waits) {
    if (waits.empty()) return;
    out_ += fmt::format("\n{}\n", heading);
    for (size_t i = 0; i < waits.size(); ++i) add_wait(i + 1, waits[i]);
  }

  void add_wait(size_t number, const LongWait& wait) {
    line(fmt::format("{}. {} {}{}, {} at {}{}", number, ns_text(wait.ns), wait.what,
                     object_text(wait.object), label_of(wait.thread), ns_text(wait.begin_ns),
                     wait.is_over ? "" : ", not over"));
    add_frames("began in", wait.stack);
    const std::string waker = "ended by " + label_of(wait.waker);
    if (wait.waker != 0 && wait.waker_stack == format::kNoRow)
      line("   " + waker);
    else if (wait.waker != 0)
      add_frames(waker + " in", wait.waker_stack);
    else if (wait.is_over && !wait.is_call)
      line("   ended by the kernel: at a time limit, by a signal or for another process");
  }

  std::string object_text(uint64_t address) {
    if (address == 0) return "";
    const std::string name = names_.object(address);
    return " " + (name.empty() ? fmt::format("{:#x}", address) : name);
  }

  void add_frames(const std::string& heading, uint32_t row) {
    const std::vector<TraceFrame>& frames = names_.stack(row);
    line(fmt::format("   {}{}", heading, frames.empty() ? " an unknown place" : ""));
    const size_t shown = std::min(frames.size(), kMostFrames);
    for (size_t i = 0; i < shown; ++i)
      out_ += fitted("      ", site_text(frames[i]), width_columns_) + "\n";
    if (shown < frames.size())
      line(fmt::format("      and {} more", counted(frames.size() - shown, "frame", "frames")));
  }

  const TraceSummary& summary_;
  const Dump& dump_;
  TraceNames& names_;
  size_t rows_;
  size_t width_columns_;
  std::string out_;
};

// ---- JSON

using Json = nlohmann::ordered_json;

Json to_json(const Tally& tally) {
  return {{"count", tally.count}, {"total_ns", tally.total_ns}, {"longest_ns", tally.longest_ns}};
}

template <class Key>
Json to_json(const std::map<Key, Tally>& tallies) {
  Json object = Json::object();
  for (const auto& [key, tally] : tallies) object[name_of(key)] = to_json(tally);
  return object;
}

void put_spent(Json& object, const SpentTime& spent) {
  object["running"] = to_json(spent.in(Phase::kRunning));
  object["runnable"] = to_json(spent.in(Phase::kRunnable));
  object["blocked"] = to_json(spent.blocked);
  object["in_long_calls"] = to_json(spent.in(Phase::kInCall));
  object["not_recorded"] = to_json(spent.in(Phase::kUnrecorded));
  object["calls"] = to_json(spent.calls);
}

Json threads_json(const TraceSummary& summary, TraceNames& names) {
  Json list = Json::array();
  for (const auto& [number, thread] : summary.threads) {
    Json entry = {{"number", number},
                  {"tid", names.tid(thread.row)},
                  {"name", names.thread_title(thread.row)},
                  {"begin_ns", thread.begin_ns},
                  {"end_ns", thread.end_ns}};
    put_spent(entry, thread.spent);
    entry.update({{"cpu_samples", thread.cpu_samples}, {"lost_records", thread.lost_records}});
    list.push_back(std::move(entry));
  }
  return list;
}

Json named_json(const std::map<std::string, NamedTimes>& named) {
  Json list = Json::array();
  for (const auto& [name, times] : named) {
    Json entry = {{"name", name},
                  {"count", times.whole.count},
                  {"total_ns", times.whole.total_ns},
                  {"longest_ns", times.whole.longest_ns},
                  {"unfinished", times.unfinished}};
    put_spent(entry, times.spent);
    list.push_back(std::move(entry));
  }
  return list;
}

Json stack_json(TraceNames& names, uint32_t row) {
  Json list = Json::array();
  for (const TraceFrame& frame : names.stack(row))
    list.push_back({{"function", frame.function}, {"file", frame.file}, {"line", frame.line}});
  return list;
}

// Those that the kernel ends have no stack of a waker.
Json waits_json(const std::vector<LongWait>& waits, TraceNames& names) {
  Json list = Json::array();
  for (const LongWait& wait : waits) {
    Json entry = {{"thread", wait.thread},     {"what", wait.what},
                  {"begin_ns", wait.begin_ns}, {"ns", wait.ns},
                  {"is_over", wait.is_over},   {"stack", stack_json(names, wait.stack)}};
    if (wait.object != 0)
      entry.update({{"object", wait.object}, {"object_name", names.object(wait.object)}});
    if (wait.waker != 0)
      entry.update({{"waker", wait.waker}, {"waker_stack", stack_json(names, wait.waker_stack)}});
    list.push_back(std::move(entry));
  }
  return list;
}

Json to_json(const ByteRange& range) {
  return {{"lowest", range.lowest}, {"highest", range.highest}, {"last", range.last}};
}

Json to_json(const HeapChange& change) {
  Json object = to_json(change.times);
  object["bytes"] = change.bytes;
  return object;
}

Json heap_json(const TraceSummary& summary) {
  Json heap = {{"growths", to_json(summary.growths)}, {"trims", to_json(summary.trims)}};
  if (summary.has_heap)
    heap.update({{"live_bytes", to_json(summary.live)}, {"mapped_bytes", to_json(summary.mapped)}});
  return heap;
}

}  // namespace

std::string summary_text(const TraceSummary& summary, const Dump& dump, TraceNames& names,
                         size_t rows, size_t width_columns) {
  return SummaryText(summary, dump, names, rows, width_columns).run();
}

std::string summary_json(const TraceSummary& summary, const Dump& dump, TraceNames& names) {
  const Json out = {{"program", dump.executable()},
                    {"pid", dump.header().pid},
                    {"begin_ns", summary.begin_ns},
                    {"end_ns", summary.end_ns},
                    {"sessions", summary.sessions},
                    {"cores", summary.cores},
                    {"notes", notes_of(summary)},
                    {"threads", threads_json(summary, names)},
                    {"regions", named_json(summary.regions)},
                    {"tasks", named_json(summary.tasks)},
                    {"longest_waits", waits_json(summary.longest_waits, names)},
                    {"longest_calls", waits_json(summary.longest_calls, names)},
                    {"heap", heap_json(summary)},
                    {"cpu_samples", summary.cpu_samples},
                    {"logs", summary.logs},
                    {"lost_records", summary.lost_records},
                    {"gaps", summary.gaps}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace mprof::dumper
