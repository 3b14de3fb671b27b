// SPDX-License-Identifier: Apache-2.0
// trace_micro --test NAME [--depth 1|30|100] [--ops TOTAL]
//
//   plain    the end of a task: one record without a stack
//   region   the begin of a region: one record with the stack of its caller
//   log      a line of 20 characters: one record with a stack and a text
//   call     a write of no bytes to a pipe: two records, one with a stack
//   function a function that does nothing: for tracers of functions, which see it
//   mix      a region around a byte through a pipe and, now and then, a line and a task
//
// The stack is left and entered anew every few records, as a program that works would.
//
// What is timed comes in bursts that a ring has room for, with a pause after each that is not
// timed, in which the drainer empties it: a record that is dropped would look cheap.
#include <unistd.h>

#include "preload/mprof.h"
#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr uint64_t kBurst = 4096;
constexpr uint64_t kRecordsPerDescent = 4;
constexpr unsigned kPauseUs = 4000;

int channel[2];
volatile int sink;

using Burst = void (*)(uint64_t count);

void plain(uint64_t count) {
  for (; count > 0; count--) mprof_task_end(1);
}
void region(uint64_t count) {
  for (; count > 0; count--) (void)mprof_region_begin(0, "a region");
}
void log(uint64_t count) {
  for (; count > 0; count--) mprof_log(0, "a category", "a line of 20 letters");
}
void call(uint64_t count) {
  for (; count > 0; count--)
    if (write(channel[1], "", 0) != 0) die("cannot write", "to a pipe");
}

// What a pool does that goes from one request to another.
mprof_label_set_t requests[2];
void label(uint64_t count) {
  for (; count > 0; count--) mprof_set_labels(requests[count & 1]);
}
void make_requests() {
  mprof_label_set("request", "7");
  requests[0] = mprof_labels();
  mprof_label_set("request", "8");
  requests[1] = mprof_labels();
}

[[gnu::noinline]] void do_nothing(uint64_t number) { sink = static_cast<int>(number); }
void function(uint64_t count) {
  for (; count > 0; count--) do_nothing(count);
}
[[gnu::noinline]] void pass_a_byte() {
  char byte = 'x';
  if (write(channel[1], &byte, 1) != 1 || read(channel[0], &byte, 1) != 1)
    die("cannot pass a byte", "through a pipe");
}
void mix(uint64_t count) {
  for (; count > 0; count--) {
    const uint64_t task = count % 64 == 0 ? mprof_task_begin("a task", 0) : 0;
    const mprof_region_t region = mprof_region_begin(task, "a region");
    pass_a_byte();
    if (count % 16 == 0) mprof_log(task, "a category", "a line of 20 letters");
    mprof_region_end(region);
    mprof_task_end(task);
  }
}

template <int depth>
[[gnu::noinline]] void descend(Burst burst, uint64_t count) {
  if constexpr (depth <= 1)
    burst(count);
  else
    descend<depth - 1>(burst, count);
  sink = depth;  // work after the call: not a tail call, which would have no frame
}

Burst burst_of(std::string_view test) {
  if (test == "plain") return plain;
  if (test == "region") return region;
  if (test == "log") return log;
  if (test == "call") return call;
  if (test == "label") return label;
  if (test == "function") return function;
  if (test == "mix") return mix;
  die("unknown --test", test);
}

uint64_t burst_ns(Burst burst, uint64_t depth) {
  void (*const enter)(Burst, uint64_t) =
      depth == 1 ? descend<1> : (depth == 30 ? descend<30> : descend<100>);
  const uint64_t start_ns = now_ns();
  for (uint64_t i = 0; i < kBurst; i += kRecordsPerDescent) enter(burst, kRecordsPerDescent);
  return now_ns() - start_ns;
}

uint64_t in_bursts_ns(Burst burst, uint64_t depth, uint64_t bursts) {
  burst_ns(burst, depth);  // its stack is known from here on
  uint64_t spent_ns = 0;
  for (uint64_t i = 0; i < bursts; i++) {
    usleep(kPauseUs);
    spent_ns += burst_ns(burst, depth);
  }
  return spent_ns;
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  using namespace mprof::bench;
  const Options options(argc, argv, {"--test", "--depth", "--ops"});
  const uint64_t depth = options.number("--depth", 1);
  if (depth != 1 && depth != 30 && depth != 100)
    die("--depth is 1, 30 or 100, not", options.text("--depth", ""));
  if (pipe(channel) != 0) die("no pipe for", "--test call");
  pin_as_asked();
  const uint64_t bursts = options.number("--ops", 400000) / kBurst + 1;
  make_requests();
  report(bursts * kBurst, in_bursts_ns(burst_of(options.text("--test", "plain")), depth, bursts));
}
