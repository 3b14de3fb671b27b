# SPDX-License-Identifier: Apache-2.0
"""`mprof run`: runs a command under the library, forwards what happens, writes profiles, sums up."""

import json
import signal
import subprocess

import go_trace
import harness


class Run(harness.Case):
    def run_command(self, *args, options=(), **more):
        return self.mprof("run", *options, "--", *args, **more)

    def test_output_and_exit_code(self):
        script = "cat; echo out; echo err >&2; exit 42"
        run = self.run_command("sh", "-c", script, input="in\n")
        self.assertEqual(run.returncode, 42, run)
        self.assertTrue(run.stdout.startswith("in\nout\n"), run)
        self.assertIn("err\n", run.stderr)
        # Only what the command wrote is on stdout: pipes stay usable.
        self.assertEqual(run.stdout, "in\nout\n")

    def test_profiles_and_summary(self):
        run = self.run_command(harness.target("truth"), "2", options=["--heap-rate", "1"])
        self.assertEqual(run.returncode, 0, run)
        truth = json.loads(run.stdout)["sites"]
        (heap,) = self.dir.glob("*.heap.pb.gz")
        profile = harness.Profile(heap)
        self.assertEqual(
            profile.below("truth::site<1000ul>")["alloc_objects"], truth["1000"]["alloc_objects"]
        )
        self.assertIn(heap.name, run.stderr)
        self.assertLess(len(run.stderr.splitlines()), 30)
        self.go_pprof("-top", heap)

    def test_trace(self):
        """With --trace or -p trace it is written, too, and named as the profiles are."""
        for options, profiles in ((["--trace"], True), (["-p", "heap", "--trace"], True), (["-p", "trace"], False)):
            with self.subTest(options):
                folder = self.dir / "_".join(options)
                run = self.run_command(harness.target("thread_starts"), options=[*options, "-o", folder])
                (trace,) = folder.glob("*.go.trace")
                self.assertRegex(run.stderr, rf"(?m)^  trace    {trace}: \d+ events of \d+ threads in .*; nothing was lost$")
                self.assertGreater(len(go_trace.check(trace)), 0)
                self.assertEqual(bool(list(folder.glob("*.heap.pb.gz"))), profiles)

    def test_no_trace_unless_asked(self):
        run = self.run_command(harness.target("thread_starts"))
        self.assertNotIn("trace", run.stderr)
        self.assertEqual(list(self.dir.glob("*trace")), [])

    def test_the_trace_of_a_killed_command(self):
        run = self.run_command(harness.target("ends"), "kill", options=["-p", "trace"])
        self.assertEqual(run.returncode, 128 + signal.SIGKILL, run)
        (trace,) = self.dir.glob("*.go.trace")
        go_trace.check(trace)

    def test_double_entry(self):
        """Where nothing was dropped, the journal's events add up to the buckets, and info says so."""
        # Some 40,000 events in a second, which any drainer keeps up with.
        self.run_command(harness.target("handover"), "1", "50", options=["--heap-rate", "1k"])
        dump = self.only_dump()
        events = self.info(dump)["events"]
        self.assertGreater(events["produced"], 1000, events)
        self.assertEqual(events["dropped"], 0, events)
        self.assertEqual(events["delivered"], events["produced"], events)
        self.assertTrue(events["equal"], events)
        self.assertRegex(self.mprof_ok("info", dump).stdout, r"(?i)equal")

    def test_signals_are_forwarded(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            with self.subTest(number):
                script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
                process = subprocess.Popen(
                    [harness.MPROF, "run", "--", "sh", "-c", script], cwd=self.dir, text=True,
                    env=harness.clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
                self.addCleanup(self._end, process)
                self.assertEqual(process.stdout.readline(), "ready\n")
                process.send_signal(number)
                self.assertEqual(process.stdout.read(), "got\n")
                self.assertEqual(process.wait(timeout=30), 9)

    def test_killed_command(self):
        """As a shell says it: 128 and the signal."""
        run = self.run_command(harness.target("ends"), "kill", options=["--heap-rate", "1"])
        self.assertEqual(run.returncode, 128 + signal.SIGKILL, run)
        (heap,) = self.dir.glob("*.heap.pb.gz")
        self.assert_site(harness.Profile(heap), "known_amount", 100, 123400, 60, 74040)

    def test_children_are_profiled(self):
        self.run_command(harness.target("children"), "spawn", options=["--heap-rate", "1"])
        heaps = [harness.Profile(p) for p in self.dir.glob("*.heap.pb.gz")]
        self.assertEqual(sum(p.below("child_allocates")["alloc_objects"] for p in heaps), 30)
        self.assertEqual(sum(p.below("parent_after")["alloc_objects"] for p in heaps), 20)


if __name__ == "__main__":
    harness.main()
