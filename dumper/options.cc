// SPDX-License-Identifier: Apache-2.0
#include "dumper/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "format/config.h"
#include "format/snapshot.h"

#ifndef MPROF_VERSION
#error "the build defines MPROF_VERSION"
#endif

namespace mprof::dumper {
namespace {

constexpr const char* kSymbolWords = "none, names or full";

// What CLI11 fills before it is checked.
struct Raw {
  std::string views;
  std::string symbols = "full";
  std::string sort = "flat";
  std::string from;
  std::string to;
  std::string trace_form = "go";
  bool trace_summary = false;
  std::string listen = "127.0.0.1:6060";
  bool debuginfod = false;
  bool peak = false;
  bool allocs = false;
  bool mutex = false;
  bool block = false;
  bool cpu = false;
  bool no_drain = false;
  bool no_run = false;
  bool cum = false;
  int debug = -1;
  uint32_t timeout_ms = 200;
  std::map<std::string, std::string> settings;                // by variable
  std::map<std::string, std::optional<std::string>> changes;  // of ctl, by option
  std::vector<std::string> change_words;                      // of ctl
};

// "MPROF_HEAP_RATE" -> "--heap-rate".
std::string option_of(const char* variable) {
  std::string name = "--";
  for (const char* c = variable + strlen("MPROF_"); *c != '\0'; ++c)
    name += *c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  return name;
}

bool is_switch(const format::SettingInfo& setting) {
  return strcmp(setting.accepted, "0 or 1") == 0;
}

void add_setting(CLI::App* run, const format::SettingInfo& setting, Raw& raw) {
  std::string& value = raw.settings[setting.variable];
  const std::string meaning = fmt::format(
      "{} ({}; {}{})", setting.meaning, setting.variable, setting.accepted,
      *setting.default_text == '\0' ? std::string()
                                    : fmt::format("; default {}", setting.default_text));
  if (is_switch(setting))
    run->add_flag(option_of(setting.variable) + "{1}", value, meaning);
  else
    run->add_option(option_of(setting.variable), value, meaning)->type_name("VALUE");
}

void add_settings(CLI::App* run, Raw& raw) {
  for (const format::SettingInfo& setting : format::kSettings)
    if (strcmp(setting.variable, "MPROF_DRAIN") != 0) add_setting(run, setting, raw);
}

void add_symbol_options(CLI::App* app, Raw& raw) {
  app->add_option("--symbols", raw.symbols, "none, names (no files and lines) or full");
  app->add_flag("--debuginfod", raw.debuginfod,
                "ask the servers in DEBUGINFOD_URLS for debug files");
}

void add_output_options(CLI::App* app, Options& options, Raw& raw) {
  app->add_option("-p,--profile", raw.views,
                  "heap, allocs, peak, block, mutex, threadcreate, cpu, or profiles of the "
                  "program's own, and of run: trace; separated by commas; default all that were "
                  "recorded");
  app->add_option("-o,--output", options.directory, "directory of what is written");
  add_symbol_options(app, raw);
}

void add_window(CLI::App* app, Raw& raw) {
  app->add_option("--from", raw.from,
                  "begin of a part of the time: 90, 1.5s, 2m after the start, -10s before the end, "
                  "or a date and time (RFC 3339)");
  app->add_option("--to", raw.to, "end of it");
}

void add_since_reset(CLI::App* app, Options& options) {
  app->add_flag("--since-reset", options.since_reset,
                "less what there was at the last `mprof ctl --reset`");
}

CLI::App* add_command(CLI::App& app, const char* name, const char* meaning, Options& options,
                      Command command) {
  CLI::App* sub = app.add_subcommand(name, meaning);
  sub->callback([&options, command] { options.command = command; });
  return sub;
}

CLI::Option* add_dump(CLI::App* app, Options& options) {
  return app->add_option("DUMP", options.dumps, "a dump file, or the pid of a running program")
      ->required();
}

void add_run(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* run = add_command(app, "run", "profile a program: mprof run [options] -- cmd args...",
                              options, Command::kRun);
  add_settings(run, raw);
  add_output_options(run, options, raw);
  run->add_flag("--no-drain", raw.no_drain, "keep no events: totals only, nothing over time");
  run->prefix_command();
}

void add_doctor(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* doctor =
      add_command(app, "doctor", "why a profile is empty or partial: mprof doctor -- cmd args...",
                  options, Command::kDoctor);
  doctor->add_flag("--no-run", raw.no_run, "look at the program without running it");
  doctor->prefix_command();
}

void add_pprof(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* pprof =
      add_command(app, "pprof", "write profiles for `go tool pprof`", options, Command::kPprof);
  add_dump(pprof, options);
  add_output_options(pprof, options, raw);
  pprof->add_flag("--text", options.text, "Go's debug=1 text in place of protobuf");
  add_since_reset(pprof, options);
  add_window(pprof, raw);
}

void add_top(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* top =
      add_command(app, "top", "the functions that memory, waiting or processor time is spent in",
                  options, Command::kTop);
  add_dump(top, options)->expected(1);
  top->add_option("--sort", raw.sort, "flat or cum")->capture_default_str();
  top->add_option("-n", options.rows, "rows to show, 0 for all")->capture_default_str();
  top->add_flag("--peak", raw.peak, "in use when the heap was at its highest");
  top->add_flag("--allocs", raw.allocs, "all that was allocated, freed since or not");
  top->add_flag("--mutex", raw.mutex, "who kept others waiting for a lock, and for how long");
  top->add_flag("--block", raw.block, "who waited, and for how long");
  top->add_flag("--cpu", raw.cpu, "who used the processor, and for how long");
  top->add_flag("--objects", options.objects, "count blocks in place of bytes");
  top->add_flag("--contentions", options.contentions,
                "with --mutex and --block: count them in place of their time");
  top->add_flag("--samples", options.samples, "with --cpu: samples in place of time");
  add_symbol_options(top, raw);
  add_since_reset(top, options);
  add_window(top, raw);
}

void add_ctl(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* ctl = add_command(app, "ctl", "other settings for a program that runs; snapshots of it",
                              options, Command::kCtl);
  add_dump(ctl, options)->expected(1)->allow_extra_args(false);
  ctl->add_option("CHANGE", raw.change_words,
                  "trace start, trace stop: the same as --trace on, --trace off")
      ->expected(0, 2);
  const auto change = [&](const char* option, const char* meaning) {
    ctl->add_option(option, raw.changes[option], meaning)->type_name("VALUE");
  };
  change("--heap-rate", "mean bytes between heap samples; 0 = off");
  change("--block-rate", "waits this long or longer (ns) are recorded; 1 = every wait, 0 = off");
  change("--mutex-fraction", "the same for stretches of waiting for a lock, in 100 ns; 0 = off");
  change("--cpu", "on, off or samples in a second of each thread's processor time");
  change("--trace", "on or off: the execution trace, which `mprof trace` writes for viewers");
  ctl->add_option("--snapshot", options.snapshot,
                  "keep the dump as it is now, under this name, beside it");
  ctl->add_flag("--reset", options.reset, "what --since-reset of pprof and top counts from is now");
}

void add_locks(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* locks =
      add_command(app, "locks", "the locks that threads waited for, who held them, who waited",
                  options, Command::kLocks);
  add_dump(locks, options)->expected(1);
  locks->add_option("-n", options.rows, "locks to show, 0 for all")->capture_default_str();
  locks->add_flag("--json", options.json, "for programs");
  add_symbol_options(locks, raw);
}

void add_threads(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* threads = add_command(app, "threads",
                                  "what each thread is doing: its stack, what it waits for, since "
                                  "when, and who holds that",
                                  options, Command::kThreads);
  add_dump(threads, options)->expected(1);
  threads->add_option("--debug", raw.debug,
                      "0: a profile for `go tool pprof`; 1: the same as text, equal threads "
                      "together; 2: a paragraph for each; default 2, with -o 0");
  threads->add_flag("--text", options.text, "the same as --debug 1");
  threads->add_option("-o,--output", options.output_file,
                      "file to write; default for --debug 0: NAME.threads.pb.gz beside the dump");
  threads->add_flag("--rendezvous", options.threads.rendezvous,
                    "stop all threads that can be asked at one moment, for at most 50 ms");
  threads->add_flag(
      "--interrupt", options.threads.interrupt,
      "ask threads, too, that sleep in poll, nanosleep and the like: where the library does "
      "not see such a call, it then fails with EINTR, which the program may not expect");
  threads->add_option("--timeout", raw.timeout_ms, "milliseconds to wait for answers")
      ->capture_default_str();
  add_symbol_options(threads, raw);
}

void add_trace(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* trace = add_command(app, "trace", "what each thread did at each moment, for viewers",
                                options, Command::kTrace);
  add_dump(trace, options)->expected(1);
  trace->add_option("-o,--output", options.output_file,
                    "file to write, - for standard output; default for go and perfetto: "
                    "NAME.go.trace and NAME.perfetto-trace beside the dump");
  CLI::Option* form = trace->add_option(
      "--format", raw.trace_form,
      "go: for `go tool trace`; perfetto: for ui.perfetto.dev; json-summary; summary");
  form->capture_default_str();
  trace->add_flag("--summary", raw.trace_summary, "the same as --format summary: where time went")
      ->excludes(form);
  trace->add_option("-n", options.rows, "with --summary: rows to show, 0 for all")
      ->capture_default_str();
  add_symbol_options(trace, raw);
  add_window(trace, raw);
}

void add_reports(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* info = add_command(app, "info", "what a dump holds, what is missing, what it cost",
                               options, Command::kInfo);
  add_dump(info, options)->expected(1);
  info->add_flag("--json", options.json, "for programs");
  CLI::App* drain = add_command(app, "drain", "move events into the journal until the program ends",
                                options, Command::kDrain);
  add_dump(drain, options)->expected(1);
  drain->add_flag("--once", options.once, "only what is there now");
  drain->add_flag("--detach", options.detach, "in the background");
  CLI::App* timeline =
      add_command(app, "timeline", "the heap over time", options, Command::kTimeline);
  add_dump(timeline, options)->expected(1);
  timeline->add_option("--intervals", options.intervals, "lines to show")->capture_default_str();
  CLI::App* lifetimes =
      add_command(app, "lifetimes", "how long blocks lived", options, Command::kLifetimes);
  add_dump(lifetimes, options)->expected(1);
  lifetimes->add_option("-n", options.rows, "sites to show")->capture_default_str();
  add_symbol_options(lifetimes, raw);
  for (CLI::App* app_over_time : {timeline, lifetimes}) {
    app_over_time->add_flag("--csv", options.csv, "comma-separated values");
    add_window(app_over_time, raw);
  }
}

// What `diff` and `merge` have in common.
CLI::Option* add_profiles(CLI::App* app, Options& options, Raw& raw) {
  app->add_option("-p,--profile", raw.views,
                  "which profile of a dump: heap, allocs, peak, block, mutex or threadcreate; "
                  "default heap");
  add_symbol_options(app, raw);
  return app
      ->add_option("PROFILE", options.dumps,
                   "a pprof file of any program, a dump, or the pid of a running program")
      ->required();
}

void add_diff(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* diff = add_command(app, "diff", "what each function has in B beyond A: mprof diff A B",
                               options, Command::kDiff);
  add_profiles(diff, options, raw)->expected(2);
  diff->add_option(
      "-o,--output", options.output_file,
      "write the difference for `go tool pprof` (-: to standard output), in place of the "
      "table");
  diff->add_option("--type", options.value_type, "inuse_space, delay, ...; default: the profile's");
  diff->add_option("-n,--rows", options.rows, "rows to show, 0 for all")->capture_default_str();
  diff->add_flag("--cum", raw.cum, "compare functions with all that they called");
  diff->add_flag("--normalize", options.normalize, "scale A to B's total first");
}

void add_merge(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* merge = add_command(app, "merge", "the sum of profiles: mprof merge A B... -o OUT",
                                options, Command::kMerge);
  add_profiles(merge, options, raw);
  merge->add_option("-o,--output", options.output_file, "the file to write, - for standard output")
      ->required();
}

void add_ps(CLI::App& app, Options& options) {
  CLI::App* ps =
      add_command(app, "ps", "the profiled processes of this machine", options, Command::kPs);
  ps->add_option("DIR", options.dumps, "only those whose dumps lie in or below it");
  ps->add_flag("--json", options.json, "for programs");
}

void add_serve(CLI::App& app, Options& options, Raw& raw) {
  CLI::App* serve = add_command(app, "serve", "answer /debug/pprof/ as a Go program does", options,
                                Command::kServe);
  serve->add_option("DUMP", options.dumps,
                    "a dump file, the pid of a running program, or directories: the running "
                    "programs whose dumps lie in or below them; default all of this user");
  serve->add_option("--listen", raw.listen, "ADDRESS:PORT")->capture_default_str();
  serve->add_flag("--allow-remote", options.serve.allow_remote,
                  "listen where other machines can connect");
  CLI::Option* file = serve->add_option("--token", options.serve.token_file,
                                        "answer only those who send the first line of this file");
  serve
      ->add_option("--token-env", options.serve.token_variable,
                   "the same, of an environment variable of this name")
      ->excludes(file);
  add_symbol_options(serve, raw);
}

std::unique_ptr<CLI::App> make_app(Options& options, Raw& raw) {
  auto app = std::make_unique<CLI::App>("mprof: heap, contention and CPU profiles of any program",
                                        "mprof");
  app->set_version_flag("--version", "mprof " MPROF_VERSION);
  app->require_subcommand(1);
  add_run(*app, options, raw);
  add_pprof(*app, options, raw);
  add_top(*app, options, raw);
  add_locks(*app, options, raw);
  add_diff(*app, options, raw);
  add_merge(*app, options, raw);
  add_ctl(*app, options, raw);
  add_threads(*app, options, raw);
  add_trace(*app, options, raw);
  add_reports(*app, options, raw);
  add_ps(*app, options);
  add_serve(*app, options, raw);
  add_doctor(*app, options, raw);
  return app;
}

void check_settings(Options& options, const Raw& raw) {
  for (const auto& [variable, value] : raw.settings) {
    if (value.empty()) continue;
    format::Settings scratch;
    if (!format::apply_setting(scratch, variable.c_str(), value.c_str()))
      throw UsageError(fmt::format("{} '{}': accepted is {}", option_of(variable.c_str()), value,
                                   format::find_setting(variable.c_str())->accepted));
    options.environment[variable] = value;
  }
}

// Who asks for a CPU profile wants one.
void turn_cpu_on(Options& options) {
  const bool is_wanted = std::find(options.views.begin(), options.views.end(),
                                   View(format::CountKind::kCpu)) != options.views.end();
  if (options.command == Command::kRun && is_wanted && getenv("MPROF_CPU_HZ") == nullptr)
    options.environment.try_emplace("MPROF_CPU_HZ", std::to_string(format::kUsualCpuHz));
}

bool is_traced(const Options& options) {
  const auto given = options.environment.find("MPROF_TRACE");
  return given != options.environment.end() && given->second == "1";
}

// A trace is no profile, but is asked for beside them.
void check_trace(Options& options) {
  const bool is_for_all = options.views.empty();
  const bool is_named = std::erase(options.views, View(CustomView{"trace"})) != 0;
  if (is_named && options.command != Command::kRun)
    throw UsageError("-p trace: accepted with `mprof run`; `mprof trace` writes that of a dump");
  if (is_named) options.environment["MPROF_TRACE"] = "1";
  if (is_traced(options) && !options.drain)
    throw UsageError("--no-drain: a trace is made of what is drained; accepted without --trace");
  options.write_profiles = is_for_all || !options.views.empty();
  options.write_trace = is_for_all || is_traced(options);
}

SymbolDetail parse_detail(const std::string& word) {
  if (word == "none") return SymbolDetail::kNone;
  if (word == "names") return SymbolDetail::kNames;
  if (word == "full") return SymbolDetail::kFull;
  throw UsageError(fmt::format("--symbols '{}': accepted is {}", word, kSymbolWords));
}

TopSort parse_sort(const std::string& word) {
  if (word == "flat") return TopSort::kFlat;
  if (word == "cum") return TopSort::kCum;
  throw UsageError(fmt::format("--sort '{}': accepted is flat or cum", word));
}

void check_top(Options& options, const Raw& raw) {
  if (raw.peak + raw.allocs + raw.mutex + raw.block + raw.cpu > 1)
    throw UsageError("--peak, --allocs, --mutex, --block and --cpu: only one of them");
  if (raw.peak) options.top_view = HeapView::kPeak;
  if (raw.allocs) options.top_view = HeapView::kAllocs;
  if (raw.mutex) options.top_view = format::CountKind::kMutex;
  if (raw.block) options.top_view = format::CountKind::kBlock;
  if (raw.cpu) options.top_view = format::CountKind::kCpu;
  const bool of_waits = raw.mutex || raw.block;
  if (options.objects && of_waits)
    throw UsageError(
        "--objects: a wait has no blocks; accepted with --mutex and --block is "
        "--contentions");
  if (options.objects && raw.cpu)
    throw UsageError("--objects: processor time has no blocks; accepted with --cpu is --samples");
  if (options.contentions && !of_waits)
    throw UsageError("--contentions: accepted with --mutex or --block");
  if (options.samples && !raw.cpu) throw UsageError("--samples: accepted with --cpu");
}

void check_serve(Options& options, const Raw& raw) {
  options.serve.what = options.dumps;
  options.serve.symbols = options.symbols;
  options.serve.listen = parse_listen(raw.listen);
}

void check_combined(const Options& options, const Raw& raw) {
  if (options.command != Command::kDiff && options.command != Command::kMerge) return;
  if (options.views.size() > 1)
    throw UsageError(fmt::format("-p {}: accepted is one profile", raw.views));
}

uint32_t trace_of(const std::vector<std::string>& words) {
  using Words = std::vector<std::string>;
  if (words == Words{"trace", "start"}) return 1;
  if (words == Words{"trace", "stop"}) return 0;
  throw UsageError(
      fmt::format("'{}': accepted is trace start or trace stop", fmt::join(words, " ")));
}

void check_changes(Options& options, const Raw& raw) {
  using Setter = void (*)(SettingsChange&, const std::string&, const std::string&);
  const std::map<std::string, Setter> setters = {{"--heap-rate", set_heap_rate},
                                                 {"--block-rate", set_block_rate},
                                                 {"--mutex-fraction", set_mutex_fraction},
                                                 {"--cpu", set_cpu},
                                                 {"--trace", set_trace}};
  for (const auto& [option, value] : raw.changes)
    if (value) setters.at(option)(options.change, option, *value);
  if (!raw.change_words.empty()) options.change.trace = trace_of(raw.change_words);
  if (options.snapshot.empty()) return;
  if (!format::is_snapshot_name(options.snapshot.c_str()))
    throw UsageError(
        fmt::format("--snapshot '{}': accepted are {}", options.snapshot, format::kSnapshotNames));
  if (options.snapshot == format::kBaselineName)
    throw UsageError(
        fmt::format("--snapshot '{}': that is what --reset makes; another name is "
                    "accepted",
                    options.snapshot));
}

void check_threads(Options& options, const Raw& raw) {
  constexpr uint32_t kMostMs = 60000;
  if (raw.debug < -1 || raw.debug > 2)
    throw UsageError(fmt::format("--debug {}: accepted is 0, 1 or 2", raw.debug));
  if (options.text && raw.debug != -1 && raw.debug != 1)
    throw UsageError(fmt::format("--text means --debug 1: not with --debug {}", raw.debug));
  if (raw.timeout_ms == 0 || raw.timeout_ms > kMostMs)
    throw UsageError(fmt::format("--timeout {}: accepted is 1 to {}", raw.timeout_ms, kMostMs));
  options.threads.timeout = std::chrono::milliseconds(raw.timeout_ms);
  const int form = options.text ? 1 : raw.debug;
  if (form >= 0)
    options.thread_form = static_cast<ThreadForm>(form);
  else if (!options.output_file.empty())
    options.thread_form = ThreadForm::kPprof;
}

void check_values(Options& options, const Raw& raw) {
  check_settings(options, raw);
  if (!raw.views.empty()) options.views = parse_views(raw.views);
  turn_cpu_on(options);
  options.drain = !raw.no_drain;
  check_trace(options);
  options.symbols.detail = parse_detail(raw.symbols);
  options.symbols.use_debuginfod = raw.debuginfod;
  options.sort = raw.cum ? TopSort::kCum : parse_sort(raw.sort);
  options.run_it = !raw.no_run;
  check_top(options, raw);
  check_serve(options, raw);
  check_combined(options, raw);
  check_changes(options, raw);
  if (options.since_reset && !(raw.from.empty() && raw.to.empty()))
    throw UsageError("--since-reset: not together with --from and --to");
  if (options.since_reset && raw.peak)
    throw UsageError("--since-reset: a part of the time has no peak");
  if (options.command == Command::kThreads) check_threads(options, raw);
  options.trace_form = raw.trace_summary ? TraceForm::kSummary : parse_trace_form(raw.trace_form);
  if (!raw.from.empty()) options.from = parse_time("--from", raw.from);
  if (!raw.to.empty()) options.to = parse_time("--to", raw.to);
  if (raw.peak && (options.from || options.to))
    throw UsageError(
        "--peak: a part of the time has no peak; accepted with --from and --to are --allocs, "
        "--mutex, --block and --cpu");
}

bool takes_program(const std::string& command) { return command == "run" || command == "doctor"; }

// What stands behind the first "--" belongs to the program and is never looked at here.
std::vector<std::string> split_off_program(std::vector<std::string>& arguments) {
  if (arguments.empty() || !takes_program(arguments.front())) return {};
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  std::vector<std::string> program(dashes, arguments.end());
  arguments.erase(dashes, arguments.end());
  return program;
}

// `before`: what CLI11 did not know, if the program was given without "--".
void join_program(Options& options, std::vector<std::string> before,
                  const std::vector<std::string>& behind) {
  if (!before.empty() && before.front().starts_with("-"))
    throw UsageError(fmt::format("{}: no such option; --help lists them", before.front()));
  const bool keep_dashes = !before.empty();
  options.program = std::move(before);
  if (!behind.empty())
    options.program.insert(options.program.end(), behind.begin() + (keep_dashes ? 0 : 1),
                           behind.end());
  if (options.program.empty())
    throw UsageError("no program given: mprof run [options] -- cmd args...");
}

// CLI11 only says that there is none.
void require_known_command(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments.front().starts_with("-")) return;
  std::string known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == arguments.front()) return;
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  throw UsageError(fmt::format("{}: no such command; there are {}", arguments.front(), known));
}

void parse(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants it
  app.parse(std::move(arguments));
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  Raw raw;
  const auto app = make_app(options, raw);
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  const std::vector<std::string> behind = split_off_program(arguments);
  require_known_command(*app, arguments);
  try {
    parse(*app, arguments);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app->get_subcommands();
    options.help = chosen.empty() ? app->help() : chosen.front()->help();
    options.command = Command::kHelp;
    return options;
  } catch (const CLI::CallForVersion& version) {
    options.help = std::string(version.what()) + "\n";
    options.command = Command::kHelp;
    return options;
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}; --help tells what is accepted", error.what()));
  }
  if (options.command == Command::kRun || options.command == Command::kDoctor)
    join_program(options, app->get_subcommands().front()->remaining(), behind);
  try {
    check_values(options, raw);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
  return options;
}

}  // namespace mprof::dumper
