# SPDX-License-Identifier: Apache-2.0
"""A program that blocks all signals for moments, thousands of times a second, is sampled whole.

While it does so it has no timer. One that began anew each time lost what had expired since the
kernel's last tick: up to a twentieth of the time where a library blocks signals in its own handler.
"""

import harness


class Masks(harness.Case):
    def test_all_of_the_time_is_there(self):
        run = self.run_under(harness.target("mask_changes"), rate=None, env={"MPROF_CPU_HZ": "500"})
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "done\n", ""), run)
        cpu = self.info(self.only_dump())["cpu"]
        self.assertAlmostEqual(cpu["sampled_ns"] / cpu["used_ns"], 1, delta=0.03, msg=cpu)
        self.assertGreater(self.profile(self.only_dump(), "cpu").below("computes")["cpu"], 0.95e9)


if __name__ == "__main__":
    harness.main()
