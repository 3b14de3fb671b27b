# SPDX-License-Identifier: Apache-2.0
"""Programs that are written against mprof.h, in each language it is for."""

import os
from pathlib import Path

import harness

HEADERS = Path(os.environ["MPROF_SOURCE"]) / "preload"

COMPILERS = [
    ("cc", "c", ["-std=c99", "-D_POSIX_C_SOURCE=200809L"]),
    ("c++", "cc", ["-std=c++11"]),
]
LINKING = [["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


class Case(harness.Case):
    def compile(self, source_text, compiler, suffix, options, name="ask"):
        source = self.dir / f"{name}.{suffix}"
        source.write_text(source_text)
        program = self.dir / name
        run = self.run_plain(
            compiler, *options, *WARNINGS, f"-I{HEADERS}", source, "-o", program, "-pthread"
        )
        self.assertEqual(run.returncode, 0, run)
        return program

    def programs(self, source_text):
        """It compiled in every way, each in a subtest."""
        for compiler, suffix, standard in COMPILERS:
            for linking in LINKING:
                for level in ["-O0", "-O2"]:
                    with self.subTest(compiler=compiler, linking=linking, level=level):
                        yield self.compile(source_text, compiler, suffix, [*standard, *linking, level])


# The end of a program with a function ask().
ASK_TWICE = """
int main(void) {
  ask();
  if (fork() == 0) {
    ask();
    _exit(0);
  }
  wait(0);
  return 0;
}
"""


class Answers(Case):
    """A program that prints what each function answers, once itself and once in a child."""

    program_text = ""
    without = ""  # what each prints where nothing records

    def programs(self):
        return super().programs(self.program_text)

    def test_without_the_library(self):
        for program in self.programs():
            run = self.run_plain(program)
            self.assertEqual((run.returncode, run.stdout, run.stderr), (0, self.without * 2, ""))

    def test_where_it_does_not_record(self):
        for program in self.programs():
            run = self.run_under(program, env={"MPROF_SKIP": "ask"})
            self.assertEqual(run.stdout, self.without * 2)
