# SPDX-License-Identifier: Apache-2.0
"""`mprof trace`: what a program did is in the file that Go opens, also of one that runs still or was killed; where a
file goes, which part of the time is in it, and one line for what is not possible."""

import json
import os
import re
import subprocess

import api_program
import go_trace
import harness

PROGRAM = """
#include <mprof.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <mutex>
#include <thread>

static std::mutex gate;
static bool may_paint;

__attribute__((noinline)) static void paint() {
  pthread_setname_np(pthread_self(), "painter");
  uint64_t job = mprof_task_begin("job", 0);
  mprof_region_t region = mprof_region_begin(job, "brush");
  mprof_log(job, "color", "red");
  gate.lock();
  if (!may_paint) _exit(3);
  gate.unlock();
  mprof_region_end(region);
  mprof_task_end(job);
}

__attribute__((noinline)) static void open_gate() { gate.unlock(); }

int main() {
  char byte;
  gate.lock();
  std::thread painter(paint);
  if (write(1, "up\\n", 3) != 3 || read(0, &byte, 1) != 1) return 1;
  may_paint = true;
  open_gate();
  painter.join();
  mprof_region_begin(0, "left open");
  if (write(1, "done\\n", 5) != 5) return 1;
  return read(0, &byte, 1) == 0 ? 0 : 2;
}
"""
ON = {"MPROF_TRACE": "1"}


