# SPDX-License-Identifier: Apache-2.0
"""Rates, the CPU profile and snapshots by mprof.h: what each function answers, and that it does it."""

import api_program
import harness

PROGRAM = """
#include <errno.h>
#include <mprof.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void *block;
volatile long steps;

static void ask(void) {
  errno = 77;
  printf("%d ", mprof_set_heap_rate(65536));
  printf("%d ", mprof_set_heap_rate(0));
  printf("%d %d ", mprof_set_heap_rate(1), mprof_set_heap_rate(((uint64_t)1 << 40) + 1));
  printf("%d %d ", mprof_set_block_rate(1), mprof_set_block_rate(3600000000001));
  printf("%d %d ", mprof_set_mutex_fraction(1), mprof_set_mutex_fraction(1048577));
  printf("%d %d ", mprof_cpu_start(0), mprof_cpu_start(10001));
  printf("%d ", mprof_cpu_start(1000));
  printf("%d ", mprof_cpu_start(100));
  for (steps = 0; steps < 300000000; steps++) {}
  printf("%d %d ", mprof_cpu_stop(), mprof_cpu_stop());
  block = malloc(100);
  printf("%d ", mprof_snapshot("one"));
  printf("%d ", mprof_snapshot("one"));
  printf("%d %d %d %d ", mprof_snapshot(0), mprof_snapshot(""), mprof_snapshot("a/b"), mprof_snapshot("baseline"));
  printf("%d\\n", errno);
  fflush(stdout);
}
""" + api_program.ASK_TWICE
# EINVAL 22, EBUSY 16, EEXIST 17, ENOSYS 38
WITH = "0 0 22 22 0 22 0 22 22 22 0 16 0 0 0 17 22 22 22 22 77\n"
WITHOUT = "38 " * 20 + "77\n"


class Functions(api_program.Answers):
    program_text = PROGRAM
    without = WITHOUT

    def test_with_the_library(self):
        for program in self.programs():
            self.assertEqual(self.run_under(program, rate=524288).stdout, WITH * 2)
            snapshots = [path for path in self.dumps() if ".one." in path.name]
            dumps = [path for path in self.dumps() if ".one." not in path.name]
            self.assertEqual((len(snapshots), len(dumps)), (2, 2))
            for dump in self.dumps():
                info = self.info(dump)
                self.assertEqual((info["heap_rate_bytes"], info["block_rate_ns"], info["mutex_fraction"]), (0, 1, 1))
                self.assertGreater(info["cpu"]["samples"], 5)
                dump.unlink()

    def test_exact_from_the_start_may_be_asked_for_again(self):
        text = PROGRAM.replace("ask();\n  if (fork", "return mprof_set_heap_rate(1);\n  if (fork", 1)
        program = self.compile(text, "cc", "c", ["-std=c99", "-D_POSIX_C_SOURCE=200809L"])
        self.assertEqual(self.run_under(program, rate=1).returncode, 0)


if __name__ == "__main__":
    harness.main()
