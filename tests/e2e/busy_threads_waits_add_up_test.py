# SPDX-License-Identifier: Apache-2.0
"""Threads that do nothing but wait for each other record few of their waits, and the sum is right."""

import harness
from lock_truth import contention_profiles
from pprof import is_function

TOLERANCE = 0.08  # of two threads on a busy machine some 2,000 waits are recorded


class BusyThreads(harness.Case):
    def check(self, threads, milliseconds):
        run = self.run_under(harness.target("hand_around"), str(threads), str(milliseconds))
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        truth_ns = int(run.stdout)
        block = contention_profiles(self, self.only_dump(), ["block"])["block"]
        waits = [
            sample
            for sample in block.samples
            if is_function(sample.frames[0].function, "wait_for_turn")
        ]
        self.assertEqual({sample.labels["wait"] for sample in waits}, {"semaphore"})
        delay_ns = sum(sample.values["delay"] for sample in waits)
        self.assertAlmostEqual(delay_ns / truth_ns, 1, delta=TOLERANCE)

    def test_two_that_wait_some_microseconds_each(self):
        self.check(2, 2000)

    def test_sixty_four_that_wait_longer_than_the_rate(self):
        self.check(64, 2000)


if __name__ == "__main__":
    harness.main()
