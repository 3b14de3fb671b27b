// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/trace_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "dumper/profile_comments.h"
#include "dumper/progress.h"
#include "dumper/trace/go_trace.h"
#include "dumper/trace/perfetto.h"
#include "dumper/trace/report_summary.h"
#include "dumper/trace/summary.h"
#include "dumper/write_profiles.h"

namespace mprof::dumper {
namespace {

std::unique_ptr<StepSink> make_go(const TraceOutput&, const Dump&, TraceNames& names,
                                  TraceFile& file) {
  return std::make_unique<GoTraceSink>(file, names);
}

std::unique_ptr<StepSink> make_perfetto(const TraceOutput&, const Dump& dump, TraceNames& names,
                                        TraceFile& file) {
  return std::make_unique<PerfettoSink>(dump, names, file);
}

// The sums as text, at the end.
class SummaryText : public StepSink {
 public:
  using Text = std::function<std::string(const TraceSummary&)>;
  SummaryText(size_t longest, Text text, TraceFile& file)
      : sums_(longest), text_(std::move(text)), file_(file) {}

  void take(const Step& step) override { sums_.take(step); }
  void finish() override {
    sums_.finish();
    file_.append(text_(sums_.summary()));
  }

 private:
  SummarySink sums_;
  Text text_;
  TraceFile& file_;
};

constexpr size_t kMostLongest = 100;

std::unique_ptr<StepSink> make_summary(const TraceOutput& output, const Dump& dump,
                                       TraceNames& names, TraceFile& file) {
  const size_t longest = output.rows == 0 ? kMostLongest : output.rows;
  const auto text = [&output, &dump, &names](const TraceSummary& sums) {
    return summary_text(sums, dump, names, output.rows, output.width_columns);
  };
  return std::make_unique<SummaryText>(longest, text, file);
}

std::unique_ptr<StepSink> make_json(const TraceOutput&, const Dump& dump, TraceNames& names,
                                    TraceFile& file) {
  const auto text = [&dump, &names](const TraceSummary& sums) {
    return summary_json(sums, dump, names);
  };
  return std::make_unique<SummaryText>(kMostLongest, text, file);
}

struct FormInfo {
  TraceForm form;
  const char* name;
  const char* ending;  // of the file; empty: it is text for standard output
  decltype(&make_go) make;
};
constexpr FormInfo kForms[] = {
    {TraceForm::kGo, "go", ".go.trace", make_go},
    {TraceForm::kPerfetto, "perfetto", ".perfetto-trace", make_perfetto},
    {TraceForm::kSummary, "summary", "", make_summary},
    {TraceForm::kJsonSummary, "json-summary", "", make_json},
};

const FormInfo& info_of(TraceForm form) {
  return *std::find_if(std::begin(kForms), std::end(kForms),
                       [form](const FormInfo& info) { return info.form == form; });
}

// Gives all records on, and shows how far it has come.
class ShownSource : public TraceSource {
 public:
  explicit ShownSource(DumpTrace& trace)
      : trace_(trace),
        progress_("converting the trace, KiB", trace.health().journal_bytes / 1024) {}

  bool next(TraceRecord& record) override {
    if (++records_ % kRecordsAStep == 0)
      progress_.reach(static_cast<size_t>(static_cast<double>(trace_.health().journal_bytes) /
                                          1024 * trace_.progress()));
    return trace_.next(record);
  }

 private:
  static constexpr uint64_t kRecordsAStep = 4096;
  DumpTrace& trace_;
  Progress progress_;
  uint64_t records_ = 0;
};

uint64_t at_least_zero(int64_t ns) { return static_cast<uint64_t>(std::max<int64_t>(ns, 0)); }

ModelOptions options_of(const Dump& dump, const Window& window, TraceNames& names) {
  ModelOptions options;
  options.from_ns = at_least_zero(window.from_ns);
  options.to_ns = at_least_zero(window.to_ns);
  options.text = [&names](uint64_t row) { return names.text(row); };
  options.end_ns = [&dump, clock = dump.clock()](uint32_t row) {
    const auto thread = dump.thread(row);
    return thread && thread->end_ticks != 0 ? at_least_zero(clock.since_start_ns(thread->end_ticks))
                                            : UINT64_MAX;
  };
  return options;
}

void require_records(const Dump& dump, const Window& window, const WrittenTrace& written) {
  const TraceHealth& health = written.health;
  if (health.records == 0 && written.counts.steps == 0)
    throw NoTrace(dump.path() +
                  ": no trace was recorded; `mprof run --trace`, MPROF_TRACE=1 and "
                  "`mprof ctl PID trace start` record one");
  if (written.counts.steps == 0)
    throw NoTrace(
        fmt::format("{}: nothing of its trace lies from {} to {} after the start; it has {} to {}",
                    dump.path(), duration_text(static_cast<double>(window.from_ns)),
                    duration_text(static_cast<double>(window.to_ns)),
                    duration_text(static_cast<double>(health.begin_ns)),
                    duration_text(static_cast<double>(health.last_ns))));
}

}  // namespace

TraceForm parse_trace_form(const std::string& name) {
  for (const FormInfo& info : kForms)
    if (name == info.name) return info.form;
  throw std::invalid_argument(
      fmt::format("--format '{}': accepted is {}", name, trace_form_names()));
}

std::string trace_form_names() {
  std::string names;
  for (const FormInfo& info : kForms)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", info.name);
  return names;
}

std::unique_ptr<StepSink> make_sink(const TraceOutput& output, const Dump& dump, TraceNames& names,
                                    TraceFile& file) {
  return info_of(output.form).make(output, dump, names, file);
}

WrittenTrace write_trace(Dump& dump, const Window& window, const TraceOutput& output,
                         Symbolizer& symbolizer, SymbolDetail detail) {
  DumpTrace trace(dump);
  TraceNames names(dump, symbolizer, detail);
  TraceFile file(output.path);
  const auto sink = make_sink(output, dump, names, file);
  ShownSource records(trace);
  WrittenTrace written;
  written.counts = tell_trace(records, *sink, options_of(dump, window, names));
  written.health = trace.health();
  require_records(dump, window, written);
  file.commit();
  return written;
}

std::string default_trace_path(const Dump& dump, const std::string& directory, TraceForm form) {
  const std::string ending = info_of(form).ending;
  return ending.empty() ? "-" : base_path(dump, directory) + ending;
}

std::string describe(const WrittenTrace& written) {
  const ModelCounts& counts = written.counts;
  const uint64_t lost = written.health.lost;
  return fmt::format("{} events of {} threads in {}; {}", counts.records, counts.threads,
                     duration_text(static_cast<double>(counts.last_ns - counts.first_ns)),
                     lost == 0 ? "nothing was lost" : fmt::format("{} were lost", lost));
}

std::vector<std::string> shortcomings(const WrittenTrace& written) {
  std::vector<std::string> lines = written.health.lines();
  const auto add = [&lines](uint64_t count, const char* what) {
    if (count != 0) lines.push_back(fmt::format("{} records {}", count, what));
  };
  add(written.counts.late,
      "came after recording had stopped, or after the end of their thread; they are left out");
  add(written.counts.unfit,
      "were of regions that lie too deep, or of tasks that had begun already; they are left out");
  return lines;
}

}  // namespace mprof::dumper
