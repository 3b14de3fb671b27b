# SPDX-License-Identifier: Apache-2.0
"""Static programs and such with an allocator of their own run as they do without the library."""

import harness


class Unprofiled(harness.Case):
    def test_unchanged(self):
        for program in ("static_program", "own_malloc"):
            with self.subTest(program):
                plain, under = self.run_plain(harness.target(program)), self.run_under(harness.target(program))
                self.assertEqual(plain.returncode, 0, plain)
                self.assert_same_behaviour(plain, under)

    def test_rate_zero_samples_nothing(self):
        run = self.run_under(harness.target("truth"), rate=0)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        for dump in self.dumps():
            self.assertEqual(sum(self.profile(dump).total().values()), 0)

    def test_only_and_skip(self):
        for env, profiled in (
            ({"MPROF_ONLY": "truth"}, True),
            ({"MPROF_ONLY": "other,truth"}, True),
            ({"MPROF_ONLY": "other"}, False),
            ({"MPROF_SKIP": "truth"}, False),
            ({"MPROF_SKIP": "other"}, True),
        ):
            with self.subTest(env):
                run = self.run_under(harness.target("truth"), env=env)
                self.assertEqual((run.returncode, run.stderr), (0, ""), run)
                self.assertEqual(bool(self.dumps()), profiled)
                for dump in self.dumps():
                    dump.unlink()


if __name__ == "__main__":
    harness.main()
