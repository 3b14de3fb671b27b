// SPDX-License-Identifier: Apache-2.0
// The mprof program: one function for each subcommand, a stage a line.
//
// Exit code 0 done, 1 failed, 2 bad usage; `mprof run`: that of the program.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>

#include "dumper/combine_profiles.h"
#include "dumper/doctor.h"
#include "dumper/double_entry.h"
#include "dumper/drain.h"
#include "dumper/encode_pprof.h"
#include "dumper/find_dump.h"
#include "dumper/info_json.h"
#include "dumper/launch.h"
#include "dumper/list_processes.h"
#include "dumper/options.h"
#include "dumper/read_pprof.h"
#include "dumper/report_diff.h"
#include "dumper/report_info.h"
#include "dumper/report_locks.h"
#include "dumper/report_threads.h"
#include "dumper/serve.h"
#include "dumper/site_name.h"
#include "dumper/snapshot.h"
#include "dumper/start_drain.h"
#include "dumper/terminal_text.h"
#include "dumper/write_profiles.h"

namespace mprof::dumper {
namespace {

void complain(const std::string& line) { fmt::print(stderr, "mprof: {}\n", printable_lines(line)); }

void show_damage(const Dump& dump) {
  for (const std::string& line : dump.damage())
    complain(fmt::format("{}: damage: {}", dump.path(), line));
}

// Damage and not one row of it readable: nothing was usable.
void require_something(const Dump& dump, const Reading& reading) {
  show_damage(dump);
  if (reading.heap.buckets.empty() && reading.counts.rows.empty() && !dump.damage().empty())
    throw DumpError(dump.path() + ": nothing in it can be used; see the damage above");
}

std::optional<Baseline> baseline_of(const Dump& dump, bool wanted) {
  if (!wanted) return std::nullopt;
  Dump snapshot = open_baseline(dump);
  return read_baseline(snapshot);
}

int run_pprof(const Options& options) {
  int failed = 0;
  Symbolizer symbolizer(options.symbols);
  const OutputOptions output = {options.views, options.directory, options.text,
                                options.symbols.detail};
  for (const std::string& argument : options.dumps) {
    try {
      Dump dump = Dump::open(resolve_dump(argument), Access::kWrite);
      const Reading reading = read_wanted(dump, options.from, options.to);
      require_something(dump, reading);
      const auto since = baseline_of(dump, options.since_reset);
      for (const std::string& path : write_profiles(dump, reading, since, output, symbolizer))
        fmt::print("{}\n", path);
    } catch (const std::exception& error) {
      complain(error.what());
      failed = 1;
    }
  }
  return failed;
}

std::string top_value(const Options& options) {
  if (options.top_view == View(format::CountKind::kCpu)) return options.samples ? "samples" : "cpu";
  if (std::holds_alternative<format::CountKind>(options.top_view))
    return options.contentions ? "contentions" : "delay";
  const bool allocs = options.top_view == View(HeapView::kAllocs);
  return std::string(allocs ? "alloc_" : "inuse_") + (options.objects ? "objects" : "space");
}

int run_top(const Options& options) {
  Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kWrite);
  const Reading reading = read_wanted(dump, options.from, options.to);
  require_something(dump, reading);
  Symbolizer symbolizer(options.symbols);
  const Profile profile = named_profile(dump, reading, baseline_of(dump, options.since_reset),
                                        options.top_view, symbolizer, options.symbols.detail);
  TopOptions top;
  top.sort = options.sort;
  top.rows = options.rows;
  top.value_type = top_value(options);
  top.width_columns = terminal_width_columns(STDOUT_FILENO);
  fmt::print("{}", format_top(profile, compute_top(profile, top), top));
  return 0;
}

// The arguments of `diff` and `merge`: pprof files, dumps, pids.
class Inputs {
 public:
  explicit Inputs(const Options& options)
      : view_(options.views.empty() ? View(HeapView::kHeap) : options.views.front()),
        detail_(options.symbols.detail),
        symbolizer_(options.symbols) {}

  Profile read(const std::string& argument) {
    const std::string path = resolve_dump(argument);
    return is_dump_file(path) ? read_dump(path) : read_pprof(path);
  }

