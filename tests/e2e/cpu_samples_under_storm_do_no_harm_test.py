# SPDX-License-Identifier: Apache-2.0
"""1 kHz of CPU samples amid loaded libraries, exceptions, handlers, forks, short threads and sleeps.

A longer storm over more seeds:
    MPROF_STORM_SECONDS=60 MPROF_STORM_SEEDS=20 MPROF_BUILD=... python3 cpu_samples_under_storm_do_no_harm_test.py
"""

import os
import re

import harness

SECONDS = float(os.environ.get("MPROF_STORM_SECONDS", "4"))
SEEDS = int(os.environ.get("MPROF_STORM_SEEDS", "2"))


class CpuStorm(harness.Case):
    def test_nothing_is_interrupted_hangs_or_breaks(self):
        for seed in range(SEEDS):
            run = self.run_under(
                harness.target("cpu_storm"),
                SECONDS,
                seed,
                harness.TARGETS / "plugin_throw.so",
                rate=524288,
                env={"MPROF_CPU_HZ": "1000", "MPROF_UNWIND": ("auto", "fp", "dwarf")[seed % 3]},
                timeout=SECONDS + 120,
            )
            self.assertEqual((run.returncode, run.stderr), (0, ""), run)
            went_on = {name: int(n) for name, n in re.findall(r"(\w+) (\d+)", run.stdout)}
            for name in ("loads", "throws", "handled", "children", "threads", "sleeps"):
                self.assertGreater(went_on[name], 5 * SECONDS, f"seed {seed}: {name}")
            print(f"seed {seed}: {run.stdout.strip()}")


if __name__ == "__main__":
    harness.main()
