# SPDX-License-Identifier: Apache-2.0
"""Comments, period, mappings: a profile tells what was run, how it was sampled, what was lost."""

import harness


class Circumstances(harness.Case):
    def test_comments(self):
        self.run_under(harness.target("truth"), "3", rate=4096)
        profile = self.profile(self.only_dump())
        said = "\n".join(profile.comments)
        self.assertRegex(said, r"truth\S* 3")
        self.assertIn("4096", said)
        self.assertEqual(profile.period, 4096)
        self.assertEqual(
            profile.sample_types,
            [("alloc_objects", "count"), ("alloc_space", "bytes"),
             ("inuse_objects", "count"), ("inuse_space", "bytes")],
        )

    def test_first_mapping_is_the_program(self):
        self.run_under(harness.target("truth"))
        profile = self.profile(self.only_dump())
        self.assertTrue(profile.mapping_file(1).endswith("/truth"))

    def test_info(self):
        self.run_under(harness.target("truth"), "3")
        text = self.mprof_ok("info", self.only_dump()).stdout
        self.assertRegex(text, r"truth 3")
        for word in ("rate", "live", "lost", "thread"):
            self.assertRegex(text, rf"(?i){word}")


if __name__ == "__main__":
    harness.main()
