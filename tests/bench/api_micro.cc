// SPDX-License-Identifier: Apache-2.0
// api_micro: what each call of mprof.h costs, in nanoseconds of processor time, one line each. Run
// it with the library and without; docs/api.md has the results.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "preload/mprof.h"

namespace mprof::bench {
namespace {

uint64_t processor_ns() {
  timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<uint64_t>(used.tv_sec) * 1000000000u + static_cast<uint64_t>(used.tv_nsec);
}

// The best of five runs: other programs only add.
template <class Operation>
void measure(const char* name, const Operation& operation, unsigned count = 1000000, int runs = 5) {
  double best = 1e9;
  for (int run = 0; run < runs; ++run) {
    const uint64_t start_ns = processor_ns();
    for (unsigned i = 0; i < count; ++i) operation(i);
    const auto spent_ns = static_cast<double>(processor_ns() - start_ns);
    best = spent_ns / count < best ? spent_ns / count : best;
  }
  std::printf("%-44s %7.1f\n", name, best);
}

void measure_labels() {
  const char* const values[] = {"order", "mail"};
  measure("label_set, one of two values",
          [&](unsigned i) { mprof_label_set("kind", values[i & 1]); });
  const mprof_label_set_t one = mprof_labels();
  mprof_label_set("request", "7");
  measure("label_set, below another", [&](unsigned i) { mprof_label_set("kind", values[i & 1]); });
  const mprof_label_set_t two = mprof_labels();
  measure("label_clear and label_set", [&](unsigned) {
    mprof_label_clear("kind");
    mprof_label_set("kind", "order");
  });
  measure("set_labels", [&](unsigned i) { mprof_set_labels(i % 2 == 0 ? one : two); });
  measure("labels", [](unsigned) { mprof_labels(); });
  measure("ScopedLabels with two labels", [&](unsigned i) {
    const mprof::ScopedLabels scope{{"kind", values[i & 1]}, {"request", "7"}};
  });
  mprof_labels_clear();
}

// The texts are made before: it is the library's time that counts.
void measure_storm() {
  std::vector<std::string> numbers;
  for (int i = 0; i < 1000000; ++i) numbers.push_back("request " + std::to_string(i));
  const auto set = [&](unsigned i) { mprof_label_set("request", numbers[i].c_str()); };
  measure("label_set, a new value", set, 65000, 1);
  for (unsigned i = 65000; i < 100000; ++i) set(i);
  measure(
      "label_set, a new value when there are 65536", [&](unsigned i) { set(100000 + i); }, 900000,
      1);
  mprof_labels_clear();
}

void measure_rest() {
  const mprof_profile_t profile = mprof_profile_new("api_micro");
  std::vector<char> things(100000);
  measure("profile_add and profile_remove", [&](unsigned) {
    mprof_profile_add(profile, things.data());
    mprof_profile_remove(profile, things.data());
  });
  measure(
      "profile_add", [&](unsigned i) { mprof_profile_add(profile, &things[i]); }, 100000, 1);
  measure(
      "profile_remove", [&](unsigned i) { mprof_profile_remove(profile, &things[i]); }, 100000, 1);
  measure("alloc and free of 64 bytes", [&](unsigned i) {
    mprof_alloc(&things[i % 1000 * 64], 64);
    mprof_free(&things[i % 1000 * 64]);
  });
  measure("pause and resume", [](unsigned) {
    mprof_pause();
    mprof_resume();
  });
}

// While a trace is on (MPROF_TRACE=1), so few that all of them find room in this thread's ring.
template <class Operation>
void measure_traced(const char* name, const Operation& operation) {
  for (int i = 0; i < 10; ++i) operation(0);
  if (mprof_trace_is_on() != 0)
    measure(name, operation, 3000, 1);
  else
    measure(name, operation);
}

void measure_trace() {
  measure_traced("task_begin and task_end",
                 [](unsigned) { mprof_task_end(mprof_task_begin("request", 0)); });
  measure_traced("region_begin and region_end",
                 [](unsigned) { mprof_region_end(mprof_region_begin(0, "parse")); });
  measure_traced("log of 20 bytes",
                 [](unsigned) { mprof_log(0, "cache", "not in there, nobody"); });
  const int null = open("/dev/null", O_WRONLY);
  measure_traced("write of 0 bytes to /dev/null", [&](unsigned) {
    if (write(null, "", 0) != 0) abort();
  });
  measure_traced("close of no descriptor", [](unsigned) {
    if (close(-1) != -1) abort();
  });
  close(null);
}

}  // namespace
}  // namespace mprof::bench

int main() {
  mprof::bench::measure_trace();
  mprof::bench::measure_labels();
  mprof::bench::measure_storm();
  mprof::bench::measure_rest();
}
