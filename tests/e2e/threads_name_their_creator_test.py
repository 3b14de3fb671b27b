# SPDX-License-Identifier: Apache-2.0
"""The threadcreate profile: each thread once, below the function that created it, and what it runs."""

import harness
from lock_truth import on_stack

BEFORE = "[before mprof]"


class Creators(harness.Case):
    def run_it(self, env=None):
        plain = self.run_plain(harness.target("thread_starts"))
        under = self.run_under(harness.target("thread_starts"), env=env)
        self.assertEqual(plain.returncode, 0, plain)
        self.assert_same_behaviour(plain, under)
        lines = [line.split("\t") for line in plain.stdout.splitlines()]
        return [(site, int(count), start) for site, count, start in lines], self.only_dump()

    def check(self, env=None):
        truth, dump = self.run_it(env)
        profile = self.profile(dump, "threadcreate")
        self.assertEqual(profile.sample_types, [("threadcreate", "count")])
        for site, count, start in truth:
            with self.subTest(site):
                # A creator's own thread is below it, and not its creation.
                mine = [s for s in profile.samples if on_stack(s, site)]
                self.assertEqual(sum(s.values["threadcreate"] for s in mine), count, mine)
                for sample in mine:
                    self.assertRegex(sample.labels["start"], start)
        self.check_before(profile)
        self.assertEqual(profile.total()["threadcreate"], sum(count for _, count, _ in truth) + 1)
        self.assert_no_own_frames(profile)

    def check_before(self, profile):
        before = [s for s in profile.samples if [f.function for f in s.frames] == [BEFORE]]
        self.assertEqual([s.values for s in before], [{"threadcreate": 1}])

    def test_every_way_to_create_one(self):
        self.check()

    def test_counted_whatever_else_is_off(self):
        self.check({"MPROF_HEAP_RATE": "0", "MPROF_BLOCK_RATE": "0", "MPROF_MUTEX_FRACTION": "0"})

    def test_creators_are_on_the_leaf_side(self):
        """libstdc++'s own frames may be above the program's function, nothing else of the program."""
        _, dump = self.run_it()
        for sample in self.profile(dump, "threadcreate").samples:
            program = [f.function for f in sample.frames if f.mapping.endswith("/thread_starts")]
            if program:
                above = [f for f in program[: program.index(self.creator_of(program))] if "std::" not in f]
                self.assertEqual(above, [], sample)

    def creator_of(self, names):
        return next(name for name in names if name.startswith("create_"))


if __name__ == "__main__":
    harness.main()
