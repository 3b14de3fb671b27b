# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random instants under eight allocating threads: each dump is complete to the last call.

MPROF_TEST_KILLS=N makes it another number of kills.
"""

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import harness
import storm_truth

THREADS = 8
KILLS = int(os.environ.get("MPROF_TEST_KILLS", "2000"))


class Killed(harness.Case):
    def one_kill(self, number):
        folder = self.dir / str(number)
        folder.mkdir()
        counters = folder / "counters"
        process = subprocess.Popen(
            [harness.target("storm"), str(THREADS), str(counters)],
            env=harness.clean_environment(self.library_env(dump_dir=folder)),
            cwd=folder,
        )
        # From before the first thread to well into the growth of the dump.
        time.sleep(random.Random(number).uniform(0.002, 0.08))
        process.kill()
        process.wait()
        dumps = self.dumps(folder)
        if dumps:
            self.check(number, dumps[0], counters)
            dumps[0].unlink()
        return len(dumps)

    def check(self, number, dump, counters):
        if dump.stat().st_size == 0 or self.is_unfinished(dump):
            # Killed while the library set the dump up: no thread had begun.
            self.assertEqual(storm_truth.read(counters).allocs_begun, 0)
            return
        profile = self.profile(dump, options=["--symbols=names"])
        for sample in profile.samples:
            for name, value in sample.values.items():
                self.assertGreaterEqual(value, 0, (number, name, sample.frames[0]))
        found = profile.below("storm_allocates")
        truth = storm_truth.read(counters)
        allocs = found["alloc_objects"]
        frees = allocs - found["inuse_objects"]
        # Never more than began: nothing twice. Never less than began but for the one call that
        # each thread was in.
        self.assertLessEqual(allocs, truth.allocs_begun, number)
        self.assertGreaterEqual(allocs, truth.allocs_begun - THREADS, number)
        self.assertLessEqual(frees, truth.frees_begun, number)
        self.assertGreaterEqual(frees, truth.frees_begun - THREADS, number)
        self.assertLessEqual(found["alloc_space"], truth.bytes_begun, number)
        self.assertGreaterEqual(found["alloc_space"], truth.bytes_ended - THREADS * 2016, number)

    @staticmethod
    def is_unfinished(dump):
        """The first page is all zero until the dump can be read."""
        with dump.open("rb") as file:
            return not any(file.read(8))

    def test_kills(self):
        with ThreadPoolExecutor(2) as pool:
            dumps = sum(pool.map(self.one_kill, range(KILLS)))
        print(f"{KILLS} kills, {dumps} dumps")
        self.assertGreater(dumps, KILLS * 0.8, "nearly every process had a dump")


if __name__ == "__main__":
    harness.main()
