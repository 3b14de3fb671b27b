# SPDX-License-Identifier: Apache-2.0
"""Signals in every way that a program may have to do with them: targets/signal_storms.c."""

import harmless
import harness


class Signals(harmless.Case):
    def check(self, what):
        for _ in range(harmless.LONGER):
            outcome = self.check_unchanged(harness.target("signal_storms"), what)
            self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)
        return outcome.out.decode()

    def test_queues_and_timers(self):
        self.assertEqual(self.check("queues"), "queued: 10000 came, 0 out of order\n")
        self.check("fast_timers")

    def test_children_end(self):
        self.assertEqual(self.check("children"), "children: 200, wrong 0, then -1 No child processes\n")

    def test_handlers_in_handlers(self):
        self.assertEqual(self.check("nested"), "nested: 6000, 60 deep\n")

    def test_every_signal_is_taken_from_a_queue(self):
        """A thread that blocked all signals got those of its CPU timer all the same.

        They stayed pending: a signalfd gave them to the program, and sigpending() named them.
        The timer of such a thread is stopped now before it blocks them.
        """
        for how in ("signalfd", "sigwait", "sigwaitinfo"):
            self.assertEqual(self.check(how), "300 came, 0 strangers\n", how)
        self.assertEqual(self.check("blocked"), "pending: 12\n")

    def test_masks_and_storms(self):
        self.assertEqual(self.check("masks"), "masks: wrong 0\n")

    def test_profiler_of_its_own(self):
        self.assertEqual(self.check("own_profiler"), "own profiler: wrong 0\n")

    def test_handlers_told_to_the_kernel(self):
        self.assertEqual(self.check("raw_actions"), "raw: all came\n")


if __name__ == "__main__":
    harmless.main()
