# SPDX-License-Identifier: Apache-2.0
"""A trace in Go's form, as a Perfetto trace and as a summary: the same times, read by three readers."""

import json
from collections import Counter, defaultdict

import api_program
import go_trace
import harness
import perfetto

# Of a time; each form has nanoseconds, and may round.
SLACK_NS = 1000

SYNC = {"mutex", "rwlock read", "rwlock write", "spin", "cond relock"}
COND = {"cond", "semaphore", "barrier", "join", "futex"}

GO_STATES = {
    "GoPreempt": "runnable",
    "GoSched": "runnable",
    "GoBlockSync": "sync",
    "GoBlockCond": "cond",
    "GoSleep": "sleep",
    "GoBlock": "other",
    "GoBlockNet": "call or poll",
    "GoSysBlock": "call or poll",
    "GoEnd": None,
}

# Threads that wait for each other in regions of tasks, four of one name in each other. For a third
# of a second: the clock of a shorter run is measured anew by whoever reads its dump.
PROGRAM = """
#include <mprof.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>

std::mutex queue_lock;

[[gnu::noinline]] void take_lock(uint64_t task) {
  mprof::Region region(task, "take");
  std::lock_guard<std::mutex> lock(queue_lock);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

[[gnu::noinline]] void descend(int depth) {
  mprof::Region region("descend");
  if (depth > 0) descend(depth - 1);
  usleep(100);
}

void work(int number) {
  for (int i = 0; i < 40; ++i) {
    mprof::Task task("request");
    take_lock(task.id());
    mprof_log(task.id(), "progress", "half");
    mprof::Task child("answer", task.id());
    descend(3);
    free(malloc(300000 + static_cast<size_t>(number)));
  }
}

int main() {
  uint64_t last = mprof_task_begin("whole", 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  mprof_region_begin(last, "never ended");
  return 0;
}
"""


def go_times(trace):
    """{thread number: {state: ns}} and the number of calls of each."""
    times, calls = defaultdict(Counter), Counter()
    state, since = {}, {}
    events = go_trace.events(trace)

    def change(thread, new, ns):
        if state.get(thread):
            times[thread][state[thread]] += ns - since[thread]
        state[thread], since[thread] = new, ns

    for event in events:
        if event.kind == "GoStart":
            change(int(event.values["g"]), "running", event.ns)
        elif event.kind in ("GoCreate", "GoUnblock", "GoSysExit"):
            change(int(event.values["g"]), "runnable", event.ns)
        elif event.kind in GO_STATES:
            change(event.thread, GO_STATES[event.kind], event.ns)
        elif event.kind == "GoSysCall":
            calls[event.thread] += 1
    for thread in list(state):
        change(thread, None, events[-1].ns)
    return times, calls


def total(tallies, names):
    return sum(tally["total_ns"] for name, tally in tallies.items() if name in names)


def summed_times(thread):
    """Those of the summary, by the causes that Go tells apart."""
    blocked = thread["blocked"]
    return {
        "running": thread["running"]["total_ns"],
        "runnable": thread["runnable"]["total_ns"],
        "sync": total(blocked, SYNC),
        "cond": total(blocked, COND),
        "sleep": total(blocked, {"sleep"}),
        "other": total(blocked, {"signal"}),
        "call or poll": total(blocked, {"poll"}) + thread["in_long_calls"]["total_ns"],
    }


