# SPDX-License-Identifier: Apache-2.0
"""MPROF_MMAP=1: anonymous mappings are counted by range; without it they are not."""

import harness

MIB = 1 << 20


class Mmap(harness.Case):
    def test_on(self):
        run = self.run_under(harness.target("mapped"), env={"MPROF_MMAP": "1"})
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        profile = self.profile(self.only_dump())
        for function, allocated, live in (
            ("maps_and_keeps", 3, 3),
            ("maps_and_unmaps", 5, 0),
            ("maps_and_cuts", 8, 6),
        ):
            with self.subTest(function):
                found = profile.below(function)
                self.assertEqual(found["alloc_space"], allocated * MIB)
                self.assertEqual(found["inuse_space"], live * MIB)
        self.assertEqual(profile.below("maps_and_remaps")["inuse_space"], 16 * MIB)

    def test_off(self):
        self.run_under(harness.target("mapped"))
        profile = self.profile(self.only_dump())
        self.assertEqual(profile.below("maps_and_keeps")["alloc_space"], 0)


if __name__ == "__main__":
    harness.main()
