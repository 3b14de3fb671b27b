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


if __name__ == "__main__":
    harness.main()