class Forms(api_program.Case):
    def forms_of(self, program, rate=0):
        run = self.run_under(program, rate=rate, env={"MPROF_TRACE": "1", "MPROF_CPU_HZ": "100"})
        self.assertEqual(run.returncode, 0, run)
        dump = self.only_dump()
        paths = {form: self.dir / form for form in ("go", "perfetto", "json-summary")}
        for form, path in paths.items():
            self.mprof_ok("trace", dump, "--format", form, "-o", path)
        self.go = paths["go"]
        self.trace = perfetto.read(paths["perfetto"])
        self.summary = json.loads(paths["json-summary"].read_text())
        self.text = self.mprof_ok("trace", dump, "--summary", "-n", "0").stdout
        return self.summary

    def assert_forms_agree(self):
        threads = self.summary["threads"]
        self.assertEqual([thread["number"] for thread in threads], list(range(1, len(threads) + 1)))
        self.assert_go_agrees(threads)
        self.assert_perfetto_agrees(threads)
        for thread in threads:
            self.assert_life_is_covered(thread)

    def assert_go_agrees(self, threads):
        times, calls = go_times(self.go)
        self.assertEqual(sorted(times), [thread["number"] for thread in threads])
        for thread in threads:
            number = thread["number"]
            for state, ns in summed_times(thread).items():
                with self.subTest("go", thread=number, state=state):
                    self.assertAlmostEqual(times[number][state], ns, delta=SLACK_NS)
            made = sum(tally["count"] for tally in thread["calls"].values())
            self.assertEqual(calls[number], made, f"system calls of {number}")

    def assert_perfetto_agrees(self, threads):
        found = perfetto.overview(self.trace)
        self.assertEqual(len(found["threads"]), len(threads))
        for theirs, ours in zip(found["threads"], threads):
            for name, value in theirs.items():
                self.assertEqual(value, ours[name], f"{name} of thread {ours['number']}")
        for kind in ("regions", "tasks"):
            rows = {row["name"]: row for row in self.summary[kind]}
            self.assertEqual(sorted(found[kind]), sorted(rows))
            for name, tally in found[kind].items():
                for what, value in tally.items():
                    self.assertEqual(value, rows[name][what], f"{what} of {name}")
        self.assertEqual(found["instants"].get("CPU sample", 0), self.summary["cpu_samples"])
        self.assertEqual(found["instants"].get("log", 0), self.summary["logs"])

    def assert_life_is_covered(self, thread):
        phases = [thread[name]["total_ns"] for name in ("running", "runnable", "in_long_calls", "not_recorded")]
        waits = sum(tally["total_ns"] for tally in thread["blocked"].values())
        self.assertEqual(sum(phases) + waits, thread["end_ns"] - thread["begin_ns"])


class AllCauses(Forms):
    def test_of_every_wait(self):
        summary = self.forms_of(harness.target("trace_truth"))
        self.assert_forms_agree()
        blocked = Counter()
        for thread in summary["threads"]:
            blocked.update({name: tally["total_ns"] for name, tally in thread["blocked"].items()})
        # Each was waited for three times a quarter of a second.
        for cause in ("mutex", "rwlock read", "rwlock write", "cond", "semaphore", "barrier", "join", "sleep", "poll"):
            self.assertGreater(blocked[cause], 700_000_000, cause)
        self.assertIn("blocked: rwlock write", self.text)


class Regions(Forms):
    def test_of_tasks_and_regions(self):
        program = self.compile(PROGRAM, "c++", "cc", ["-std=c++17", "-g", "-O1", "-no-pie"], name="tasks")
        summary = self.forms_of(program, rate=1)
        self.assert_forms_agree()
        self.assert_rows(summary)
        self.assert_perfetto_shows(summary)

    def assert_rows(self, summary):
        regions = {row["name"]: row for row in summary["regions"]}
        tasks = {row["name"]: row for row in summary["tasks"]}
        self.assertEqual(regions["take"]["count"], 160)
        # Three more lie in each.
        self.assertEqual(regions["descend"]["count"], 160)
        self.assertEqual(tasks["request"]["count"], 160)
        self.assertEqual(tasks["answer"]["count"], 160)
        self.assertEqual(tasks["whole"]["unfinished"], 1)
        # Four threads, of which one has the lock for 2 ms: somebody waits.
        waited = regions["take"]["blocked"]["mutex"]
        self.assertGreater(waited["total_ns"], 10_000_000)
        self.assertEqual(tasks["request"]["blocked"]["mutex"], waited)
        self.assertGreaterEqual(regions["take"]["blocked"]["sleep"]["total_ns"], 320_000_000)
        self.assertGreaterEqual(regions["descend"]["blocked"]["sleep"]["total_ns"], 64_000_000)
        self.assertGreater(summary["heap"]["live_bytes"]["highest"], 0)

    def assert_perfetto_shows(self, summary):
        waits = [s for s in self.trace.slices if s.category == "blocked" and s.notes["wait"] == "mutex"]
        self.assertEqual({wait.name for wait in waits}, {"mutex queue_lock"})
        for wait in waits:
            self.assertTrue(any("take_lock" in frame[0] for frame in wait.stack), wait.stack)
        # Who waited was woken by who had the lock.
        wakes = [source for source, _ in self.trace.arrows if any("take_lock" in f[0] for f in source.stack)]
        self.assertGreaterEqual(len(wakes), len(waits))
        answers = [s for s in self.trace.slices if s.category == "task" and s.name == "answer"]
        for answer in answers:
            self.assertEqual(perfetto.path_of(self.trace, answer.track)[1:3], ["tasks", "request"])
        longest = summary["longest_waits"][0]
        self.assertIn("queue_lock", [w.get("object_name", "") for w in summary["longest_waits"]])
        self.assertTrue(longest["stack"])
        self.assertIn('region "descend": 160 times', self.text)
        self.assertIn('task "whole": 1 time', self.text)


if __name__ == "__main__":
    harness.main()
