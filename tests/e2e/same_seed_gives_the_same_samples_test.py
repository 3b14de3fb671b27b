# SPDX-License-Identifier: Apache-2.0
"""MPROF_SEED makes the sampling of a single thread repeatable, and different seeds differ."""

import harness


class Seed(harness.Case):
    def samples(self, seed, name):
        folder = self.dir / name
        folder.mkdir()
        self.run_under(
            harness.target("truth"), rate=4096, env={"MPROF_SEED": str(seed)}, dump_dir=folder
        )
        return self.profile(self.only_dump(folder)).total()

    def test_seeds(self):
        first, again, other = (
            self.samples(7, "first"),
            self.samples(7, "again"),
            self.samples(8, "other"),
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)


if __name__ == "__main__":
    harness.main()
