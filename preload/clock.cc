// SPDX-License-Identifier: Apache-2.0
#include "preload/clock.h"

#include <string.h>

#include "preload/low.h"

namespace mprof::preload {

bool clock_is_tsc;

void clock_init() {
  char source[16];
  const long got = read_small_file(
      "/sys/devices/system/clocksource/clocksource0/current_clocksource", source, sizeof source);
  clock_is_tsc = got >= 3 && memcmp(source, "tsc", 3) == 0;
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
