# SPDX-License-Identifier: Apache-2.0
"""One thread allocates, another frees, snapshots are taken all the time: each is one instant."""

import time

import harness


class Snapshots(harness.Case):
    SECONDS = 5

    def check(self, profile):
        first, second = profile.below("first_of_pair"), profile.below("second_of_pair")
        for name, value in {**first, **second}.items():
            self.assertGreaterEqual(value, 0, name)
        for sample in profile.samples:
            for name, value in sample.values.items():
                self.assertGreaterEqual(value, 0, (name, sample.frames[0]))
        # The giver allocates first, then second; the taker frees second, then first.
        self.assertIn(first["alloc_objects"] - second["alloc_objects"], (0, 1))
        freed = [p["alloc_objects"] - p["inuse_objects"] for p in (first, second)]
        self.assertIn(freed[1] - freed[0], (0, 1))
        self.assertLessEqual(first["inuse_objects"], 65)
        self.assertEqual(first["inuse_space"], 300 * first["inuse_objects"])
        self.assertEqual(second["inuse_space"], 600 * second["inuse_objects"])
        return first["alloc_objects"]

    def snapshots(self, process, argument):
        seen = []
        while process.poll() is None:
            run = self.mprof("pprof", argument, "-p", "heap", "-o", self.dir / "out", "--symbols=names")
            if process.poll() is not None:
                break
            self.assertEqual(run.returncode, 0, run)
            (file,) = (self.dir / "out").glob("*.heap.pb.gz")
            seen.append(self.check(harness.Profile(file)))
            file.unlink()
            time.sleep(0.005)
        return seen

    def run_target(self, by_pid):
        (self.dir / "out").mkdir(exist_ok=True)
        process = self.start_under(harness.target("handover"), self.SECONDS)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        time.sleep(0.1)
        seen = self.snapshots(process, process.pid if by_pid else dump)
        self.assertEqual(process.wait(), 0)
        self.assertGreater(len(seen), 5)
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(seen[-1], seen[0])
        return dump

    def test_by_file(self):
        dump = self.run_target(by_pid=False)
        end = self.profile(dump)
        self.check(end)
        for function in ("first_of_pair", "second_of_pair"):
            found = end.below(function)
            self.assertEqual((found["inuse_objects"], found["inuse_space"]), (0, 0))

    def test_by_pid(self):
        self.run_target(by_pid=True)


if __name__ == "__main__":
    harness.main()
