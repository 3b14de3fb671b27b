# SPDX-License-Identifier: Apache-2.0
"""Each way to unwind, on binaries with and without frame pointers."""

import harness


class Unwinding(harness.Case):
    def frames(self, program, unwind, recursion=30):
        under = self.run_under(harness.target(program), recursion, env={"MPROF_UNWIND": unwind})
        self.assertEqual((under.returncode, under.stderr), (0, ""), under)
        dump = self.only_dump()
        profile = self.profile(dump)
        dump.unlink()
        self.assert_no_own_frames(profile)
        sample = [s for s in profile.samples if s.values["alloc_space"] == 5000]
        self.assertEqual(len(sample), 1)
        return [frame.function for frame in sample[0].frames]

    def test_complete(self):
        wanted = ["deep_leaf"] + ["deep_step"] * 30 + ["main"]
        for program, unwind in (
            ("deep_fp", "auto"),
            ("deep_fp", "dwarf"),
            ("deep_fp", "fp"),
            ("deep_nofp", "auto"),
            ("deep_nofp", "dwarf"),
        ):
            with self.subTest(program=program, unwind=unwind):
                frames = self.frames(program, unwind)
                self.assertEqual(frames[: len(wanted)], wanted)
                if unwind != "fp":
                    self.assertEqual(frames[-1], "_start")

    def test_frame_pointers_that_are_not_there(self):
        """The stack is short, but starts right and nothing breaks."""
        self.assertEqual(self.frames("deep_nofp", "fp")[0], "deep_leaf")

    def test_very_deep(self):
        """Much deeper than what is kept."""
        self.assertEqual(self.frames("deep_nofp", "auto", 50000)[0], "deep_leaf")


if __name__ == "__main__":
    harness.main()
