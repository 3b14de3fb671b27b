// SPDX-License-Identifier: Apache-2.0
#include "dumper/control.h"

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "dumper/control_lock.h"
#include "dumper/signal_thread.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
constexpr auto kLongestWait = std::chrono::seconds(1);
constexpr auto kWaitForOneThread = milliseconds(200);
constexpr auto kLongestMoment = milliseconds(100);
constexpr auto kPoll = std::chrono::microseconds(200);

constexpr const char* kHeapRates =
    "0, or 4096 to 1099511627776; suffix k, M or G allowed (1 to 4095 only from the start, by "
    "MPROF_HEAP_RATE)";

[[noreturn]] void refuse(const std::string& name, const std::string& value, const char* accepted) {
  throw std::invalid_argument(fmt::format("{} '{}': accepted is {}", name, value, accepted));
}

format::Settings parse(const char* variable, const std::string& name, const std::string& value) {
  format::Settings settings;
  if (!format::apply_setting(settings, variable, value.c_str()))
    refuse(name, value, format::find_setting(variable)->accepted);
  return settings;
}

format::Control& writable_control(const Dump& dump) {
  if (dump.life() != Life::kRunning)
    throw DumpError(fmt::format("{}: process {} has ended: its settings are of no use any more",
                                dump.path(), dump.header().pid));
  if (dump.control() == nullptr)
    throw DumpError(fmt::format(
        "{}: may not be written by this user, so process {} cannot be steered: only its own user "
        "and root can",
        dump.path(), dump.header().pid));
  return *dump.control();
}

template <class T>
void store(std::atomic<T>& wanted, const std::optional<T>& value) {
  if (value) wanted.store(*value, std::memory_order_relaxed);
}

// The program changes words of its own here, too: each writer stores only what it changes.
uint32_t ask_for(const Dump& dump, const SettingsChange& change) {
  format::Control& control = writable_control(dump);
  const ControlLock lock(dump);
  store(control.heap_rate_bytes, change.heap_rate_bytes);
  store(control.block_rate_ns, change.block_rate_ns);
  store(control.mutex_fraction, change.mutex_fraction);
  store(control.cpu_hz, change.cpu_hz);
  store(control.trace, change.trace);
  return control.epoch.fetch_add(1, std::memory_order_release) + 1;
}

bool is_in_force(const Dump& dump, uint32_t epoch) {
  const uint32_t applied = dump.header().control.applied_epoch.load(std::memory_order_acquire);
  return static_cast<int32_t>(applied - epoch) >= 0;
}

bool wait_until_in_force(const Dump& dump, uint32_t epoch, steady_clock::time_point deadline) {
  while (!is_in_force(dump, epoch)) {
    if (steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

// Asks one thread after the other, each when the one before has had its time. Why it is not in
// force; empty: it is.
std::string ask_once(const Dump& dump, const ThreadsToAsk& threads, uint32_t epoch,
                     steady_clock::time_point deadline) {
  for (const uint32_t tid : threads.tids) {
    if (steady_clock::now() >= deadline) break;
    if (why_not_signal(dump, tid) || !signal_thread(dump, tid)) continue;
    const auto patience = steady_clock::now() + kWaitForOneThread;
    if (wait_until_in_force(dump, epoch, std::min(deadline, patience))) return {};
  }
  if (is_in_force(dump, epoch)) return {};
  return threads.tids.empty() ? threads.why_none : "no thread that was asked has run since";
}

// Each thread that runs may block the signal just now, in a handler perhaps: they are looked at
// again for a while.
std::string ask_threads(const Dump& dump, uint32_t epoch, steady_clock::time_point start) {
  for (;;) {
    const ThreadsToAsk threads = threads_to_ask(dump);
    const std::string why = ask_once(dump, threads, epoch, start + kLongestWait);
    if (why.empty() || !threads.some_run || steady_clock::now() >= start + kLongestMoment)
      return why;
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace

void set_heap_rate(SettingsChange& change, const std::string& name, const std::string& value) {
  uint64_t rate = 0;
  if (!format::parse_number(value.c_str(), format::kMaxHeapRate, &rate) ||
      !format::is_changed_heap_rate(rate))
    refuse(name, value, kHeapRates);
  change.heap_rate_bytes = rate;
}

void set_block_rate(SettingsChange& change, const std::string& name, const std::string& value) {
  change.block_rate_ns = parse("MPROF_BLOCK_RATE", name, value).block_rate_ns;
}

void set_mutex_fraction(SettingsChange& change, const std::string& name, const std::string& value) {
  change.mutex_fraction = parse("MPROF_MUTEX_FRACTION", name, value).mutex_fraction;
}

void set_cpu(SettingsChange& change, const std::string& name, const std::string& value) {
  uint64_t hz = 0;
  if (value == "on")
    hz = format::kUsualCpuHz;
  else if (value != "off" && !format::parse_number(value.c_str(), format::kMaxCpuHz, &hz))
    refuse(name, value, "on (100), off, or samples in a second, 0 to 10000");
  change.cpu_hz = static_cast<uint32_t>(hz);
}

void set_trace(SettingsChange& change, const std::string& name, const std::string& value) {
  if (value != "on" && value != "off") refuse(name, value, "on or off");
  change.trace = value == "on" ? 1 : 0;
}

void require_steerable(const Dump& dump) { (void)writable_control(dump); }

ChangeResult change_settings(const Dump& dump, const SettingsChange& change) {
  const auto start = steady_clock::now();
  const uint32_t epoch = ask_for(dump, change);
  ChangeResult result;
  result.why_not_yet = ask_threads(dump, epoch, start);
  result.in_force = result.why_not_yet.empty();
  result.after_ms = std::chrono::duration<double, std::milli>(steady_clock::now() - start).count();
  return result;
}

std::string settings_text(const Dump& dump) {
  const format::DumpHeader& header = dump.header();
  return fmt::format("heap rate {}, block rate {}, mutex fraction {}, cpu {}, trace {}",
                     header.heap_rate_bytes, header.block_rate_ns, header.mutex_fraction,
                     header.cpu_hz == 0 ? "off" : fmt::format("{} Hz", header.cpu_hz),
                     header.trace_on.load(std::memory_order_relaxed) == 0 ? "off" : "on");
}

std::string result_text(const Dump& dump, const ChangeResult& result) {
  const std::string process = fmt::format("process {}: ", dump.header().pid);
  if (result.in_force)
    return process +
           fmt::format("in force after {:.1f} ms: {}", result.after_ms, settings_text(dump));
  return process + "takes effect when the program wakes; " + result.why_not_yet;
}

}  // namespace mprof::dumper
