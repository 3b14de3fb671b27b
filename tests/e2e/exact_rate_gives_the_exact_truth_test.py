# SPDX-License-Identifier: Apache-2.0
"""At rate 1 every number of the profile is the program's own, site by site."""

import json

import harness

NAMES = {
    "alloc_objects": "alloc_objects",
    "alloc_bytes": "alloc_space",
    "inuse_objects": "inuse_objects",
    "inuse_bytes": "inuse_space",
}


class ExactRate(harness.Case):
    def check(self, threads, env=None):
        run = self.run_under(harness.target("truth"), threads, env=env)
        self.assertEqual(run.returncode, 0, run)
        truth = json.loads(run.stdout)["sites"]
        dump = self.only_dump()
        for kind in ("heap", "allocs"):
            profile = self.profile(dump, kind)
            for size, counts in truth.items():
                found = profile.below(f"truth::site<{size}ul>")
                wanted = {there: counts[here] for here, there in NAMES.items()}
                self.assertEqual(found, wanted, f"{kind}: site of {size} bytes")
            self.assert_no_own_frames(profile)
        self.check_peak(dump, truth)
        self.check_totals(dump, truth)

    def check_peak(self, dump, truth):
        peak = self.profile(dump, "peak")
        for size, counts in truth.items():
            found = peak.below(f"truth::site<{size}ul>")
            self.assertEqual(
                (found["inuse_objects"], found["inuse_space"]),
                (counts["peak_objects"], counts["peak_bytes"]),
                f"peak: site of {size} bytes",
            )

    def check_totals(self, dump, truth):
        """`mprof info` says the same as the profile, and that it is exact."""
        info = self.info(dump)
        whole = self.profile(dump).total()
        for here, there in NAMES.items():
            self.assertEqual(info["totals"][here]["value"], whole[there], here)
            self.assertEqual(info["totals"][here]["stderr"], 0, here)
            self.assertGreaterEqual(whole[there], sum(counts[here] for counts in truth.values()))

    def test_one_thread(self):
        self.check(0)

    def test_threads_that_free_each_others_blocks(self):
        self.check(8)

    def test_with_frame_pointers_only(self):
        # The stacks may be short, but the leaf and the numbers are the same.
        self.check(2, {"MPROF_UNWIND": "fp"})


if __name__ == "__main__":
    harness.main()
