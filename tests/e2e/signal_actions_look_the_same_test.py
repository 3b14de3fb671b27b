# SPDX-License-Identifier: Apache-2.0
"""A program's view of its signals' actions, and its own handlers, are as without the library."""

import harness


class Actions(harness.Case):
    def check(self, env):
        program = harness.target("signal_actions")
        plain = self.run_plain(program)
        self.assertEqual((plain.returncode, plain.stderr), (0, ""), plain)
        self.assert_same_behaviour(plain, self.run_under(program, rate=524288, env=env))

    def test_without_a_cpu_profile(self):
        self.check({})

    def test_with_one(self):
        self.check({"MPROF_CPU_HZ": "1000"})

    def test_ignored_signals_interrupt_nothing(self):
        run = self.run_under(harness.target("ignored_signals"), 4, rate=524288, env={"MPROF_CPU_HZ": "10000"})
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)


if __name__ == "__main__":
    harness.main()
