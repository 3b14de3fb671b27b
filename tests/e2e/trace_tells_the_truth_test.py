# SPDX-License-Identifier: Apache-2.0
"""Waits of each cause: as long as the program measured them, and ended by whom it says."""

import json
from collections import Counter

import go_trace
import harness
import traced

# Of what the program measured itself; see tests/targets/trace_truth.cc.
SLACK = 0.05
BLOCKS = {
    "mutex": {"GoBlockSync"},
    "mutex that stays locked": {"GoBlockSync"},
    "rwlock read": {"GoBlockSync"},
    "rwlock write": {"GoBlockSync"},
    "cond": {"GoBlockCond"},
    "cond relock": {"GoBlockCond", "GoBlockSync"},
    "semaphore": {"GoBlockCond"},
    "barrier": {"GoBlockCond"},
    "join": {"GoBlockCond"},
    "sleep": {"GoSleep"},
    "poll": {"GoBlockNet"},
    "select": {"GoBlockNet"},
    "epoll": {"GoBlockNet"},
    "recv": {"GoBlockNet"},
    "accept": {"GoBlockNet"},
}


class Truth(traced.Traced):
    """One run for all of them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = None

    def setUp(self):
        super().setUp()
        if Truth.made is None:
            Truth.made = self.make()
        self.truth, self.trace, self.profiles = Truth.made

    def make(self):
        run = self.run_traced(harness.target("trace_truth"), options=["-p", "trace", "--heap-rate", "4096"])
        self.assertEqual(run.returncode, 0, run)
        truth = json.loads(run.stdout)
        truth["waits"].pop()
        dump = self.only_dump()
        trace = self.convert(dump)
        return truth, self.accepted_events(trace), {kind: go_trace.profile(trace, kind) for kind in go_trace.PROFILES}

    def assert_about(self, found_ns, truth):
        self.assertGreater(found_ns, truth["least_ns"] * (1 - SLACK), truth)
        self.assertLess(found_ns, truth["most_ns"] * (1 + SLACK), truth)

    def waits_of(self, truth):
        return [w for w in self.trace.waits() if any(f.function == truth["waiter"] for f in w.frames)]

    def test_delays_of_each_profile(self):
        for truth in self.truth["waits"]:
            for kind in ("net", "sync", "syscall"):
                with self.subTest(truth["cause"], profile=kind):
                    found = self.profiles[kind].below(truth["waiter"])
                    if kind == truth["profile"]:
                        self.assert_about(found["delay"], truth)
                        self.assertGreaterEqual(found["contentions"], truth["rounds"])
                    else:  # nothing but what is short
                        self.assertLess(found.get("delay", 0), truth["least_ns"] * SLACK)

    def test_each_wait_is_an_event_of_its_kind(self):
        for truth in self.truth["waits"]:
            if truth["cause"] not in BLOCKS:
                continue
            with self.subTest(truth["cause"]):
                waits = self.waits_of(truth)
                self.assertEqual({w.name for w in waits}, BLOCKS[truth["cause"]])
                self.assert_about(sum(w.end - w.begin for w in waits), truth)

    def test_who_ended_it(self):
        for truth in self.truth["waits"]:
            if truth["profile"] == "syscall":
                continue
            with self.subTest(truth["cause"]):
                long = [w for w in self.waits_of(truth) if w.end - w.begin > 1e8]
                self.assertEqual(len(long), truth["rounds"] * max(1, len(truth["releasers"])))
                for wait in long:
                    self.assert_ended_by(wait, truth)

    def assert_ended_by(self, wait, truth):
        functions = [f.function for f in wait.waker_frames]
        if truth["releasers"]:
            self.assertNotEqual(wait.waker, 0, wait)
            self.assertTrue(set(truth["releasers"]) & set(functions), wait)
        elif truth["cause"] == "join":
            self.assertNotIn(wait.waker, (0, wait.g), wait)
        else:  # a timer, or data
            self.assertEqual(wait.waker, 0, wait)

    def test_tasks_regions_and_logs(self):
        (created,), (ended,) = self.trace.named("UserTaskCreate"), self.trace.named("UserTaskEnd")
        task, parent, name = created.values
        self.assertEqual((self.trace.strings[name], parent, ended.values), ("a task", 0, [task]))
        self.assert_about(ended.ns - created.ns, self.truth["task"])
        regions = self.trace.below("UserRegion", "work_for_task")
        begins = {event.g: event for event in regions if event.values[1] == 0}
        ends = {event.g: event for event in self.trace.named("UserRegion") if event.values[1] == 1}
        self.assertEqual((len(begins), begins.keys()), (2, ends.keys()))
        for event in begins.values():
            self.assertEqual((event.values[0], self.trace.strings[event.values[2]]), (task, "a part of it"))
        self.assert_about(sum(ends[g].ns - begins[g].ns for g in begins), self.truth["region"])
        logs = self.trace.below("UserLog", "work_for_task")
        said = [(event.g, event.values[0], self.trace.strings[event.values[1]], event.text) for event in logs]
        self.assertEqual(sorted(said), sorted((g, task, "progress", "nearly done") for g in begins))

    def test_yields(self):
        self.assertEqual(len(self.trace.below("GoSched", "give_way")), self.truth["yields"])

    def test_threads_are_made_and_end(self):
        made = self.trace.below("GoCreate", "make_threads")
        self.assertEqual(len(made), self.truth["threads"])
        ended = {event.g for event in self.trace.named("GoEnd")}
        for event in made:
            number, start = event.values
            self.assertRegex(self.trace.frames(start)[0].function, r"\Alive_shortly \[\d+\]\Z")
            self.assertIn(number, ended)

    def test_a_thread_that_waits_for_a_core_is_runnable(self):
        found = self.profiles["sched"].below("make_late_starter")
        self.assert_about(found["delay"], self.truth["late"])

    def test_the_heap_grows(self):
        grown = self.trace.below("MarkAssistStart", "grow_heap")
        self.assertGreater(len(grown), 0)
        self.assertEqual(
            len(self.trace.named("MarkAssistStart")), len(self.trace.named("MarkAssistDone"))
        )
        most = max(event.values[0] for event in self.trace.named("HeapAlloc"))
        goal = max(event.values[0] for event in self.trace.named("HeapGoal"))
        self.assertGreater(most, 0.9 * self.truth["grown_bytes"])
        self.assertGreater(goal, self.truth["grown_bytes"])

    def test_threads_do_one_thing_at_a_time(self):
        """Each core runs one thread, and each thread is on one core."""
        leaves = Counter()
        for event in self.trace.events:
            if event.name in ("GoStart", "GoStartLabel"):
                leaves[event.values[0]] += 1
            elif event.name in ("GoEnd", "GoSched", "GoPreempt", "GoSysBlock", "GoSleep") or event.name.startswith("GoBlock"):
                leaves[event.g] -= 1
        self.assertEqual({g: n for g, n in leaves.items() if n}, {})


if __name__ == "__main__":
    traced.main()