class Traces(api_program.Case):
    def setUp(self):
        super().setUp()
        self.program = self.compile(PROGRAM, "c++", "cc", ["-std=c++11", "-g", "-O1", "-D_GNU_SOURCE"])

    def start(self, env=None):
        """It waits in its second read; the painter waited for the mutex meanwhile."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self.start_under(self.program, rate=0, env=ON if env is None else env, **pipes)
        self.assertEqual(process.stdout.readline(), b"up\n")
        for name in ("painter", self.program.name):
            self.wait_for(lambda name=name: self.state_of(process.pid, name) == "S", f"{name} waits")
        process.stdin.write(b"x")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), b"done\n")
        return process

    @staticmethod
    def state_of(pid, name):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as stat:
                text = stat.read()
            if f"({name})" in text:
                return text.rpartition(")")[2].split()[0]
        return None

    def run_to_its_end(self, env=None):
        process = self.start(env)
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        return self.only_dump()

    def trace(self, dump, *options):
        run = self.mprof_ok("trace", dump, *options)
        self.assertEqual(run.stderr, "")
        return run.stdout

    def assert_story(self, trace):
        found = go_trace.check(trace)
        kinds = {event.kind for event in found}
        (task,) = (e for e in found if e.kind == "UserTaskCreate")
        self.assertEqual(task.values["name"], "job")
        begin, end = (e for e in found if e.kind == "UserRegion" and e.values["name"] == "brush")
        self.assertEqual((begin.thread, begin.values["taskid"]), (task.thread, task.values["taskid"]))
        (line,) = (e for e in found if e.kind == "UserLog" and e.values["category"] == "color")
        self.assertEqual(line.values["message"], "red")
        (block,) = (e for e in found if e.kind == "GoBlockSync")
        self.assertEqual(block.thread, task.thread)
        (wake,) = (e for e in found if e.kind == "GoUnblock" and e.values["g"] == str(task.thread))
        self.assertEqual(wake.thread, 1)
        self.assertTrue(begin.ns <= block.ns < wake.ns <= end.ns)
        self.assertLessEqual({"GoCreate", "GoSysBlock", "GoSysExit", "GoEnd", "ProcStart", "ProcStop"}, kinds)
        for kind, function in (("sync", "paint"), ("syscall", "read"), ("sched", "open_gate")):
            names = go_trace.profile(trace, kind).names()
            self.assertTrue([name for name in names if function in name], f"{kind}: {names}")
        viewer = go_trace.Viewer(trace)
        try:
            self.assertRegex(viewer.get("/goroutines"), r">paint \[painter \d+\]<")
        finally:
            viewer.end()

    def test_of_a_program_that_ended(self):
        dump = self.run_to_its_end()
        said = self.trace(dump)
        trace = dump.with_name(dump.name + ".go.trace")
        self.assertRegex(said, rf"^{trace}: \d+ events of 2 threads in [\d.]+ m?s; nothing was lost\n$")
        self.assert_story(trace)

    def test_of_a_program_that_was_killed(self):
        process = self.start()
        process.kill()
        process.wait()
        trace = self.dir / "killed"
        self.trace(self.only_dump(), "-o", trace)
        self.assert_story(trace)

    def test_of_a_program_that_runs(self):
        process = self.start()
        trace = self.dir / "live"
        self.trace(process.pid, "-o", trace)
        self.assert_story(trace)
        self.assertIsNone(process.poll())

    def test_where_it_goes(self):
        dump = self.run_to_its_end()
        file = self.dir / "file"
        self.trace(dump, "-o", file)
        with open(self.dir / "piped", "wb") as piped:
            run = subprocess.run([str(harness.MPROF), "trace", str(dump), "-o", "-"], stdout=piped, check=True)
        self.assertEqual(run.returncode, 0)
        self.assertEqual(go_trace.count(self.dir / "piped"), go_trace.count(file))
        link = self.dir / "link"
        link.symlink_to(file.name)
        self.trace(dump, "-o", link)
        self.assertTrue(link.is_symlink())
        before = set(self.dir.iterdir())
        run = self.mprof("trace", dump, "-o", dump)
        self.assertEqual((run.returncode, run.stderr), (1, f"mprof: {dump}: is a dump; a trace is not written over it\n"))
        run = self.mprof("trace", dump, "-o", self.dir)
        self.assertEqual((run.returncode, run.stderr), (1, f"mprof: {self.dir}: Is a directory\n"))
        run = self.mprof("trace", dump, "-o", "/dev/full")
        self.assertEqual((run.returncode, run.stderr), (1, "mprof: /dev/full: No space left on device\n"))
        self.assertEqual(set(self.dir.iterdir()), before)

    def test_each_form(self):
        dump = self.run_to_its_end()
        sums = json.loads(self.trace(dump, "--format", "json-summary"))
        self.assertEqual(len(sums["threads"]), 2)
        self.assertIn("painter", self.trace(dump, "--summary"))
        # The clock of a short run is measured anew each time.
        texts = [self.trace(dump, *options) for options in (["--summary"], ["--format", "summary"])]
        self.assertEqual(*(re.sub(r"[\d.]+( [mun]?s\b)?|\s+", "", text) for text in texts))
        self.trace(dump, "--format", "perfetto")
        self.assertTrue(dump.with_name(dump.name + ".perfetto-trace").exists())
        run = self.mprof("trace", dump, "--format", "svg")
        self.assertEqual(
            (run.returncode, run.stderr),
            (2, "mprof: --format 'svg': accepted is go, perfetto, summary, json-summary\n"),
        )

    def test_part_of_the_time(self):
        dump = self.run_to_its_end()
        whole, part = self.dir / "whole", self.dir / "part"
        self.trace(dump, "-o", whole)
        events = go_trace.events(whole)
        (block,) = (e for e in events if e.kind == "GoBlockSync")
        (wake,) = (e for e in events if e.kind == "GoUnblock" and e.values["g"] == str(block.thread))
        first_ns = json.loads(self.trace(dump, "--format", "json-summary"))["begin_ns"]
        middle_ns = first_ns + (block.ns + wake.ns) // 2
        self.trace(dump, "-o", part, "--from", f"{middle_ns // 1000}us")
        found = go_trace.check(part)
        self.assertEqual([e.kind for e in found].count("GoWaiting"), 1)  # the painter, before the start
        self.assertNotIn("GoBlockSync", {e.kind for e in found})
        self.assertIn("GoEnd", {e.kind for e in found})
        self.trace(dump, "-o", part, "--to", f"{middle_ns // 1000}us")
        kinds = {e.kind for e in go_trace.check(part)}
        self.assertIn("GoBlockSync", kinds)
        self.assertNotIn("GoEnd", kinds)

    def test_a_dump_without_a_trace(self):
        dump = self.run_to_its_end(env={})
        before = set(self.dir.iterdir())
        run = self.mprof("trace", dump)
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, rf"^mprof: {dump}: no trace was recorded; .*mprof run --trace.*\n$")
        self.assertEqual(set(self.dir.iterdir()), before)


if __name__ == "__main__":
    harness.main()
