// SPDX-License-Identifier: Apache-2.0
#include "format/config.h"

#include <string>

#include "tests/unit/catch.h"

namespace mprof::format {
namespace {

constexpr uint64_t kRefused = 0xdead;  // what parse_number must leave alone

uint64_t number(const char* text, uint64_t max = UINT64_MAX) {
  uint64_t out = kRefused;
  const bool accepted = parse_number(text, max, &out);
  CHECK(accepted == (out != kRefused));
  return out;
}

TEST_CASE("config: numbers are decimal, with at most one suffix of 1024s") {
  CHECK(number("0") == 0);
  CHECK(number("1") == 1);
  CHECK(number("524288") == 524288);
  CHECK(number("007") == 7);
  CHECK(number("512k") == 524288);
  CHECK(number("512K") == 524288);
  CHECK(number("3M") == 3 << 20);
  CHECK(number("1G") == 1 << 30);
  CHECK(number("0G") == 0);
  CHECK(number("18446744073709551615") == UINT64_MAX);
  CHECK(number("17179869183G") == 17179869183ull << 30);
}

TEST_CASE("config: what is not a number is refused and changes nothing") {
  for (const char* text : {"",
                           " ",
                           " 1",
                           "1 ",
                           "+1",
                           "-1",
                           "0x10",
                           "1e6",
                           "1.5",
                           "k",
                           "M1",
                           "1kk",
                           "1kB",
                           "1m",
                           "1g",
                           "1T",
                           "1,000",
                           "one",
                           "\n1",
                           "1\n",
                           "18446744073709551616",
                           "99999999999999999999",
                           "17179869184G",
                           "18446744073709551615k",
                           "\xd9\xa1"}) {
    INFO("'" << text << "'");
    CHECK(number(text) == kRefused);
  }
}

TEST_CASE("config: the largest number accepted is the bound itself") {
  CHECK(number("256", 256) == 256);
  CHECK(number("257", 256) == kRefused);
  CHECK(number("1k", 1024) == 1024);
  CHECK(number("1k", 1023) == kRefused);
}

TEST_CASE("config: the largest heap rate accepted is the one that the text says") {
  Settings settings;
  CHECK(apply_setting(settings, "MPROF_HEAP_RATE", "1099511627776"));
  CHECK(settings.heap_rate == kMaxHeapRate);
  CHECK(apply_setting(settings, "MPROF_HEAP_RATE", "1024G"));
  CHECK_FALSE(apply_setting(settings, "MPROF_HEAP_RATE", "1099511627777"));
  CHECK_FALSE(apply_setting(settings, "MPROF_HEAP_RATE", "1025G"));
  CHECK(settings.heap_rate == kMaxHeapRate);
  CHECK(apply_setting(settings, "MPROF_HEAP_RATE", "0"));
  CHECK(settings.heap_rate == 0);
}

TEST_CASE("config: a stack depth is 1 to 256") {
  Settings settings;
  for (const char* text : {"1", "64", "256"}) {
    CHECK(apply_setting(settings, "MPROF_STACK_DEPTH", text));
    CHECK(settings.stack_depth == std::stoul(text));
  }
  for (const char* text : {"0", "257", "0k", "1k", "-1", "", "deep", "4294967297"})
    CHECK_FALSE(apply_setting(settings, "MPROF_STACK_DEPTH", text));
  CHECK(settings.stack_depth == 256);
}

TEST_CASE("config: the rates of waits and of contention have limits, and 0 turns them off") {
  Settings settings;
  CHECK(apply_setting(settings, "MPROF_BLOCK_RATE", "0"));
  CHECK(apply_setting(settings, "MPROF_MUTEX_FRACTION", "0"));
  CHECK((settings.block_rate_ns == 0 && settings.mutex_fraction == 0));
  CHECK(apply_setting(settings, "MPROF_BLOCK_RATE", "3600000000000"));
  CHECK(apply_setting(settings, "MPROF_MUTEX_FRACTION", "1048576"));
  for (const char* text : {"", "-1", "1.5", "3600000000001", "1us"})
    CHECK_FALSE(apply_setting(settings, "MPROF_BLOCK_RATE", text));
  for (const char* text : {"", "-1", "1048577", "4294967297", "1/4"})
    CHECK_FALSE(apply_setting(settings, "MPROF_MUTEX_FRACTION", text));
  CHECK(settings.block_rate_ns == kMaxBlockRateNs);
  CHECK(settings.mutex_fraction == kMaxMutexFraction);
}

TEST_CASE("config: the unwind modes are three words") {
  Settings settings;
  CHECK(apply_setting(settings, "MPROF_UNWIND", "fp"));
  CHECK(settings.unwind == UnwindMode::kFramePointer);
  CHECK(apply_setting(settings, "MPROF_UNWIND", "dwarf"));
  CHECK(settings.unwind == UnwindMode::kDwarf);
  CHECK(apply_setting(settings, "MPROF_UNWIND", "auto"));
  CHECK(settings.unwind == UnwindMode::kAuto);
  for (const char* text : {"", "FP", "fp ", "dwar", "dwarfs", "0", "auto,fp"})
    CHECK_FALSE(apply_setting(settings, "MPROF_UNWIND", text));
  CHECK(settings.unwind == UnwindMode::kAuto);
}

TEST_CASE("config: switches are 0 or 1 and nothing else") {
  Settings settings;
  for (const char* variable : {"MPROF_MMAP", "MPROF_DRAIN", "MPROF_TRACE", "MPROF_VERBOSE"}) {
    CHECK(apply_setting(settings, variable, "1"));
    for (const char* text : {"", "2", "01", "10", "yes", "on", "true", "-1", "1 "}) {
      INFO(variable << "=" << text);
      CHECK_FALSE(apply_setting(settings, variable, text));
    }
  }
  CHECK((settings.mmap && settings.drain && settings.trace && settings.verbose == 1));
  CHECK(apply_setting(settings, "MPROF_MMAP", "0"));
  CHECK(apply_setting(settings, "MPROF_DRAIN", "0"));
  CHECK(apply_setting(settings, "MPROF_VERBOSE", "0"));
  CHECK((!settings.mmap && !settings.drain && settings.verbose == 0));
}

TEST_CASE("config: how much of a trace is kept, and whether it stops there") {
  Settings settings;
  CHECK(settings.trace_limit.bytes == 1u << 30);
  CHECK_FALSE(settings.trace_limit.stops_when_full);
  CHECK(apply_setting(settings, "MPROF_TRACE_MAX", "64M,stop"));
  CHECK(settings.trace_limit.bytes == 64u << 20);
  CHECK(settings.trace_limit.stops_when_full);
  CHECK(apply_setting(settings, "MPROF_TRACE_MAX", "1048576"));
  CHECK(settings.trace_limit.bytes == 1048576);
  CHECK_FALSE(settings.trace_limit.stops_when_full);
  CHECK(apply_setting(settings, "MPROF_TRACE_MAX", "0"));
  CHECK(settings.trace_limit.bytes == 0);
  CHECK(apply_setting(settings, "MPROF_TRACE_MAX", "1024G"));
  for (const char* text : {"", "1048575", "1M,", "1M,Stop", "1M,stop,", "1M stop", "0,stop",
                           ",stop", "-1", "1T", "1025G", "M"}) {
    INFO(text);
    CHECK_FALSE(apply_setting(settings, "MPROF_TRACE_MAX", text));
  }
  CHECK(settings.trace_limit.bytes == uint64_t{1} << 40);
}

TEST_CASE("config: an output pattern knows %e, %p and %%") {
  for (const char* text : {"x", "/tmp/%e.%p.mprof", "%%", "%e", "100%%%p", "a b", "%p%p%e"}) {
    INFO(text);
    CHECK(is_out_pattern(text));
  }
  for (const char* text : {"", "%", "a%", "%d", "%%%", "%E", "%5p", "x%h.mprof"}) {
    INFO(text);
    CHECK_FALSE(is_out_pattern(text));
  }
}

TEST_CASE("config: lists and the seed are taken as they are") {
  Settings settings;
  CHECK(apply_setting(settings, "MPROF_ONLY", "app,app2"));
  CHECK(apply_setting(settings, "MPROF_SKIP", "sh"));
  CHECK(apply_setting(settings, "MPROF_SEED", "18446744073709551615"));
  CHECK(std::string(settings.only) == "app,app2");
  CHECK(std::string(settings.skip) == "sh");
  CHECK(settings.seed == UINT64_MAX);
  CHECK_FALSE(apply_setting(settings, "MPROF_SEED", "18446744073709551616"));
}

TEST_CASE("config: a name that is no setting is refused") {
  Settings settings;
  for (const char* name : {"", "MPROF_", "MPROF_HEAP_RATES", "mprof_heap_rate", "HEAP_RATE"}) {
    CHECK_FALSE(apply_setting(settings, name, "1"));
    CHECK(find_setting(name) == nullptr);
  }
}

TEST_CASE("config: every setting that is listed is one that is accepted, with the default shown") {
  const Settings defaults;
  for (const SettingInfo& info : kSettings) {
    INFO(info.variable);
    CHECK(find_setting(info.variable) == &info);
    if (*info.default_text == '\0') continue;
    Settings settings;
    CHECK(apply_setting(settings, info.variable, info.default_text));
    CHECK(std::string(settings.out) == defaults.out);
    CHECK(settings.heap_rate == defaults.heap_rate);
    CHECK(settings.block_rate_ns == defaults.block_rate_ns);
    CHECK(settings.mutex_fraction == defaults.mutex_fraction);
    CHECK(settings.stack_depth == defaults.stack_depth);
    CHECK(settings.unwind == defaults.unwind);
    CHECK((settings.mmap == defaults.mmap && settings.drain == defaults.drain));
    CHECK((settings.verbose == defaults.verbose && settings.seed == defaults.seed));
  }
}

}  // namespace
}  // namespace mprof::format
