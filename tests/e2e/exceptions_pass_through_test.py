# SPDX-License-Identifier: Apache-2.0
"""C++ exceptions thrown through profiled frames, in threads, at every rate and unwinder."""

import harness


class Exceptions(harness.Case):
    def test_settings(self):
        program = harness.target("throwing")
        plain = self.run_plain(program)
        self.assertEqual(plain.stdout, "caught 800 destroyed 24800\n")
        for rate in (1, 10000, 0):
            for unwind in ("auto", "dwarf", "fp"):
                with self.subTest(rate=rate, unwind=unwind):
                    self.assert_same_behaviour(
                        plain, self.run_under(program, rate=rate, env={"MPROF_UNWIND": unwind})
                    )

    def test_counts(self):
        self.run_under(harness.target("throwing"))
        found = self.profile(self.only_dump()).below("descend")
        # 24,800 arrays of Counted, all freed; the exceptions and their texts come on top.
        self.assertGreaterEqual(found["alloc_objects"], 24800 + 800 * 2)
        self.assertEqual((found["inuse_objects"], found["inuse_space"]), (0, 0))


if __name__ == "__main__":
    harness.main()
