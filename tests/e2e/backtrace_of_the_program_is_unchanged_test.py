# SPDX-License-Identifier: Apache-2.0
"""backtrace() called by the program is still the C library's, with the same frames."""

import harness


class Backtrace(harness.Case):
    def test_backtrace(self):
        program = harness.target("backtraces")
        plain = self.run_plain(program)
        self.assertIn("print_backtrace", plain.stdout)
        self.assertRegex(plain.stdout, r"backtrace is in \S*/libc\.so\.6")
        for unwind in ("auto", "dwarf", "fp"):
            with self.subTest(unwind):
                self.assert_same_behaviour(
                    plain, self.run_under(program, env={"MPROF_UNWIND": unwind})
                )


if __name__ == "__main__":
    harness.main()
