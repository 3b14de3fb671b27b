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

uint64_t ticks_of_ns(uint64_t ns, uint64_t since_ticks, uint64_t since_ns) {
  if (!clock_is_tsc) return ns;
  const uint64_t ns_gone = monotonic_ns() - since_ns;
  const uint64_t ticks_gone = ticks() - since_ticks;
  if (ns_gone == 0) return ns;
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(ns) * ticks_gone / ns_gone);
}

}  // namespace mprof::preload
