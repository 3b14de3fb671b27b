# SPDX-License-Identifier: Apache-2.0
"""What each function that may block in the kernel answers is the same with the library, traced or not, bad arguments included."""

import harness

PROGRAMS = ["call_results", "call_results_fortified"]
# What a fortified program calls instead.
CHECKED = {
    "__open_2",
    "__open64_2",
    "__openat_2",
    "__openat64_2",
    "__pread_chk",
    "__pread64_chk",
    "__read_chk",
    "__recv_chk",
    "__recvfrom_chk",
}


class Results(harness.Case):
    def check(self, env, rate=None):
        for name in PROGRAMS:
            with self.subTest(program=name):
                program = harness.target(name)
                plain = self.run_plain(program)
                under = self.run_under(program, rate=rate, env=env)
                self.assertEqual(plain.returncode, 0, plain)
                cases, answers = plain.stdout.splitlines(), under.stdout.splitlines()
                self.assertGreater(len(cases), 650)
                for number, (wanted, found) in enumerate(zip(cases, answers), 1):
                    self.assertEqual(found, wanted, f"line {number}, after {cases[max(0, number - 4):number - 1]}")
                self.assert_same_behaviour(plain, under)

    def test_not_traced(self):
        self.check({})

    def test_traced(self):
        self.check({"MPROF_TRACE": "1"})

    def test_traced_with_everything_else(self):
        self.check({"MPROF_TRACE": "1", "MPROF_CPU_HZ": "1000", "MPROF_BLOCK_RATE": "1"}, rate=1)

    def test_fortified_program_calls_the_checked_functions(self):
        symbols = self.run_plain("nm", "-D", "--undefined-only", harness.target("call_results_fortified")).stdout
        called = {line.split()[-1].partition("@")[0] for line in symbols.splitlines()}
        self.assertLessEqual(CHECKED, called)


if __name__ == "__main__":
    harness.main()