 private:
  Profile read_dump(const std::string& path) {
    Dump dump = Dump::open(path, Access::kWrite);
    const Reading reading = read_whole(dump);
    require_something(dump, reading);
    LabelNames names(dump, symbolizer_, detail_);
    PlacedProfile placed = make_profile(dump, reading, view_, names);
    symbolize(placed, symbolizer_, detail_);
    return std::move(placed.profile);
  }

  View view_;
  SymbolDetail detail_;
  Symbolizer symbolizer_;
};

// Profiles that do not fit together say what about them, and their names are put in front.
template <typename Combine>
void combine(const std::string& a, const std::string& b, const Combine& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(fmt::format("{} and {}: {}", a, b, error.what()));
  }
}

// On standard output nothing else may stand beside it.
void write_combined(const Options& options, const Profile& profile) {
  const std::string bytes = encode_pprof(profile);
  if (options.output_file == "-" || options.output_file == "/dev/stdout") {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    return;
  }
  write_file(options.output_file, bytes);
  fmt::print("{}\n", options.output_file);
}

void show_difference(const Options& options, const Profile& a, const Profile& b,
                     const std::vector<double>& scale) {
  DiffOptions diff;
  diff.by = options.sort;
  diff.rows = options.rows;
  diff.value_type = options.value_type;
  diff.width_columns = terminal_width_columns(STDOUT_FILENO);
  const DiffReport report = compute_diff(a, b, diff);
  const std::string times =
      scale.empty() ? "" : fmt::format(" times {:.4g}", scale[value_index(a, report.type.type)]);
  fmt::print("{}", format_diff({options.dumps[0] + times, a}, {options.dumps[1], b}, report, diff));
}

int run_diff(const Options& options) {
  Inputs inputs(options);
  Profile a = inputs.read(options.dumps[0]);
  const Profile b = inputs.read(options.dumps[1]);
  combine(options.dumps[0], options.dumps[1], [&] {
    std::vector<double> scale;
    if (options.normalize) scale = scale_to_total(a, b);
    if (options.output_file.empty())
      show_difference(options, a, b, scale);
    else
      write_combined(options, subtract(b, a, SubtractMode::kMarkBase));
  });
  return 0;
}

int run_merge(const Options& options) {
  Inputs inputs(options);
  ProfileSum sum;
  for (const std::string& argument : options.dumps) {
    const Profile profile = inputs.read(argument);
    combine(options.dumps.front(), argument, [&] { sum.add(profile); });
  }
  write_combined(options, sum.take());
  return 0;
}

int run_info(const Options& options) {
  Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kWrite);
  const HeapReading reading = read_heap(dump);
  const DoubleEntry books = check_double_entry(dump);
  fmt::print("{}", options.json ? info_json(dump, reading, books)
                                : report_info(dump, reading, books.line(dump.clock())));
  const bool unusable = reading.buckets.empty() && !dump.damage().empty();
  return unusable ? 1 : 0;
}

Window window_of(const Dump& dump, const Options& options) {
  const int64_t end_ns = end_of(dump);
  Window window = make_window(options.from, options.to, dump.clock(), end_ns);
  window.to_ns = std::min(window.to_ns, end_ns);
  return window;
}

int run_locks(const Options& options) {
  const Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kRead);
  const Reading reading{{}, read_counts(dump)};
  require_something(dump, reading);
  Symbolizer symbolizer(options.symbols);
  const LockReport report = compute_locks(dump, reading.counts, symbolizer, options.symbols.detail);
  fmt::print("{}", options.json
                       ? locks_json(report)
                       : locks_table(report, options.rows, terminal_width_columns(STDOUT_FILENO)));
  return 0;
}

int run_threads(const Options& options) {
  Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kWrite);
  const ThreadsReading reading = collect_threads(dump, options.threads);
  show_damage(dump);
  Symbolizer symbolizer(options.symbols);
  const std::string text =
      report_threads(dump, reading, options.thread_form, symbolizer, options.symbols.detail);
  const bool is_text = options.thread_form != ThreadForm::kPprof;
  if (is_text && options.output_file.empty()) {
    fmt::print("{}", text);
    return 0;
  }
  const std::string path =
      options.output_file.empty() ? base_path(dump, {}) + ".threads.pb.gz" : options.output_file;
  write_file(path, text);
  fmt::print("{}\n", path);
  return 0;
}

