# SPDX-License-Identifier: Apache-2.0
"""Libraries loaded one after the other at the same address each keep their own names."""

import harness


class Reload(harness.Case):
    def test_same_address(self):
        plugins = [harness.target(f"reload_{name}.so") for name in ("alpha", "bravo", "alpha")]
        run = self.run_under(harness.target("reload_host"), *plugins)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        addresses = run.stdout.split()
        self.assertEqual(len(set(addresses)), 1, "the loader did not reuse the address")
        profile = self.profile(self.only_dump())
        self.assert_site(profile, "alpha_site", 2, 3000, 2, 3000)
        self.assert_site(profile, "bravo_site", 1, 2500, 1, 2500)
        files = {f.mapping.split("/")[-1] for s in profile.samples for f in s.frames if "_site" in f.function}
        self.assertEqual(files, {"reload_alpha.so", "reload_bravo.so"})
        self.go_pprof("-raw", self.profile_file(self.only_dump()))


if __name__ == "__main__":
    harness.main()
