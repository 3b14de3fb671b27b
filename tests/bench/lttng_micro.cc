// SPDX-License-Identifier: Apache-2.0
// lttng_micro [--ops TOTAL]
//
// An event of LTTng-UST with one number, in bursts with a pause after each that is not timed, as
// trace_micro makes its records.
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include <unistd.h>

#include "tests/bench/lttng_event.h"
#include "tests/bench/workload.h"

int main(int argc, char** argv) {
  using namespace mprof::bench;
  constexpr uint64_t kBurst = 4096;
  constexpr unsigned kPauseUs = 4000;
  const Options options(argc, argv, {"--ops"});
  pin_as_asked();
  const uint64_t bursts = options.number("--ops", 400000) / kBurst + 1;
  uint64_t spent_ns = 0;
  for (uint64_t i = 0; i < bursts; i++) {
    usleep(kPauseUs);
    const uint64_t start_ns = now_ns();
    for (uint64_t event = 0; event < kBurst; event++)
      lttng_ust_tracepoint(mprof_bench, event, event);
    spent_ns += now_ns() - start_ns;
  }
  report(bursts * kBurst, spent_ns);
}
