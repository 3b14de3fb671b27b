# SPDX-License-Identifier: Apache-2.0
"""A long trace: converting it takes no more memory than converting a short one.

MPROF_TRACE_EVENTS=N makes it another number of events.
"""

import json
import os
import re

import go_trace
import harness
import traced

EVENTS = int(os.environ.get("MPROF_TRACE_EVENTS", "1000000"))
# A round of tests/targets/trace_events.cc has two calls with begin and end, and a region.
EVENTS_OF_A_ROUND = 6
THREADS = 2
FORMS = ("go", "perfetto", "json-summary")
MOST_MORE_MIB = 32


class Many(traced.Traced):
    def record(self, name, events):
        """The dump of a run that made so many."""
        rounds = -(-events // EVENTS_OF_A_ROUND // THREADS)
        folder = self.dir / name
        # Its profiles alone: the trace is converted, and measured, below.
        run = self.run_traced(
            harness.target("trace_events"), THREADS, rounds,
            options=["-p", "heap", "-o", folder, "--heap-rate", "0", "--trace-max", "0"], timeout=600,
        )  # fmt: skip
        self.assertEqual((run.returncode, run.stdout), (0, f"{rounds * THREADS}\n"), run)
        return self.only_dump(folder)

    def convert_measured(self, dump, form):
        """(file, records made, MiB at the peak). By a small program: a child of this one would begin with its memory."""
        result, out = self.dir / "result", self.dir / f"{form}.out"
        command = [harness.MPROF, "trace", dump, "--format", form, "-o", out]
        run = self.run_plain(harness.BUILD / "tests/bench/measure", result, 600, "--", *command, timeout=600)
        self.assertEqual(run.returncode, 0, run)
        measured = json.loads(result.read_text())
        self.assertEqual(measured["exit_code"], 0, run)
        mib = measured["peak_kib"] / 1024
        said = re.search(r": (\d+) events of .*; (nothing|\d+) w\w+ lost\n", run.stdout)
        records, lost = int(said[1]), 0 if said[2] == "nothing" else int(said[2])
        # On a busy machine the drainer may come too late now and then.
        self.assertLess(lost, records / 100)
        print(f"{form}: {run.stdout.split(': ')[1].strip()}; {measured['wall_s']:.2f} s, {mib:.0f} MiB, {out.stat().st_size} bytes")
        return out, records + lost, mib

    def test_memory_is_bounded(self):
        short, long = self.record("short", EVENTS // 10), self.record("long", EVENTS)
        for form in FORMS:
            with self.subTest(form):
                _, records, mib = self.convert_measured(long, form)
                self.assertGreaterEqual(records, EVENTS)
                self.assertLess(mib, self.convert_measured(short, form)[2] + MOST_MORE_MIB)
        accepted = go_trace.run(self.convert_measured(long, "go")[0], "-d").count(b" p=")
        # A short call, of two records, is one event there.
        self.assertGreater(accepted, EVENTS / 2)


if __name__ == "__main__":
    traced.main()
