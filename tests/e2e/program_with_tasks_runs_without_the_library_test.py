# SPDX-License-Identifier: Apache-2.0
"""What mprof.h says of traces: its documented answers with the library, without it, and where it does not record."""

import errno

import api_program
import harness

PROGRAM = """
#include <errno.h>
#include <mprof.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char long_text[3000];

static void write_all(void) {
  uint64_t first, second;
  mprof_region_t region, nameless;
  first = mprof_task_begin("first", 0);
  second = mprof_task_begin("second", first);
  printf("%d%d%d ", first != 0, second != 0, first != second);
  region = mprof_region_begin(first, "region");
  nameless = mprof_region_begin(0, 0);
  printf("%d%d ", region.task == first, nameless.task == 0);
  mprof_log(first, "category", "message");
  mprof_log(0, 0, "message");
  mprof_log(0, "", "");
  mprof_log(0, "category", 0);
  mprof_log(0, long_text, long_text);
  mprof_region_end(nameless);
  mprof_region_end(region);
  mprof_region_end(mprof_region_begin(second, long_text));
  mprof_task_end(second);
  mprof_task_end(first);
  mprof_task_end(0);
  mprof_task_end(mprof_task_begin(0, 0));
  mprof_task_end(mprof_task_begin("", 12345));
}

static void ask(void) {
  errno = 77;
  memset(long_text, 'a', sizeof long_text - 1);
  write_all();
  printf("%d ", mprof_trace_is_on());
  printf("%d ", mprof_trace_start());
  printf("%d ", mprof_trace_start());
  printf("%d ", mprof_trace_is_on());
  write_all();
  printf("%d ", mprof_trace_stop());
  printf("%d ", mprof_trace_is_on());
  printf("%d ", mprof_trace_stop());
  write_all();
  printf("%d ", mprof_trace_start());
  printf("%d ", mprof_trace_is_on());
  printf("%d\\n", errno);
  fflush(stdout);
}
""" + api_program.ASK_TWICE
WRITTEN = "111 11 "
WITH = f"{WRITTEN}0 0 {errno.EBUSY} 1 {WRITTEN}0 0 0 {WRITTEN}0 1 77\n"
NOT_WRITTEN = "000 11 "
WITHOUT = f"{NOT_WRITTEN}0 {errno.ENOSYS} {errno.ENOSYS} 0 {NOT_WRITTEN}{errno.ENOSYS} 0 {errno.ENOSYS} "
WITHOUT += f"{NOT_WRITTEN}{errno.ENOSYS} 0 77\n"


class Tasks(api_program.Answers):
    program_text = PROGRAM
    without = WITHOUT

    def test_with_the_library(self):
        for program in self.programs():
            run = self.run_under(program)
            self.assertEqual((run.returncode, run.stdout, run.stderr), (0, WITH * 2, ""))

    def test_traced_from_the_start(self):
        busy = WITH.replace(f"{WRITTEN}0 0 ", f"{WRITTEN}1 {errno.EBUSY} ", 1)
        for program in self.programs():
            run = self.run_under(program, env={"MPROF_TRACE": "1"})
            self.assertEqual((run.returncode, run.stdout, run.stderr), (0, busy * 2, ""))


if __name__ == "__main__":
    harness.main()
