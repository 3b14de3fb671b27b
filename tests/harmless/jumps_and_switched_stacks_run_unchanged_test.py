# SPDX-License-Identifier: Apache-2.0
"""Jumps, fibers, alternate stacks, deep and large frames, code without tables: targets/jumps.c."""

import harmless
import harness


class Jumps(harmless.Case):
    def check(self, what):
        for _ in range(harmless.LONGER):
            outcome = self.check_unchanged(harness.target("jumps"), what)
            self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)
        return outcome.out.decode()

    def test_out_of_handlers(self):
        self.assertEqual(self.check("alarms"), "alarms: 200\n")
        self.assertEqual(self.check("guard_pages"), "guard pages: 20000\n")
        self.assertEqual(self.check("write_barriers"), "write barriers: 6400\n")

    def test_setjmp_as_exceptions(self):
        self.assertEqual(self.check("setjmp_stacks"), "setjmp stacks: 3000\n")

    def test_fibers_go_from_thread_to_thread(self):
        self.check("migrating_fibers")

    def test_small_signal_stacks(self):
        """CPU samples came on any alternate stack of the program's.

        One that had no room for the kernel's frame killed the program, although it never used that
        stack; on one of 4 KiB the handler wrote over what lies below; and one of 8 KiB was too
        small where a handler of the program's was on it already. Such threads are left alone now,
        and handlers on alternate stacks block mprof's signal.
        """
        out = self.check("small_signal_stacks")
        self.assertEqual(out.count("intact below, as set"), 6, out)
        self.assertNotIn("blocks", out)

    def test_stack_overflow_is_noticed(self):
        self.assertEqual(self.check("stack_overflow"), "overflows: 40\n")

    def test_deep_and_large_frames(self):
        self.check("deep")

    def test_generated_code(self):
        self.check("generated_code")


if __name__ == "__main__":
    harmless.main()
