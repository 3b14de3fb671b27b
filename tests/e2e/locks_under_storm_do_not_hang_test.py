# SPDX-License-Identifier: Apache-2.0
"""64 threads on 1000 locks with deadlines, cancellation, signals and forks: no hang, nothing broken.

    MPROF_STORM_SECONDS=600 MPROF_BUILD=... python3 locks_under_storm_do_not_hang_test.py

divides that time among the seeds; without it they take some 12 seconds.
"""

import os

import harness
from lock_truth import contention_profiles

SECONDS = float(os.environ.get("MPROF_STORM_SECONDS", "12"))

SEEDS = {
    1: {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"},
    2: {},
    3: {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1", "MPROF_UNWIND": "fp"},
    4: {"MPROF_BLOCK_RATE": "0"},
    5: {"MPROF_MUTEX_FRACTION": "0"},
    6: {},
}

# All that the storm waits for, and surely does in its time.
WAITS = {"mutex", "rwlock read", "rwlock write", "cond", "cond relock", "semaphore", "join"}


class Storm(harness.Case):
    def check(self, seed):
        seconds = SECONDS / len(SEEDS)
        rate = 1 if seed % 2 else None
        run = self.run_under(
            harness.target("lock_storm"), seed, seconds, rate=rate, env=SEEDS[seed], timeout=seconds + 120
        )
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "ok\n", ""), run)
        # Of the children too, however they ended.
        infos = {dump: self.info(dump) for dump in self.dumps()}
        self.assertGreater(len(infos), 1)
        parent = max(infos, key=lambda dump: infos[dump]["end_realtime_ns"] - infos[dump]["start_realtime_ns"])
        profiles = contention_profiles(self, parent)
        for profile in profiles.values():
            self.assert_no_own_frames(profile)
        self.check_waits(profiles, SEEDS[seed])

    def check_waits(self, profiles, settings):
        block = {sample.labels["wait"] for sample in profiles["block"].samples}
        mutex = {sample.labels["wait"] for sample in profiles["mutex"].samples}
        self.assertEqual(WAITS - block, WAITS if settings.get("MPROF_BLOCK_RATE") == "0" else set())
        self.assertEqual("mutex" in mutex, settings.get("MPROF_MUTEX_FRACTION") != "0")

    def test_seeds(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                self.check(seed)
                for dump in self.dumps():
                    dump.unlink()


if __name__ == "__main__":
    harness.main()
