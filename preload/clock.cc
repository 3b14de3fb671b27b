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

}  // namespace mprof::preload