// Where the trace itself goes to standard output, nothing else may stand beside it.
int run_trace(const Options& options) {
  Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kRead);
  Window window = make_window(options.from, options.to, dump.clock(), end_of(dump));
  if (!options.to) window.to_ns = INT64_MAX;  // the last records may be later than that end
  Symbolizer symbolizer(options.symbols);
  TraceOutput output = {options.trace_form, options.output_file, options.rows,
                        terminal_width_columns(STDOUT_FILENO)};
  if (output.path.empty()) output.path = default_trace_path(dump, {}, output.form);
  const WrittenTrace written =
      write_trace(dump, window, output, symbolizer, options.symbols.detail);
  show_damage(dump);
  for (const std::string& line : shortcomings(written))
    complain(fmt::format("{}: {}", dump.path(), line));
  if (output.path != "-") fmt::print("{}: {}\n", output.path, describe(written));
  return 0;
}

int run_timeline(const Options& options) {
  const Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kRead);
  const Timeline timeline = make_timeline(dump, window_of(dump, options), options.intervals);
  fmt::print("{}", options.csv ? timeline_csv(timeline) : timeline_table(timeline, dump.clock()));
  show_damage(dump);
  return 0;
}

int run_lifetimes(const Options& options) {
  const Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kRead);
  const LifetimeReport report = measure_lifetimes(dump, window_of(dump, options));
  Symbolizer symbolizer(options.symbols);
  SiteNames names(dump, symbolizer, options.symbols.detail);
  const SiteName name_of = [&names](uint32_t bucket) { return names.of_bucket(bucket); };
  fmt::print("{}", options.csv ? lifetimes_csv(report, name_of)
                               : lifetimes_table(report, name_of, options.rows, dump.clock()));
  show_damage(dump);
  return 0;
}

// A trace that begins has its drainer from the first record on.
void change_running(const Dump& dump, const SettingsChange& change) {
  require_steerable(dump);
  if (change.trace == 1u) ensure_drained(dump.path());
  fmt::print("{}\n", result_text(dump, change_settings(dump, change)));
}

// In this order, so that a new baseline has new settings.
int run_ctl(const Options& options) {
  const Dump dump = Dump::open(resolve_dump(options.dumps.front()), Access::kWrite);
  if (!options.change.empty())
    change_running(dump, options.change);
  else if (!options.reset && options.snapshot.empty())
    fmt::print("process {}: {}\n", dump.header().pid, settings_text(dump));
  if (options.reset) fmt::print("{}\n", take_baseline(dump));
  if (!options.snapshot.empty()) fmt::print("{}\n", take_snapshot(dump, options.snapshot));
  return 0;
}

int run_drain(const Options& options) {
  return run_drain_command({resolve_dump(options.dumps.front()), options.once, options.detach});
}

int run_ps(const Options& options) {
  const auto processes = list_processes(make_filter(options.dumps));
  if (processes.empty() && !options.json)
    complain("no profiled process is running, or none that this user may see");
  else
    fmt::print("{}", options.json ? processes_json(processes) : processes_table(processes));
  return 0;
}

// Every process makes a thread: its first.
bool is_without_samples(const Reading& reading) {
  const auto& rows = reading.counts.rows;
  return sum(reading.heap).alloc_samples == 0 &&
         std::all_of(rows.begin(), rows.end(), [](const CountRowReading& row) {
           return row.copy.kind == format::CountKind::kThreadCreate || row.copy.totals.count == 0;
         });
}

// What `mprof run` says at the end. A build has thousands of processes; each one that was sampled
// gets its profiles, and the first few of them a paragraph.
class RunReport {
 public:
  explicit RunReport(const Options& options)
      : options_(options),
        output_{options.views, options.directory, false, options.symbols.detail},
        symbolizer_(options.symbols) {}

  // `always`: the program itself, also if nothing was sampled.
  void add(const std::string& path, bool always) {
    Dump dump = Dump::open(path, Access::kWrite);
    const Reading reading = read_whole(dump);
    const bool is_traced = options_.write_trace && dump.header().trace_sessions != 0;
    if (!always && !is_traced && is_without_samples(reading) && dump.damage().empty()) {
      ++without_samples_;
      return;
    }
    std::vector<std::string> written;
    if (options_.write_profiles) written = write_profiles(dump, reading, {}, output_, symbolizer_);
    const std::string trace = is_traced ? write_trace_of(dump) : std::string();
    if (++reported_ > kMaxReported) return;
    PlacedProfile allocs = make_profile(dump, reading.heap, HeapView::kAllocs);
    symbolize(allocs, symbolizer_, options_.symbols.detail);
    fmt::print(stderr, "{}  dump     {}\n", report_summary(dump, reading.heap, allocs.profile),
               path);
    for (const std::string& file : written) fmt::print(stderr, "  profile  {}\n", file);
    if (!trace.empty()) fmt::print(stderr, "  trace    {}\n", trace);
  }

