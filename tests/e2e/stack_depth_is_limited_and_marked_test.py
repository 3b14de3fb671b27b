# SPDX-License-Identifier: Apache-2.0
"""MPROF_STACK_DEPTH keeps that many frames of the leaf side, and a cut is visible."""

import harness


class Depth(harness.Case):
    def frames(self, recursion, limit, program="deep_nofp"):
        env = {"MPROF_STACK_DEPTH": str(limit)} if limit else {}
        under = self.run_under(harness.target(program), recursion, env=env)
        self.assertEqual((under.returncode, under.stderr), (0, ""), under)
        dump = self.only_dump()
        profile = self.profile(dump)
        info = self.info(dump)
        dump.unlink()
        sample = [s for s in profile.samples if s.frames[0].function == "deep_leaf"]
        self.assertEqual(len(sample), 1, profile.names())
        self.assert_no_own_frames(profile)
        return [frame.function for frame in sample[0].frames], info

    def check_cut(self, limit, program):
        frames, info = self.frames(1000, limit, program)
        kept = limit or 64
        self.assertEqual(frames[-1], "[truncated]")
        self.assertEqual(frames[:-1], (["deep_leaf"] + ["deep_step"] * 999)[:kept])
        self.assertGreaterEqual(info["stacks_truncated"], 1)

    def test_limits(self):
        for program in ("deep_nofp", "deep_fp"):
            for limit in (1, 2, 64, 256, None):
                with self.subTest(program=program, limit=limit):
                    self.check_cut(limit, program)

    def test_what_fits_is_whole(self):
        frames, info = self.frames(20, 64)
        self.assertEqual(frames[:22], ["deep_leaf"] + ["deep_step"] * 20 + ["main"])
        self.assertNotIn("[truncated]", frames)
        self.assertEqual(info["stacks_truncated"], 0)


if __name__ == "__main__":
    harness.main()
