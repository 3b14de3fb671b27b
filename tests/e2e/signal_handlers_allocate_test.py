# SPDX-License-Identifier: Apache-2.0
"""Signal handlers that allocate while malloc itself is interrupted: no deadlock, nothing lost silently."""

import harness


class Handlers(harness.Case):
    def check(self, env=None):
        program = harness.target("signals")
        under = self.run_under(program, env=env, timeout=60)
        self.assertEqual((under.returncode, under.stdout, under.stderr), (0, "handled 3000\n", ""), under)
        dump = self.only_dump()
        found = self.profile(dump).below("from_handler")
        # One that interrupted the library itself is not sampled, but counted.
        lost = sum(self.info(dump)["lost"].values())
        self.assertLessEqual(found["alloc_objects"], 3000)
        self.assertGreaterEqual(found["alloc_objects"] + lost, 3000)
        self.assertEqual(found["alloc_space"], found["alloc_objects"] * (4 << 20))
        self.assertGreaterEqual(found["inuse_objects"], 0)
        self.assertLessEqual(found["inuse_objects"], lost)

    def test_unwind_tables(self):
        self.check({"MPROF_UNWIND": "auto"})

    def test_frame_pointers(self):
        self.check({"MPROF_UNWIND": "fp"})


if __name__ == "__main__":
    harness.main()