  void finish() const {
    if (reported_ > kMaxReported)
      fmt::print(stderr, "and {} more processes; their profiles lie beside their dumps\n",
                 reported_ - kMaxReported);
    if (without_samples_ != 0)
      fmt::print(stderr,
                 "{} processes allocated, waited and computed too little to be sampled; they left "
                 "dumps and no profiles\n",
                 without_samples_);
  }

 private:
  // "PATH: 41022 events of 8 threads in 3.21 s; nothing was lost". Empty: it could not be written.
  std::string write_trace_of(Dump& dump) {
    TraceOutput output;
    output.path = default_trace_path(dump, options_.directory, output.form);
    try {
      const WrittenTrace written =
          write_trace(dump, {}, output, symbolizer_, options_.symbols.detail);
      for (const std::string& line : shortcomings(written))
        complain(fmt::format("{}: {}", dump.path(), line));
      return fmt::format("{}: {}", output.path, describe(written));
    } catch (const std::exception& error) {
      complain(error.what());
      return {};
    }
  }

  static constexpr size_t kMaxReported = 8;
  const Options& options_;
  OutputOptions output_;
  Symbolizer symbolizer_;
  size_t reported_ = 0;
  size_t without_samples_ = 0;
};

void explain_no_dump(const std::string& command) {
  complain("no dump was made, so there is nothing to profile");
  const std::string path = find_in_path(command);
  for (const auto& findings : {examine_program(path), examine_settings(path)})
    for (const Finding& finding : findings)
      if (finding.is_problem) complain(finding.text);
}

int run_program(const Options& options) {
  LaunchOptions launch_options;
  launch_options.command = options.program;
  launch_options.environment = options.environment;
  launch_options.directory = options.directory.empty() ? "." : options.directory;
  launch_options.drain = options.drain;
  const LaunchResult result = launch(launch_options);
  if (!result.failure.empty()) complain(result.failure);
  for (const std::string& line : result.complaints) complain(line);
  if (result.failure.empty() && result.dumps.empty()) explain_no_dump(options.program.front());
  RunReport report(options);
  for (const std::string& dump : result.dumps) {
    // The program's exit code is what counts; a profile that cannot be written is said.
    try {
      report.add(dump, result.dumps.size() == 1);
    } catch (const std::exception& error) {
      complain(error.what());
    }
  }
  report.finish();
  return result.exit_code;
}

int run_command(const Options& options) {
  // One new folder is a convenience; a whole path is more likely a slip.
  if (!options.directory.empty()) std::filesystem::create_directory(options.directory);
  switch (options.command) {
    case Command::kHelp: fmt::print("{}", options.help); return 0;
    case Command::kRun: return run_program(options);
    case Command::kPprof: return run_pprof(options);
    case Command::kTop: return run_top(options);
    case Command::kInfo: return run_info(options);
    case Command::kDoctor: return run_doctor(options.program, options.run_it);
    case Command::kDrain: return run_drain(options);
    case Command::kTimeline: return run_timeline(options);
    case Command::kLifetimes: return run_lifetimes(options);
    case Command::kLocks: return run_locks(options);
    case Command::kDiff: return run_diff(options);
    case Command::kMerge: return run_merge(options);
    case Command::kPs: return run_ps(options);
    case Command::kCtl: return run_ctl(options);
    case Command::kServe: return run_serve(options.serve);
    case Command::kThreads: return run_threads(options);
    case Command::kTrace: return run_trace(options);
  }
  return 1;
}

// A report that went into a full disk or a closed pipe has failed.
int flush_output(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  complain("standard output cannot be written");
  return 1;
}

int run(int argc, const char* const* argv) {
  try {
    return flush_output(run_command(parse_options(argc, argv)));
  } catch (const UsageError& error) {
    complain(error.what());
    return 2;
  } catch (const std::exception& error) {
    complain(error.what());
    return 1;
  }
}

}  // namespace
}  // namespace mprof::dumper

int main(int argc, char** argv) { return mprof::dumper::run(argc, argv); }
