# SPDX-License-Identifier: Apache-2.0
"""A trace whose drainer is killed, stopped and started again has everything once, or says what it lost; its file is bounded."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import api_program
import drainers
import harness
import trace_journal

# Threads that log numbers, as fast as told, and nothing else.
PROGRAM = """
#include <mprof.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds;
static long pause_ns;
static int noise;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void* work(void* argument) {
  unsigned thread = (unsigned)(uintptr_t)argument;
  uint64_t random = thread + 1;
  unsigned long number = 0;
  char text[300];
  double end = now() + seconds;
  for (double next = now(); next < end; ++number) {
    int bytes = snprintf(text, sizeof text, "%u %lu ", thread, number);
    for (int i = 0; i < noise; ++i) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      text[bytes++] = (char)(' ' + (random >> 33) % 64);
    }
    text[bytes] = 0;
    mprof_log(0, NULL, text);
    next += (double)pause_ns / 1e9;
    while (now() < next) {
    }
    if (now() > next + 0.1) next = now();
  }
  return (void*)number;
}

int main(int count, char** arguments) {
  pthread_t threads[64];
  int wanted = atoi(arguments[1]);
  (void)count;
  seconds = atof(arguments[2]);
  pause_ns = atol(arguments[3]);
  noise = atoi(arguments[4]);
  for (int i = 0; i < wanted; ++i)
    pthread_create(&threads[i], NULL, work, (void*)(uintptr_t)i);
  for (int i = 0; i < wanted; ++i) {
    void* number;
    pthread_join(threads[i], &number);
    printf("%lu\\n", (unsigned long)number);
  }
  return 0;
}
"""

MIB = 1 << 20


class Survival(api_program.Case, drainers.Case):
    def start(self, threads, seconds, pause_ns, noise=0, env=None):
        """With a library that finds no drainer beside it: the test has its own."""
        program = self.compile(PROGRAM, "cc", "c", ["-O2", "-std=gnu11"], name="logs")
        library = shutil.copy(harness.LIBRARY, self.dir)
        target = self.start_under(
            program, threads, seconds, pause_ns, noise,
            rate=0, env={"LD_PRELOAD": library, "MPROF_TRACE": "1", "MPROF_BLOCK_RATE": "0", **(env or {})},
            stdout=subprocess.PIPE, text=True,
        )
        return target, self.wait_for(self.finished_dumps, "the dump appears")[0]

    def finished_dumps(self):
        """Those that have got beyond their creation."""
        return [dump for dump in self.dumps() if dump.read_bytes()[:8].strip(b"\0")]

    def logs_of(self, records):
        """The numbers of each thread that are there, and what is told to be lost of it."""
        numbers, lost, thread = [], 0, None
        for record in records:
            if record.kind == "Lost":
                lost += record.arguments[0]
            elif record.kind == "Log":
                thread, number = map(int, record.text.split()[:2])
                numbers.append(number)
        return thread, numbers, lost

    def check(self, dump, produced=None):
        """Every byte once; delivered + dropped = produced."""
        streams, rings = trace_journal.streams(dump)
        delivered = dropped = 0
        for row, stream in streams.items():
            self.assertEqual((stream.begin, stream.end), (0, rings[row].written))
            thread, numbers, lost = self.logs_of(stream.records())
            self.assertEqual(lost, rings[row].reported)
            self.assertEqual(numbers, sorted(set(numbers)))
            if thread is None:
                continue
            delivered += len(numbers)
            dropped += rings[row].dropped
            end = produced[thread] if produced else numbers[-1] + 1
            missing = end - len(numbers)
            # Its begin and its end may be among the lost ones.
            self.assertIn(rings[row].dropped - missing, range(3) if produced else range(10**9))
        return delivered, dropped

    def check_what_mprof_says(self, dump):
        """Of the same bytes: as much was dropped, and nothing else is missing."""
        dropped = sum(ring.dropped for ring in trace_journal.streams(dump)[1])
        said = self.mprof_ok("trace", dump, "-o", self.dir / "whole.trace").stderr
        told = re.findall(r"(\d+) records of the trace dropped because a ring was full", said)
        self.assertEqual([int(count) for count in told], [dropped] if dropped else [], said)
        self.assertNotRegex(said, "gap|do not read|no table|no whole frame|missing|already")

    def test_disturbed(self):
        target, dump = self.start(3, 5, 20_000)
        drains = self.disturb(target, dump, seed=7)
        produced = [int(line) for line in target.stdout]
        self.assertEqual(target.wait(), 0)
        self.assertGreater(drains, 8)
        before = self.check(dump, produced)
        self.mprof_ok("drain", dump)
        after = self.check(dump, produced)
        print(f"{drains} drainers: {after[0]} of {sum(produced)} logs, {after[1]} records dropped")
        self.assertEqual(before, after)
        self.assertGreater(after[0], 0)
        self.check_what_mprof_says(dump)
        trace = self.info(dump)["trace"]
        self.assertEqual(trace["file"], f"{dump}.trace")
        self.assertEqual(trace["trouble"], "")
        # The same once more finds nothing new.
        journal = Path(trace["file"])
        size = journal.stat().st_size
        self.mprof_ok("drain", dump)
        self.assertEqual(journal.stat().st_size, size)

    def test_target_killed_too(self):
        target, dump = self.start(3, 60, 20_000)
        drainer = self.drain(dump)
        self.wait_for(lambda: self.info(dump)["trace"]["file_bytes"] > 100_000, "a journal that grows")
        target.kill()
        target.wait()
        self.assertEqual(drainer.wait(timeout=60), 0)
        delivered, _ = self.check(dump)
        self.assertGreater(delivered, 1000)

    def test_newest_is_kept(self):
        target, dump = self.start(2, 60, 100_000, noise=200, env={"MPROF_TRACE_MAX": "1M"})
        drainer, most = self.drain(dump), 0

        def has_given_up_much():
            nonlocal most
            trace = self.info(dump)["trace"]
            most = max(most, trace["file_bytes"])
            return trace["given_up_bytes"] > 3 * MIB

        self.wait_for(has_given_up_much, "the oldest is given up", seconds=60)
        drainer.kill()
        drainer.wait()
        target.kill()
        target.wait()
        self.assertLess(most, MIB + MIB // 4)
        self.mprof_ok("drain", dump)
        streams, rings = trace_journal.streams(dump)
        ends = 0
        for row, stream in streams.items():
            self.assertEqual(stream.end, rings[row].written)
            self.assertEqual(stream.begin % trace_journal.trace_rings.BLOCK, 0)
            thread, numbers, lost = self.logs_of(stream.records())
            if thread is not None:
                ends += 1
                self.assertGreater(numbers[0], 0)
                self.assertLessEqual(numbers[-1] + 1 - numbers[0] - len(numbers), lost)
        self.assertEqual(ends, 2)
        self.assertRegex(self.mprof_ok("info", dump).stdout, r"trace .* the oldest .* were given up")

    def test_trace_ends_when_it_is_full(self):
        target, dump = self.start(2, 60, 100_000, noise=200, env={"MPROF_TRACE_MAX": "1M,stop"})
        drainer = self.drain(dump)
        self.wait_for(lambda: not self.info(dump)["trace"]["on"], "the trace ends", seconds=60)
        target.kill()
        target.wait()
        said = drainer.stderr.read()
        self.assertEqual(drainer.wait(timeout=60), 0)
        self.assertEqual(said.count("has the 1048576 bytes of MPROF_TRACE_MAX; the trace ends here"), 1, said)
        self.assertLess(self.info(dump)["trace"]["file_bytes"], 4 * MIB)
        self.check(dump)
        kinds = [r.kind for s in trace_journal.streams(dump)[0].values() for r in s.records()]
        self.assertEqual(kinds.count("Stop"), 1)
        self.assertIn("as much as MPROF_TRACE_MAX allows", self.mprof_ok("info", dump).stdout)

    def test_journals_are_no_dumps(self):
        target, dump = self.start(1, 1, 100_000)
        self.assertEqual(target.wait(), 0)
        self.mprof_ok("drain", dump)
        run = self.mprof("info", f"{dump}.trace")
        self.assertEqual(run.returncode, 1)
        self.assertIn("not a dump", run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 1)


if __name__ == "__main__":
    harness.main()
