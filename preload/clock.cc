// SPDX-License-Identifier: Apache-2.0
#include "preload/clock.h"

#include <string.h>

#include "preload/low.h"
#include "preload/sys.h"
#include "preload/thread_state.h"

namespace mprof::preload {

bool clock_is_tsc;
std::atomic<bool> clock_is_free_tsc;

namespace {

std::atomic<bool> are_watched;
std::atomic<bool> stopped;
std::atomic<uint64_t> last_ticks;  // where the time stands still, it is this
std::atomic<uint64_t> last_ns;
std::atomic<uint64_t> last_realtime_ns;

bool is_counter_gone() { return stopped.load(std::memory_order_relaxed) || self.is_strict != 0; }

uint64_t read_clock(clockid_t clock, const std::atomic<uint64_t>& last) {
  timespec now;
  // Ticks of the kernel's clock come often; another library may stand before libc's function.
  if (!clock_is_tsc && !are_watched.load(std::memory_order_acquire))
    clock_gettime(clock, &now);
  else if (sys::clock_gettime(clock, &now) != 0)
    return last.load(std::memory_order_relaxed);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

void clock_init() {
  char source[16];
  const long got = read_small_file(
      "/sys/devices/system/clocksource/clocksource0/current_clocksource", source, sizeof source);
  clock_is_tsc = got >= 3 && memcmp(source, "tsc", 3) == 0 && !stopped;
  clock_is_free_tsc.store(clock_is_tsc && !are_watched, std::memory_order_relaxed);
}

bool clocks_stand_still() {
  if (!are_watched.load(std::memory_order_acquire)) return false;
  timespec now;
  return is_counter_gone() || sys::clock_gettime(CLOCK_MONOTONIC, &now) != 0;
}

uint64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC, last_ns); }

uint64_t realtime_ns() { return read_clock(CLOCK_REALTIME, last_realtime_ns); }

uint64_t ticks_where_allowed() {
  if (!clock_is_tsc) return monotonic_ns();
  return is_counter_gone() ? last_ticks.load(std::memory_order_relaxed) : __builtin_ia32_rdtsc();
}

void watch_clocks() {
  if (clocks_stand_still()) return;
  last_ticks.store(ticks(), std::memory_order_relaxed);
  last_ns.store(monotonic_ns(), std::memory_order_relaxed);
  last_realtime_ns.store(realtime_ns(), std::memory_order_relaxed);
  are_watched.store(true, std::memory_order_release);
  clock_is_free_tsc.store(false, std::memory_order_release);
}

void stop_clocks() {
  watch_clocks();
  stopped.store(true, std::memory_order_release);
}

namespace {

uint64_t scaled(uint64_t value, uint64_t by, uint64_t over) {
  if (over == 0) return value;
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(value) * by / over);
}

}  // namespace

uint64_t ticks_of_ns(uint64_t ns, uint64_t since_ticks, uint64_t since_ns) {
  if (!clock_is_tsc) return ns;
  const uint64_t ns_gone = monotonic_ns() - since_ns;
  return scaled(ns, ticks() - since_ticks, ns_gone);
}

uint64_t ns_of_ticks(uint64_t count, uint64_t since_ticks, uint64_t since_ns) {
  if (!clock_is_tsc) return count;
  const uint64_t ns_gone = monotonic_ns() - since_ns;
  return scaled(count, ns_gone, ticks() - since_ticks);
}

}  // namespace mprof::preload
