# SPDX-License-Identifier: Apache-2.0
"""What a program says by mprof.h is in the trace as it was said: ids, names, texts, where; cut and bounded as documented."""

import re

import harness
import traced_program

LIMITS = """
#include <mprof.h>
#include <stdio.h>
#include <string.h>

static char text[3000];

static void storm(void) {
  char name[32];
  int i;
  for (i = 0; i < 8192 + 10; i++) {
    sprintf(name, "name %d", i);
    mprof_task_begin(name, 0);
  }
}

int main(void) {
  uint64_t before = mprof_task_begin("before the trace", 0);
  mprof_region_t open = mprof_region_begin(before, "open");
  mprof_trace_start();
  mprof_region_end(open);
  mprof_task_end(before);
  mprof_task_end(0);
  mprof_task_begin(0, before);
  mprof_task_begin("", 0);
  memset(text, 'n', sizeof text - 1);
  mprof_task_begin(text, 12345);
  mprof_region_end(mprof_region_begin(7, text));
  mprof_log(0, 0, text);
  mprof_log(0, "", "");
  mprof_log(9, text, "caf\\303\\251");
  mprof_log(9, "no message", 0);
  mprof_trace_stop();
  mprof_task_begin("after the trace", 0);
  mprof_log(0, 0, "after the trace");
  mprof_trace_start();
  storm();
  mprof_trace_stop();
  return 0;
}
"""
CUT = "n" * 253 + "..."

SITES = """
#include <mprof.h>
#include <cstdio>

[[gnu::noinline]] uint64_t begin_task() { return mprof_task_begin("task", 0); }
[[gnu::noinline]] mprof_region_t begin_region() { return mprof_region_begin(1, "region"); }
[[gnu::noinline]] void log_line() { mprof_log(1, "category", "line"); }

int main() {
  std::printf("%p %p %p\\n", reinterpret_cast<void*>(begin_task), reinterpret_cast<void*>(begin_region),
              reinterpret_cast<void*>(log_line));
  const uint64_t task = begin_task();
  const mprof_region_t region = begin_region();
  log_line();
  mprof_region_end(region);
  mprof_task_end(task);
}
"""

THREADS = """
#include <mprof.h>
#include <pthread.h>
#include <stdio.h>

static void* begin_many(void* unused) {
  int i;
  for (i = 0; i < 300; i++) {
    mprof_region_t region = mprof_region_begin(mprof_task_begin("task", 0), "region");
    mprof_region_end(region);
    mprof_task_end(region.task);
  }
  return unused;
}

int main(void) {
  pthread_t threads[8];
  int i;
  for (i = 0; i < 8; i++) pthread_create(&threads[i], NULL, begin_many, NULL);
  for (i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  return 0;
}
"""


class Tasks(traced_program.Case):
    def test_limits(self):
        program = self.compile(LIMITS, "cc", "c", ["-std=c99"])
        _, trace = self.trace_of(program)
        said = list(trace.said())
        self.assertEqual(
            said[:11],
            [
                ("RegionEnd", 1, "open"),
                ("TaskEnd", 1),
                ("TaskBegin", 2, 1, "[unnamed]"),
                ("TaskBegin", 3, 0, "[unnamed]"),
                ("TaskBegin", 4, 12345, CUT),
                ("RegionBegin", 7, CUT),
                ("RegionEnd", 7, CUT),
                ("Log", 0, None, "n" * 1024),
                ("Log", 0, None, ""),
                ("Log", 9, CUT, "café"),
                ("TaskBegin", 6, 0, "name 0"),
            ],
        )
        storm = said[10:]
        self.assertEqual([task for _, task, _, _ in storm], list(range(6, 6 + 8202)))
        names = [name for *_, name in storm]
        places = 8192 - 3  # what was named before: "open", "[unnamed]", the long one
        self.assertEqual(names[:places], [f"name {i}" for i in range(places)])
        self.assertEqual(set(names[places:]), {"[other]"})
        lost = self.mprof_ok("info", self.only_dump()).stdout
        self.assertIn(str(8202 - places), re.search(r'.*"\[other\]".*', lost)[0])

    def test_sites(self):
        program = self.compile(SITES, "c++", "cc", ["-std=c++11", "-O2", "-fno-optimize-sibling-calls"])
        printed, trace = self.trace_of(program, env={"MPROF_TRACE": "1"})
        begins = [int(address, 16) for address in printed.split()]
        for begin, record in zip(begins, trace.of("TaskBegin", "RegionBegin", "Log"), strict=True):
            self.assertLess(begin, trace.caller(record))
            self.assertLess(trace.caller(record), begin + 64)

    def test_threads_never_get_the_same_id(self):
        program = self.compile(THREADS, "cc", "c", ["-std=c99"])
        _, trace = self.trace_of(program, env={"MPROF_TRACE": "1"})
        self.assertEqual(sorted(r.arguments[0] for r in trace.of("TaskBegin")), list(range(1, 2401)))
        for thread in {r.thread for r in trace.of("TaskBegin")}:
            said = [
                (r.kind, r.arguments[0])
                for r in trace.of("TaskBegin", "TaskEnd", "RegionBegin", "RegionEnd")
                if r.thread == thread
            ]
            for begin in range(0, len(said), 4):
                task = said[begin][1]
                wanted = ["TaskBegin", "RegionBegin", "RegionEnd", "TaskEnd"]
                self.assertEqual(said[begin : begin + 4], [(kind, task) for kind in wanted])


if __name__ == "__main__":
    harness.main()
