# SPDX-License-Identifier: Apache-2.0
"""Threads in every number and size, and in every way to begin and to end: targets/thread_ways.cc."""

import harmless
import harness


class Threads(harmless.Case):
    def check(self, what, **options):
        outcome = self.check_unchanged(harness.target("thread_ways"), what, **options)
        self.assertIn(outcome.status, (0, 6), outcome)
        return outcome.out.decode()

    def test_5000_at_once(self):
        """Each counts once; what of them has no room is lost, and counted.

        Of more than 256 that were on their way at once some counted twice: nothing was left to tell
        the new thread that its maker had seen it.
        """
        self.assertEqual(self.check("many_at_once"), "5000 threads\n")
        (dump,) = [dump for dump in self.dumps(self.dumps_folder) if harmless.DUMP.fullmatch(dump.name)]
        info = self.info(dump)
        self.assertEqual(info["threads_created"], 5001)
        self.assertEqual(info["lost"].get("no profbuf", 0), info["events"]["without_profbuf"])

    def test_20000_after_each_other(self):
        self.assertEqual(self.check("one_after_another"), "20000 threads\n")

    def test_smallest_stacks(self):
        """16 KiB for thread-local storage, frames, hooks and signals."""
        for _ in range(harmless.LONGER):
            self.assertEqual(self.check("smallest_stacks"), "200 threads, 0 wrong\n")

    def test_cancelled_anywhere(self):
        for _ in range(harmless.LONGER):
            self.assertEqual(self.check("cancelled"), "720 cancelled, mutex free: 0\n")

    def test_owners_of_robust_mutexes_die(self):
        self.assertIn("200 recovered", self.check("robust_mutexes"))

    def test_raw_clones(self):
        self.assertEqual(self.check("raw_clones"), "20 raw, 0 wrong\n")

    def test_first_thread_leaves(self):
        self.assertEqual(self.check("first_leaves"), "the last one\n")

    def test_thread_locals_are_destroyed(self):
        self.assertEqual(self.check("thread_locals").count("is gone"), 10)

    def test_exceptions_in_all_threads(self):
        for _ in range(harmless.LONGER):
            self.assertEqual(self.check("exceptions"), "12000 caught\n")


if __name__ == "__main__":
    harmless.main()
