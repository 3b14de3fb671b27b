# SPDX-License-Identifier: Apache-2.0
"""At 512 KiB, over 200 seeded runs, the estimates have no bias and their standard errors are true."""

import json
import statistics
from concurrent.futures import ThreadPoolExecutor

import harness

RUNS = 200
FIRST_SEED = 1000
QUANTITIES = ("alloc_objects", "alloc_bytes", "inuse_objects", "inuse_bytes")


class Accuracy(harness.Case):
    def one_run(self, seed):
        folder = self.dir / str(seed)
        folder.mkdir()
        run = self.run_under(
            harness.target("volume"), rate=524288, env={"MPROF_SEED": str(seed)}, dump_dir=folder
        )
        self.assertEqual(run.returncode, 0, run)
        truth = json.loads(run.stdout)["sites"]
        dump = self.only_dump(folder)
        totals = self.info(dump)["totals"]
        dump.unlink()
        return truth, totals

    def test_200_runs(self):
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(self.one_run, range(FIRST_SEED, FIRST_SEED + RUNS)))
        for quantity in QUANTITIES:
            with self.subTest(quantity):
                self.check(quantity, results)

    def check(self, quantity, results):
        errors, inside = [], 0
        for truth, totals in results:
            true_value = sum(site[quantity] for site in truth.values())
            estimate, stderr = totals[quantity]["value"], totals[quantity]["stderr"]
            errors.append(estimate / true_value - 1)
            inside += abs(estimate - true_value) <= 2 * stderr
        mean, spread = statistics.mean(errors), statistics.stdev(errors)
        print(f"{quantity}: mean error {mean:+.3%}, spread {spread:.2%}, in two stderr {inside}/{RUNS}")
        self.assertLess(abs(mean), 0.01, "mean error")
        self.assertGreaterEqual(inside, 0.94 * RUNS, "runs with the truth inside two standard errors")
        # Two runs that are told apart by nothing would prove nothing.
        self.assertGreater(spread, 0.001)


if __name__ == "__main__":
    harness.main()
