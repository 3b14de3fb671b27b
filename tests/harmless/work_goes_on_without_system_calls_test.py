# SPDX-License-Identifier: Apache-2.0
"""Once it is warm, the library makes no system call of its own for what a program allocates and locks.

strace shows the calls of a thread that allocates and locks, between two marks that it sets. There
are none without the library, and must be none with it; but for the clock, which is asked once in
some hundred samples, and the return from the handler where CPU time is sampled.
"""

import re

import harmless
import harness

PROGRAM = harness.target("steady_work")
TURNS = 40000  # of the program, between its marks
FIRST, LAST = "close(-1001", "close(-1002"
CALL = re.compile(r"(\d+) +(\w+)\(")
WITHOUT_CPU = {name: value for name, value in harmless.EVERYTHING.items() if name != "MPROF_CPU_HZ"}


class Steady(harness.Case):
    def calls_between_marks(self, settings):
        """Names of the system calls of the thread that set the marks."""
        log = self.dir / "calls"
        environment = {} if settings is None else self.library_env(None, settings)
        # Only the program is to have the library, not strace.
        given = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
        run = self.run_plain("strace", "-f", "-o", log, *given, PROGRAM)
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "", ""), run)
        lines = log.read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if FIRST in line)
        last = next(i for i, line in enumerate(lines) if LAST in line)
        thread = lines[first].split()[0]
        between = [CALL.match(line) for line in lines[first + 1 : last]]
        return [found[2] for found in between if found and found[1] == thread]

    def test_none_without_the_library(self):
        """What the others are compared with."""
        self.assertEqual(self.calls_between_marks(None), [])

    def test_none_of_the_librarys_own(self):
        self.assertEqual(self.calls_between_marks({}), [])
        self.assertNotEqual(self.dumps(), [], "the library was not there")

    def test_only_the_clock_now_and_then(self):
        for settings in ({"MPROF_HEAP_RATE": "1"}, WITHOUT_CPU, {"MPROF_UNWIND": "dwarf", **WITHOUT_CPU}):
            with self.subTest(settings):
                found = self.calls_between_marks(settings)
                self.assertLessEqual(set(found), {"clock_gettime"})
                self.assertLessEqual(len(found), TURNS / 256)

    def test_only_the_return_from_samples_too(self):
        found = self.calls_between_marks(harmless.EVERYTHING)
        self.assertLessEqual(set(found), {"clock_gettime", "rt_sigreturn"})


if __name__ == "__main__":
    harness.main()
