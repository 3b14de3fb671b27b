// SPDX-License-Identifier: Apache-2.0
// The MPROF_* settings: names, defaults, what is accepted. Read by libmprof.so from the
// environment and by `mprof run` for its options, so both say the same.
//
// Called by preload/lifecycle.cc, dumper/launch.cc. Allocates: no. Fails: a Setting that is not
// understood keeps its default and is reported through `Complaint`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format/dump.h"
#include "format/weights.h"

namespace mprof::format {

inline constexpr uint64_t kDefaultHeapRate = 524288;
// The tables are made for the rate at the start: finer ones, and exact profiles, begin there.
inline constexpr uint64_t kLeastChangedHeapRate = 4096;
inline constexpr uint64_t kDefaultBlockRateNs = 100000;
inline constexpr uint64_t kMaxBlockRateNs = 3600000000000;  // an hour
inline constexpr uint32_t kDefaultMutexFraction = 1000;
// Stretches of waiting shorter than fraction times this are sampled by their length.
inline constexpr uint64_t kMutexFractionNs = 100;
inline constexpr uint32_t kMaxMutexFraction = 1u << 20;
inline constexpr uint32_t kMaxCpuHz = 10000;
inline constexpr uint32_t kUsualCpuHz = 100;  // when a CPU profile is asked for without a rate
inline constexpr uint32_t kDefaultStackDepth = 64;
inline constexpr uint32_t kMaxStackDepth = 256;
inline constexpr const char* kDefaultOut = "%e.%p.mprof";

// How much of a trace is kept, in its journal.
struct TraceLimit {
  uint64_t bytes = 1 << 30;      // 0: all of it
  bool stops_when_full = false;  // else the newest is kept
};

struct Settings {
  const char* out = kDefaultOut;                    // MPROF_OUT
  uint64_t heap_rate = kDefaultHeapRate;            // MPROF_HEAP_RATE
  uint64_t block_rate_ns = kDefaultBlockRateNs;     // MPROF_BLOCK_RATE
  uint32_t mutex_fraction = kDefaultMutexFraction;  // MPROF_MUTEX_FRACTION
  uint32_t cpu_hz = 0;                              // MPROF_CPU_HZ
  uint32_t stack_depth = kDefaultStackDepth;        // MPROF_STACK_DEPTH
  UnwindMode unwind = UnwindMode::kAuto;            // MPROF_UNWIND
  bool mmap = false;                                // MPROF_MMAP
  bool drain = false;                               // MPROF_DRAIN
  bool trace = false;                               // MPROF_TRACE
  TraceLimit trace_limit;                           // MPROF_TRACE_MAX
  const char* only = nullptr;                       // MPROF_ONLY
  const char* skip = nullptr;                       // MPROF_SKIP
  uint32_t verbose = 0;                             // MPROF_VERBOSE
  uint64_t seed = 0;                                // MPROF_SEED, 0 = random
};

// What every front end shows about a setting.
struct SettingInfo {
  const char* variable;
  const char* accepted;
  const char* default_text;
  const char* meaning;
};
inline constexpr SettingInfo kSettings[] = {
    {"MPROF_OUT", "a path; %e = executable name, %p = pid, %% = %", kDefaultOut,
     "where the dump goes"},
    {"MPROF_HEAP_RATE", "bytes, 0 to 1099511627776; suffix k, M or G allowed", "524288",
     "mean bytes between heap samples; 1 = every allocation, 0 = off"},
    {"MPROF_BLOCK_RATE", "nanoseconds, 0 to 3600000000000", "100000",
     "waits this long or longer are recorded, shorter ones with a chance by their length, and less "
     "of threads that do nothing but wait; 1 = every wait, 0 = off"},
    {"MPROF_MUTEX_FRACTION", "0 to 1048576", "1000",
     "stretches of waiting for a lock much longer than this times 100 ns are all recorded, shorter "
     "ones with a chance by their length; 1 = every one, 0 = off"},
    {"MPROF_CPU_HZ", "0 to 10000", "0",
     "CPU samples in a second of each thread's processor time; 100 is usual, 0 = off"},
    {"MPROF_STACK_DEPTH", "1 to 256", "64", "frames kept of each stack, from the leaf"},
    {"MPROF_UNWIND", "auto, fp or dwarf", "auto",
     "auto: unwind tables, frame pointers where there are none; fp: frame pointers; dwarf: tables"},
    {"MPROF_MMAP", "0 or 1", "0", "also profile anonymous mmap, mremap, munmap and brk"},
    {"MPROF_DRAIN", "0 or 1", "0",
     "start `mprof drain` beside the program; a trace from the start does, too, unless this is 0"},
    {"MPROF_TRACE", "0 or 1", "0", "record an execution trace from the start"},
    {"MPROF_TRACE_MAX",
     "bytes, 0 or 1048576 to 1099511627776; suffix k, M or G allowed; then ,stop", "1G",
     "how much of the trace is kept, compressed: the newest; with ,stop the trace ends there; 0 = "
     "all of it"},
    {"MPROF_ONLY", "executable names, separated by commas", "", "profile only these"},
    {"MPROF_SKIP", "executable names, separated by commas", "", "do not profile these"},
    {"MPROF_VERBOSE", "0 or 1", "0", "one line at the start and at the end"},
    {"MPROF_SEED", "0 to 18446744073709551615", "0", "seed of the sampler; 0 = random"},
};

constexpr bool text_equal(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

constexpr const SettingInfo* find_setting(const char* variable) {
  for (const SettingInfo& info : kSettings)
    if (text_equal(info.variable, variable)) return &info;
  return nullptr;
}

// Whether a program that runs may be given this rate.
constexpr bool is_changed_heap_rate(uint64_t rate) {
  return rate == 0 || (rate >= kLeastChangedHeapRate && rate <= kMaxHeapRate);
}

// Decimal digits with an optional suffix k, M, G (powers of 1024), `text` is moved
// behind it. False on anything that does not begin like that, or is larger than `max`.
constexpr bool parse_leading_number(const char*& text, uint64_t max, uint64_t* out) {
  if (*text < '0' || *text > '9') return false;
  uint64_t value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    const uint64_t digit = static_cast<uint64_t>(*text - '0');
    if (value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  int shift = 0;
  if (*text == 'k' || *text == 'K') shift = 10;
  if (*text == 'M') shift = 20;
  if (*text == 'G') shift = 30;
  if (shift != 0) ++text;
  if (value > (UINT64_MAX >> shift) || value << shift > max) return false;
  *out = value << shift;
  return true;
}

// The same, and nothing behind it.
constexpr bool parse_number(const char* text, uint64_t max, uint64_t* out) {
  uint64_t value = 0;
  if (!parse_leading_number(text, max, &value) || *text != '\0') return false;
  *out = value;
  return true;
}

inline constexpr uint64_t kLeastTraceBytes = 1 << 20;
inline constexpr uint64_t kMostTraceBytes = uint64_t{1} << 40;

// SIZE or SIZE,stop.
constexpr bool parse_trace_limit(const char* text, TraceLimit* out) {
  TraceLimit limit;
  if (!parse_leading_number(text, kMostTraceBytes, &limit.bytes)) return false;
  if (limit.bytes != 0 && limit.bytes < kLeastTraceBytes) return false;
  limit.stops_when_full = text_equal(text, ",stop");
  if (*text != '\0' && (!limit.stops_when_full || limit.bytes == 0)) return false;
  *out = limit;
  return true;
}

constexpr bool parse_switch(const char* text, bool* out) {
  if (!text_equal(text, "0") && !text_equal(text, "1")) return false;
  *out = *text == '1';
  return true;
}

constexpr bool parse_unwind(const char* text, UnwindMode* out) {
  if (text_equal(text, "auto")) return *out = UnwindMode::kAuto, true;
  if (text_equal(text, "fp")) return *out = UnwindMode::kFramePointer, true;
  if (text_equal(text, "dwarf")) return *out = UnwindMode::kDwarf, true;
  return false;
}

// %e, %p and %% only, and not empty.
constexpr bool is_out_pattern(const char* text) {
  if (*text == '\0') return false;
  for (; *text != '\0'; ++text)
    if (*text == '%' && *++text != 'e' && *text != 'p' && *text != '%') return false;
  return true;
}

// Takes one setting over. False: the value is not accepted and the default stays.
constexpr bool apply_setting(Settings& settings, const char* variable, const char* value) {
  uint64_t number = 0;
  const auto is = [variable](const char* name) { return text_equal(variable, name); };
  if (is("MPROF_OUT")) return is_out_pattern(value) && (settings.out = value, true);
  if (is("MPROF_HEAP_RATE")) return parse_number(value, kMaxHeapRate, &settings.heap_rate);
  if (is("MPROF_BLOCK_RATE")) return parse_number(value, kMaxBlockRateNs, &settings.block_rate_ns);
  if (is("MPROF_MUTEX_FRACTION")) {
    if (!parse_number(value, kMaxMutexFraction, &number)) return false;
    settings.mutex_fraction = static_cast<uint32_t>(number);
    return true;
  }
  if (is("MPROF_CPU_HZ")) {
    if (!parse_number(value, kMaxCpuHz, &number)) return false;
    settings.cpu_hz = static_cast<uint32_t>(number);
    return true;
  }
  if (is("MPROF_STACK_DEPTH")) {
    if (!parse_number(value, kMaxStackDepth, &number) || number == 0) return false;
    settings.stack_depth = static_cast<uint32_t>(number);
    return true;
  }
  if (is("MPROF_UNWIND")) return parse_unwind(value, &settings.unwind);
  if (is("MPROF_MMAP")) return parse_switch(value, &settings.mmap);
  if (is("MPROF_DRAIN")) return parse_switch(value, &settings.drain);
  if (is("MPROF_TRACE")) return parse_switch(value, &settings.trace);
  if (is("MPROF_TRACE_MAX")) return parse_trace_limit(value, &settings.trace_limit);
  if (is("MPROF_ONLY")) return settings.only = value, true;
  if (is("MPROF_SKIP")) return settings.skip = value, true;
  if (is("MPROF_VERBOSE")) {
    bool on = false;
    return parse_switch(value, &on) && (settings.verbose = on ? 1 : 0, true);
  }
  if (is("MPROF_SEED")) return parse_number(value, UINT64_MAX, &settings.seed);
  return false;
}

}  // namespace mprof::format
