# SPDX-License-Identifier: Apache-2.0
"""makecontext fibers and signal handlers on an alternate stack: right results, right stacks."""

import harness


class SwitchedStacks(harness.Case):
    def check(self, unwind):
        program = harness.target("fibers")
        plain, under = self.run_plain(program), self.run_under(program, env={"MPROF_UNWIND": unwind})
        self.assertEqual(plain.stdout, "turns 2000\n")
        self.assert_same_behaviour(plain, under)
        profile = self.profile(self.only_dump())
        self.assert_site(profile, "fiber_allocates", 2000, 2000 * 6000, 0, 0)
        self.assert_site(profile, "handler_allocates", 10, 10 * 7000, 10, 10 * 7000)
        return profile

    def test_unwind_tables(self):
        profile = self.check("auto")
        self.assertEqual(profile.below("fiber_body")["alloc_objects"], 2000)
        # Through the signal frame, back on the ordinary stack.
        through = [s for s in profile.samples if s.frames[0].function == "handler_allocates"]
        names = [frame.function for frame in through[0].frames]
        self.assertIn("on_signal", names)
        self.assertIn("main", names)

    def test_frame_pointers(self):
        self.check("fp")


if __name__ == "__main__":
    harness.main()
