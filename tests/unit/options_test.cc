// SPDX-License-Identifier: Apache-2.0
#include "dumper/options.h"

#include <cstdlib>
#include <map>
#include <string>

#include "tests/unit/catch.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::format::CountKind;

namespace {

Options parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "mprof");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::string error_of(std::vector<const char*> arguments) {
  try {
    (void)parse(std::move(arguments));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("options: what stands behind -- is the program's") {
  const Options options =
      parse({"run", "--heap-rate", "1", "-o", "d", "--", "ls", "-p", "--", "x"});
  CHECK(options.command == Command::kRun);
  CHECK(options.program == Words{"ls", "-p", "--", "x"});
  CHECK(options.directory == "d");
  CHECK(options.environment.at("MPROF_HEAP_RATE") == "1");
  CHECK(options.drain);
}

TEST_CASE("options: the dashes may be left out") {
  const Options options = parse({"run", "--no-drain", "ls", "-l", "--", "x"});
  CHECK(options.program == Words{"ls", "-l", "--", "x"});
  CHECK_FALSE(options.drain);
}

TEST_CASE("options: each setting is an option with the same rules") {
  CHECK(parse({"run", "--mmap", "--", "x"}).environment.at("MPROF_MMAP") == "1");
  CHECK(parse({"run", "--mmap=0", "--", "x"}).environment.at("MPROF_MMAP") == "0");
  CHECK(parse({"run", "--unwind", "fp", "--", "x"}).environment.at("MPROF_UNWIND") == "fp");
  CHECK(parse({"run", "--block-rate", "1", "--", "x"}).environment.at("MPROF_BLOCK_RATE") == "1");
  CHECK(parse({"run", "--mutex-fraction", "0", "--", "x"}).environment.at("MPROF_MUTEX_FRACTION") ==
        "0");
  CHECK(error_of({"run", "--mutex-fraction", "-1", "--", "x"}).find("0 to 1048576") !=
        std::string::npos);
  CHECK(parse({"run", "--", "x"}).environment.empty());
  CHECK(error_of({"run", "--unwind", "best", "--", "x"}) ==
        "--unwind 'best': accepted is auto, fp or dwarf");
  CHECK(error_of({"run", "--stack-depth", "257", "--", "x"}) ==
        "--stack-depth '257': accepted is 1 to 256");
  CHECK_FALSE(error_of({"run", "--out", "%q", "--", "x"}).empty());
}

TEST_CASE("options: wrong usage names what is wrong") {
  CHECK(error_of({"run", "--bogus", "--", "x"}).find("--bogus") == 0);
  CHECK(error_of({"run"}).find("no program given") == 0);
  CHECK_FALSE(error_of({}).empty());
  CHECK_FALSE(error_of({"pprof"}).empty());
  CHECK(error_of({"pprof", "--symbols", "all", "d"}) ==
        "--symbols 'all': accepted is none, names or full");
  CHECK(error_of({"top", "--sort", "up", "d"}) == "--sort 'up': accepted is flat or cum");
  CHECK(error_of({"top", "--peak", "--allocs", "d"}).find("only one") != std::string::npos);
  CHECK(error_of({"top", "--peak", "--from", "1s", "d"}).find("no peak") != std::string::npos);
}

TEST_CASE("options: profiles are named, and without names the dump decides") {
  CHECK(parse({"pprof", "d"}).views.empty());
  CHECK(parse({"run", "-p", "heap,mutex,block", "--", "x"}).views ==
        std::vector<View>{HeapView::kHeap, CountKind::kMutex, CountKind::kBlock});
  CHECK(parse({"pprof", "-p", "threadcreate,threadcreate", "d"}).views ==
        std::vector<View>{CountKind::kThreadCreate});
  CHECK(parse({"pprof", "-p", "cpu,net/conns", "d"}).views ==
        std::vector<View>{CountKind::kCpu, mprof::dumper::CustomView{"net/conns"}});
  CHECK(
      error_of({"pprof", "-p", "heap,", "d"}) ==
      "profile '': accepted are heap, allocs, peak, block, mutex, threadcreate, cpu and the names "
      "of the program's own profiles, separated by commas");
}

TEST_CASE(
    "options: a run that is to have a CPU profile samples, at the usual rate or the given one") {
  unsetenv("MPROF_CPU_HZ");
  using Settings = std::map<std::string, std::string>;
  CHECK(parse({"run", "-p", "heap,cpu", "--", "x"}).environment ==
        Settings{{"MPROF_CPU_HZ", "100"}});
  CHECK(parse({"run", "-p", "cpu", "--cpu-hz", "500", "--", "x"}).environment ==
        Settings{{"MPROF_CPU_HZ", "500"}});
  CHECK(parse({"run", "-p", "heap", "--", "x"}).environment.empty());
  CHECK(parse({"pprof", "-p", "cpu", "d"}).environment.empty());
  setenv("MPROF_CPU_HZ", "250", 1);
  CHECK(parse({"run", "-p", "cpu", "--", "x"}).environment.empty());
  unsetenv("MPROF_CPU_HZ");
}

TEST_CASE("options: a run with a trace turns it on, and writes it beside the profiles") {
  unsetenv("MPROF_TRACE");
  using Settings = std::map<std::string, std::string>;
  const Options traced = parse({"run", "--trace", "--trace-max", "64M,stop", "--", "x"});
  CHECK(traced.environment == Settings{{"MPROF_TRACE", "1"}, {"MPROF_TRACE_MAX", "64M,stop"}});
  CHECK(traced.write_profiles);
  CHECK(traced.write_trace);
  const Options named = parse({"run", "-p", "heap,trace", "--", "x"});
  CHECK(named.environment == Settings{{"MPROF_TRACE", "1"}});
  CHECK(named.views == std::vector<View>{HeapView::kHeap});
  CHECK(named.write_trace);
  CHECK(parse({"run", "-p", "heap", "--trace", "--", "x"}).write_trace);
}

TEST_CASE("options: of a run, what was recorded is written, or what is named") {
  CHECK_FALSE(parse({"run", "-p", "trace", "--", "x"}).write_profiles);
  CHECK(parse({"run", "-p", "trace", "--", "x"}).write_trace);
  CHECK_FALSE(parse({"run", "-p", "heap", "--", "x"}).write_trace);
  CHECK(parse({"run", "--", "x"}).write_trace);
  CHECK(parse({"run", "--", "x"}).environment.empty());
}

TEST_CASE("options: a trace needs its drainer, and is no profile of a dump") {
  CHECK(error_of({"run", "--trace", "--no-drain", "--", "x"}) ==
        "--no-drain: a trace is made of what is drained; accepted without --trace");
  CHECK(error_of({"run", "-p", "trace", "--no-drain", "--", "x"}).find("--no-drain") == 0);
  CHECK(error_of({"run", "--trace-max", "1k", "--", "x"}).find("--trace-max '1k': accepted is") ==
        0);
  CHECK(error_of({"pprof", "-p", "trace", "d"}) ==
        "-p trace: accepted with `mprof run`; `mprof trace` writes that of a dump");
}

TEST_CASE("options: ctl turns the trace on and off, in either spelling") {
  CHECK(parse({"ctl", "d", "--trace", "on"}).change.trace == 1u);
  CHECK(parse({"ctl", "--trace", "off", "d"}).change.trace == 0u);
  CHECK(parse({"ctl", "d", "trace", "start"}).change.trace == 1u);
  CHECK(parse({"ctl", "d", "trace", "stop"}).change.trace == 0u);
  CHECK(parse({"ctl", "d", "trace", "stop"}).dumps == Words{"d"});
  CHECK_FALSE(parse({"ctl", "d"}).change.trace);
  CHECK(error_of({"ctl", "d", "--trace", "1"}) == "--trace '1': accepted is on or off");
  CHECK(error_of({"ctl", "d", "trace"}) == "'trace': accepted is trace start or trace stop");
  CHECK(error_of({"ctl", "d", "trace", "on"}) ==
        "'trace on': accepted is trace start or trace stop");
  CHECK_FALSE(error_of({"ctl", "d", "trace", "start", "x"}).empty());
}

TEST_CASE("options: top shows processor time, or the samples of it") {
  CHECK(parse({"top", "--cpu", "d"}).top_view == View(CountKind::kCpu));
  CHECK(parse({"top", "--cpu", "--samples", "--from", "1s", "d"}).samples);
  CHECK(error_of({"top", "--samples", "d"}) == "--samples: accepted with --cpu");
  CHECK(error_of({"top", "--cpu", "--block", "d"}).find("only one") != std::string::npos);
  CHECK(error_of({"top", "--cpu", "--objects", "d"}).find("--objects") == 0);
  CHECK(error_of({"top", "--cpu", "--contentions", "d"}).find("--contentions") == 0);
}

TEST_CASE("options: top shows memory or waits, and counts what there is of them") {
  CHECK(parse({"top", "d"}).top_view == View(HeapView::kHeap));
  CHECK(parse({"top", "--mutex", "--contentions", "d"}).contentions);
  CHECK(parse({"top", "--mutex", "d"}).top_view == View(CountKind::kMutex));
  CHECK(parse({"top", "--block", "--from", "1s", "d"}).top_view == View(CountKind::kBlock));
  CHECK(error_of({"top", "--mutex", "--block", "d"}).find("only one") != std::string::npos);
  CHECK(error_of({"top", "--mutex", "--objects", "d"}).find("--objects") == 0);
  CHECK(error_of({"top", "--contentions", "d"}) ==
        "--contentions: accepted with --mutex or --block");
}

TEST_CASE("options: locks takes a dump, a number of rows and the form") {
  const Options options = parse({"locks", "-n", "3", "--json", "d"});
  CHECK(options.command == Command::kLocks);
  CHECK(options.rows == 3);
  CHECK(options.json);
  CHECK_FALSE(error_of({"locks"}).empty());
}

TEST_CASE("options: threads are paragraphs, grouped text or a profile") {
  const Options plain = parse({"threads", "4711"});
  CHECK(plain.command == Command::kThreads);
  CHECK(plain.thread_form == ThreadForm::kParagraphs);
  CHECK(plain.threads.timeout == std::chrono::milliseconds(200));
  CHECK_FALSE(plain.threads.rendezvous);
  CHECK_FALSE(plain.threads.interrupt);
  CHECK(parse({"threads", "1", "-o", "f"}).thread_form == ThreadForm::kPprof);
  CHECK(parse({"threads", "1", "-o", "f", "--debug", "2"}).thread_form == ThreadForm::kParagraphs);
  CHECK(parse({"threads", "1", "--text"}).thread_form == ThreadForm::kGrouped);
  CHECK(parse({"threads", "1", "--rendezvous"}).threads.rendezvous);
  CHECK(parse({"threads", "1", "--interrupt"}).threads.interrupt);
  CHECK(error_of({"threads", "1", "--debug", "3"}) == "--debug 3: accepted is 0, 1 or 2");
  CHECK(error_of({"threads", "1", "--timeout", "0"}) == "--timeout 0: accepted is 1 to 60000");
  CHECK(error_of({"threads", "1", "--text", "--debug", "2"}) ==
        "--text means --debug 1: not with --debug 2");
}

TEST_CASE("options: help and version are printed, not errors") {
  CHECK(parse({"--version"}).help.find("mprof ") == 0);
  CHECK(parse({"--help"}).help.find("doctor") != std::string::npos);
  CHECK(parse({"run", "--help"}).help.find("MPROF_HEAP_RATE") != std::string::npos);
}

TEST_CASE("options: serve listens on this machine unless told otherwise") {
  const Options plain = parse({"serve"});
  CHECK(plain.command == Command::kServe);
  CHECK(plain.serve.what.empty());
  CHECK(plain.serve.listen.host == "127.0.0.1");
  CHECK(plain.serve.listen.port == 6060);
  CHECK_FALSE(plain.serve.allow_remote);
  const Options full = parse({"serve", "a", "b", "--listen", ":80", "--allow-remote", "--token",
                              "f", "--symbols", "names"});
  CHECK(full.serve.what == Words{"a", "b"});
  CHECK_FALSE(full.serve.listen.is_loopback);
  CHECK(full.serve.allow_remote);
  CHECK(full.serve.token_file == "f");
  CHECK(full.serve.symbols.detail == SymbolDetail::kNames);
  CHECK(parse({"serve", "--token-env", "V"}).serve.token_variable == "V");
}

TEST_CASE("options: serve refuses what it cannot mean") {
  CHECK_THAT(error_of({"serve", "--listen", "example.com:1"}), Catch::Contains("ADDRESS:PORT"));
  CHECK_THAT(error_of({"serve", "--token", "f", "--token-env", "V"}), Catch::Contains("excludes"));
}

TEST_CASE("options: ps takes directories") {
  const Options options = parse({"ps", "d", "--json"});
  CHECK(options.command == Command::kPs);
  CHECK(options.dumps == Words{"d"});
  CHECK(options.json);
  CHECK(parse({"ps"}).dumps.empty());
}

TEST_CASE("options: ctl takes changes, a snapshot and a reset, or nothing") {
  const Options plain = parse({"ctl", "12"});
  CHECK(plain.command == Command::kCtl);
  CHECK(plain.change.empty());
  const Options full = parse({"ctl", "12", "--heap-rate", "64k", "--block-rate", "0", "--cpu",
                              "off", "--snapshot", "a-1", "--reset"});
  CHECK(full.change.heap_rate_bytes == 65536);
  CHECK(full.change.block_rate_ns == 0);
  CHECK_FALSE(full.change.mutex_fraction);
  CHECK(full.change.cpu_hz == 0);
  CHECK(full.snapshot == "a-1");
  CHECK(full.reset);
  CHECK(
      error_of({"ctl", "12", "--heap-rate", "100"}).find("--heap-rate '100': accepted is 0, or") ==
      0);
  CHECK(error_of({"ctl", "12", "--heap-rate", ""}).find("--heap-rate ''") == 0);
  CHECK(error_of({"ctl", "12", "--snapshot", "a/b"}).find("letters, digits") != std::string::npos);
  CHECK(error_of({"ctl", "12", "--snapshot", "baseline"}).find("--reset") != std::string::npos);
}

TEST_CASE("options: since a reset is no other part of the time") {
  CHECK(parse({"pprof", "1", "--since-reset"}).since_reset);
  CHECK(parse({"top", "1", "--since-reset", "--allocs"}).since_reset);
  CHECK_FALSE(error_of({"top", "1", "--since-reset", "--peak"}).empty());
  CHECK_FALSE(error_of({"pprof", "1", "--since-reset", "--to", "3"}).empty());
}

TEST_CASE("options: diff compares two profiles") {
  const Options options = parse({"diff", "a", "b", "--type", "alloc_space", "-n", "5", "--cum",
                                 "--normalize", "-p", "allocs", "-o", "d.pb.gz"});
  CHECK(options.command == Command::kDiff);
  CHECK(options.dumps == Words{"a", "b"});
  CHECK(options.value_type == "alloc_space");
  CHECK(options.rows == 5);
  CHECK(options.sort == TopSort::kCum);
  CHECK(options.normalize);
  CHECK(options.views == std::vector<View>{HeapView::kAllocs});
  CHECK(options.output_file == "d.pb.gz");
  CHECK(options.directory.empty());
  CHECK(parse({"diff", "a", "b", "--rows", "7"}).rows == 7);
  CHECK(parse({"diff", "a", "b"}).sort == TopSort::kFlat);
  CHECK_FALSE(error_of({"diff", "a"}).empty());
  CHECK_FALSE(error_of({"diff", "a", "b", "c"}).empty());
  CHECK(error_of({"diff", "a", "b", "-p", "heap,allocs"}) ==
        "-p heap,allocs: accepted is one profile");
}

TEST_CASE("options: merge takes any number of profiles and a place for the sum") {
  const Options options = parse({"merge", "a", "b", "c", "-o", "m.pb.gz"});
  CHECK(options.command == Command::kMerge);
  CHECK(options.dumps == Words{"a", "b", "c"});
  CHECK(options.output_file == "m.pb.gz");
  CHECK(error_of({"merge", "a", "b"}).find("--output is required") == 0);
  CHECK(error_of({"merge", "a", "-p", "mutex,block", "-o", "m"}) ==
        "-p mutex,block: accepted is one profile");
}
