# SPDX-License-Identifier: Apache-2.0
"""The drainer is killed, stopped and started again while the program runs: no gap, no duplicate."""

import time

import drainers
import harness
import storm_truth


class Drainer(drainers.Case):
    SECONDS = 6

    def check_events(self, dump, counters):
        """Delivered + dropped = produced, in the words of the program and of the buckets."""
        info = self.info(dump)
        events, truth = info["events"], storm_truth.read(counters)
        self.assertEqual(events["delivered"] + events["dropped"], events["produced"], events)
        self.assertEqual((events["gaps"], events["damaged"]), (0, 0), events)
        allocs = self.profile(dump, "allocs")
        whole = allocs.total()
        # An allocation for which a thread would have had to wait is in the profile as lost, and no event.
        lost = sum(s.values["alloc_objects"] for s in allocs.samples if s.frames[0].function.startswith("[lost: "))
        calls = 2 * (whole["alloc_objects"] - lost) - whole["inuse_objects"]
        counted = sum(info[kind]["samples"] for kind in ("block", "mutex")) + info["threads_created"] - 1
        self.assertEqual(events["produced"], calls + counted)
        self.assertGreaterEqual(whole["alloc_objects"], truth.allocs_ended)
        return events

    def test_disturbed(self):
        counters = self.dir / "counters"
        target = self.start_under(harness.target("storm"), 8, counters, self.SECONDS)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        drains = self.disturb(target, dump, seed=5)
        self.assertEqual(target.wait(), 0)
        self.assertGreater(drains, 10)
        self.mprof_ok("drain", dump)
        events = self.check_events(dump, counters)
        print(f"{drains} drainers: {events}")
        # The same once more finds nothing new.
        self.mprof_ok("drain", dump)
        self.assertEqual(self.check_events(dump, counters), events)

    def test_target_killed_too(self):
        counters = self.dir / "counters"
        target = self.start_under(harness.target("storm"), 8, counters)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        drainer = self.drain(dump)
        time.sleep(1)
        target.kill()
        target.wait()
        self.assertEqual(drainer.wait(timeout=30), 0)
        events = self.info(dump)["events"]
        self.assertEqual((events["gaps"], events["damaged"]), (0, 0), events)
        # Each of the eight threads may have been between its bucket and its ring.
        difference = events["produced"] - events["delivered"] - events["dropped"]
        self.assertTrue(-8 <= difference <= 8, events)

    def test_never_drained_until_the_end(self):
        counters = self.dir / "counters"
        self.run_under(harness.target("storm"), 4, counters, "0.5")
        dump = self.only_dump()
        self.mprof_ok("drain", dump)
        events = self.check_events(dump, counters)
        self.assertGreater(events["delivered"], 0)


if __name__ == "__main__":
    harness.main()
