# SPDX-License-Identifier: Apache-2.0
"""mprof.h: the same program asks with and without the library, in C and C++, with and without -pie."""

from pathlib import Path

import api_program
import harness

# Two lines: this process, then the child of a fork.
PROGRAM = """
#include <mprof.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(void) {
  const char *path = mprof_dump_path();
  printf("%d %s\\n", mprof_active(), path != 0 ? path : "none");
  fflush(stdout);
}

int main(void) {
  answer();
  if (fork() == 0) {
    answer();
    _exit(0);
  }
  wait(0);
  return 0;
}
"""

class Ask(api_program.Case):
    def programs(self):
        return super().programs(PROGRAM)

    def test_without_the_library(self):
        for program in self.programs():
            self.assertEqual(self.run_plain(program).stdout, "0 none\n0 none\n")

    def test_static_program(self):
        program = self.compile(PROGRAM, "cc", "c", ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-static"])
        self.assertEqual(self.run_under(program).stdout, "0 none\n0 none\n")

    def test_with_the_library(self):
        for program in self.programs():
            run = self.run_under(program)
            answers = [line.split(" ", 1) for line in run.stdout.splitlines()]
            self.assertEqual([active for active, _ in answers], ["1", "1"], run)
            paths = [Path(path) for _, path in answers]
            self.assertNotEqual(paths[0], paths[1])
            self.assertEqual(sorted(paths), self.dumps())
            for path in paths:
                path.unlink()

    def test_excluded_program(self):
        for program in self.programs():
            run = self.run_under(program, env={"MPROF_SKIP": "ask"})
            self.assertEqual(run.stdout, "0 none\n0 none\n")
            self.assertEqual(self.dumps(), [])

    def test_dump_that_cannot_be_written(self):
        for program in self.programs():
            run = self.run_under(program, env={"MPROF_OUT": "/proc/no/such/folder"})
            self.assertEqual(run.stdout, "0 none\n0 none\n")


if __name__ == "__main__":
    harness.main()
