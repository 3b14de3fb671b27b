# SPDX-License-Identifier: Apache-2.0
"""A program of the distribution, with and without the library: same behaviour, and a profile."""

import harness

# The outermost function that has a name in a stripped program; which, depends on libc's symbols.
LIBC_START = ["__libc_start_main", "__libc_start_main_impl", "__libc_start_call_main", "_start"]


class RealProgram(harness.Case):
    # As a user has it.
    rate = 65536

    def check_profile(self, dump, functions):
        """Everything reads it without a complaint, and the functions are there."""
        for kind in ("heap", "allocs", "peak"):
            file = self.profile_file(dump, kind)
            self.assertIn("flat%", self.go_pprof("-top", file))
            self.assertIn("Mappings", self.go_pprof("-raw", file))
        profile = self.profile(dump, "allocs")
        self.assert_no_own_frames(profile)
        names = profile.names()
        missing = [f for f in functions if f not in names]
        self.assertEqual(missing, [], sorted(names)[:200])
        for name, value in profile.total().items():
            self.assertGreaterEqual(value, 0, name)
        self.assertGreater(profile.total()["alloc_space"], 1 << 20)
        self.check_reports(dump)

    def check_reports(self, dump):
        self.assertIn("flat", self.mprof_ok("top", dump).stdout)
        lost = self.info(dump).get("lost", {})
        self.assertEqual({why: count for why, count in lost.items() if count}, {})

    def check_complete_stacks(self, dump, outermost):
        """Nearly all stacks reach the outermost function: binaries here have no frame pointers.

        Those deeper than the limit say so, and count as followed.
        """
        profile = self.profile(dump, "allocs")
        ends = {*outermost, "[truncated]"}
        reached = sum(any(f.function in ends for f in s.frames) for s in profile.samples)
        self.assertGreater(reached, 0.95 * len(profile.samples), f"of {len(profile.samples)} stacks")


main = harness.main
