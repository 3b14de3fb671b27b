# SPDX-License-Identifier: Apache-2.0
"""A program that reads SIGURG by signalfd, and so blocks it, has CPU samples.

PostgreSQL's processes do so: none of them had a sample while mprof stayed with that signal.
"""

import harness


class Readers(harness.Case):
    def test_parent_and_child(self):
        program = harness.target("reads_signals")
        plain = self.run_plain(program)
        self.assertEqual((plain.returncode, plain.stderr), (0, ""), plain)
        self.assert_same_behaviour(plain, self.run_under(program, env={"MPROF_CPU_HZ": "200"}))
        dumps = self.dumps()
        self.assertEqual(len(dumps), 2, dumps)
        for dump in dumps:
            profile = self.profile(dump, "cpu")
            sampled = profile.below("computes")["cpu"] / 1e9
            self.assertTrue(0.3 < sampled < 0.5, f"{dump.name}: {sampled} s of 0.4")


if __name__ == "__main__":
    harness.main()
