# SPDX-License-Identifier: Apache-2.0
"""Each call that may block is in the trace, by its name, with the stack of its caller; so is what malloc_trim gave back."""

import bisect
import os
import re
from pathlib import Path

import harness
import traced_program

SOURCE = Path(os.environ["MPROF_SOURCE"])
CALLS = re.findall(r'X\((k\w+), "([^"]+)", (?:true|false)\)', (SOURCE / "format/call_names.h").read_text())
NAME_OF = dict(CALLS)
HOOKS = {
    function: NAME_OF[enumerator]
    for enumerator, function in re.findall(
        r"<CallName::(\w+), &RealCalls::(\w+)>", (SOURCE / "preload/hooks_calls.cc").read_text()
    )
}
TRIMMED = 32 << 20

# The trace begins while the thread reads, and ends while it reads again.
BEGUN_BEFORE = """
#define _GNU_SOURCE
#include <mprof.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int ends[2];
static atomic_int tid, times;

static void* read_twice(void* unused) {
  char byte;
  atomic_store(&tid, gettid());
  while (atomic_load(&times) < 2 && read(ends[0], &byte, 1) == 1) atomic_fetch_add(&times, 1);
  return unused;
}

/* stdio's own calls are not in the trace */
static int is_asleep(void) {
  char path[64], text[512] = "";
  FILE* file;
  sprintf(path, "/proc/self/task/%d/stat", atomic_load(&tid));
  file = fopen(path, "r");
  if (fgets(text, sizeof text, file) == NULL) return 0;
  fclose(file);
  return strrchr(text, ')')[2] == 'S';
}

static void let_go_on(int time) {
  if (write(ends[1], "", 1) != 1) return;
  while (atomic_load(&times) < time) usleep(1000);
}

int main(void) {
  pthread_t thread;
  if (pipe(ends) != 0 || pthread_create(&thread, NULL, read_twice, NULL) != 0) return 1;
  while (atomic_load(&tid) == 0 || !is_asleep()) usleep(1000);
  mprof_trace_start();
  let_go_on(1);
  while (!is_asleep()) usleep(1000);
  mprof_trace_stop();
  let_go_on(2);
  pthread_join(thread, NULL);
  return 0;
}
"""


def function_at(sites, address):
    starts = sorted(sites)
    return starts[bisect.bisect([start for start, _ in starts], address) - 1][1]


class Calls(traced_program.Case):
    def test_each_call_at_its_site(self):
        printed, trace = self.trace_of(harness.target("call_sites"))
        sites = [(int(at, 16), function) for at, function in re.findall(r"(0x\w+) (\w+)", printed)]
        self.assertEqual({function for _, function in sites}, set(HOOKS))
        calls = trace.of("Call", "CallEnd")
        found = [(r.kind, CALLS[r.arguments[0]][1], function_at(sites, trace.caller(r))) for r in calls[::2]]
        self.assertEqual(found, [("Call", HOOKS[function], function) for _, function in sites])
        self.assertEqual([(r.kind, r.stack) for r in calls[1::2]], [("CallEnd", None)] * len(sites))
        self.assertEqual(len({r.thread for r in calls}), 1)

    def test_what_began_before_the_trace_has_no_record_and_what_ends_after_it_no_end(self):
        program = self.compile(BEGUN_BEFORE, "cc", "c", ["-std=gnu11"])
        _, trace = self.trace_of(program)
        by_thread = {}
        for r in trace.of("Call", "CallEnd"):
            by_thread.setdefault(r.thread, []).append(CALLS[r.arguments[0]][1] if r.kind == "Call" else "end")
        self.assertEqual(sorted(by_thread.values()), [["read"], ["write", "end"]])

    def test_what_malloc_trim_gave_back(self):
        printed, trace = self.trace_of(harness.target("trims"))
        self.assertEqual(printed, "011\n")
        trims = trace.of("Trim")
        nothing, within, end = [r.arguments[0] for r in trims]
        self.assertEqual(nothing, 0)
        for given_back in (within, end):
            self.assertGreater(given_back, TRIMMED * 0.95)
            self.assertLess(given_back, TRIMMED * 1.05)
        for trim in trims:
            self.assertIsNotNone(trim.stack)
            self.assertGreater(trim.arguments[1], 0)


if __name__ == "__main__":
    harness.main()
