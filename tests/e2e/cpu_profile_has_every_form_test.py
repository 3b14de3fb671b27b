# SPDX-License-Identifier: Apache-2.0
"""A CPU profile through each way to ask for one: run, pprof, --text, top, info, a part of the time."""

import re

import harness


class Forms(harness.Case):
    def run_shares(self, *options, seconds=1):
        run = self.mprof("run", *options, "--", harness.target("cpu_truth_nofp"), "shares", 1, seconds * 1000)
        self.assertEqual(run.returncode, 0, run)
        return run, self.only_dump()

    def test_run_at_the_usual_rate(self):
        """Who asks for a CPU profile need not name a rate."""
        run, dump = self.run_shares("-p", "cpu")
        (file,) = self.dir.glob("*.pb.gz")
        self.assertEqual(file.name, f"{dump.name}.cpu.pb.gz")
        self.assertRegex(run.stderr, r"\n  \d+ samples; processor time: .* sampled.*; the process used .* meanwhile\n")
        self.assertEqual(harness.Profile(file).period, 10_000_000)
        top = self.go_pprof("-top", file)
        self.assertRegex(top, r"Type: cpu\n(.*\n)*Duration: .*, Total samples = ")
        self.assertRegex(top, r" spin_most")

    def test_off_unless_asked_for(self):
        """Neither a profile nor a line about it; asked for afterwards, it is empty and says why."""
        run, dump = self.run_shares()
        self.assertEqual(list(self.dir.glob("*.cpu.pb.gz")), [])
        self.assertNotIn("processor time", run.stderr)
        profile = self.profile(dump, "cpu")
        self.assertEqual(profile.samples, [])
        self.assertIn("CPU samples were not taken (MPROF_CPU_HZ=0)", profile.comments)
        self.assertFalse(self.info(dump)["cpu"]["recorded"])

    def test_reports(self):
        _, dump = self.run_shares("--cpu-hz", "200")
        self.assertRegex(self.mprof_ok("top", "--cpu", dump).stdout, r"Type: cpu, .*\nTotal: [\d.]+m?s;")
        samples = self.profile(dump, "cpu").total()["samples"]
        self.assertIn(f"\nTotal: {samples};", self.mprof_ok("top", "--cpu", "--samples", dump).stdout)
        info = self.mprof_ok("info", dump).stdout
        self.assertRegex(info, r"\nprocessor time +a sample for every 5\.0 ms of each thread's .*\(MPROF_CPU_HZ=200\)\n")
        self.assertIn("samples of 1 threads", info)

    def test_text(self):
        """Go has no text form of it; that of counts is read by pprof."""
        _, dump = self.run_shares("--cpu-hz", "200")
        self.mprof_ok("pprof", dump, "-p", "cpu", "--text")
        text = self.dir / f"{dump.name}.cpu.txt"
        samples = self.profile(dump, "cpu").total()["samples"]
        self.assertRegex(text.read_text(), rf"^samples profile: total {samples}\n\d+ @( 0x[0-9a-f]+)+\n")
        self.assertIn(f"of {samples} total", re.sub(r"\s+", " ", self.go_pprof("-top", text)))

    def test_part_of_the_time(self):
        """Two parts have together what the whole has, but for what has no stack."""
        _, dump = self.run_shares("--cpu-hz", "200", seconds=2)
        whole = self.profile(dump, "cpu")
        with_stack = sum(s.values["cpu"] for s in whole.samples if s.frames[0].function not in ("[mprof]", "[lost: dropped]"))
        parts = [
            self.profile(dump, "cpu", ["--to", "900ms"]),
            self.profile(dump, "cpu", ["--from", "900ms"]),
        ]
        for part in parts:
            self.assertGreater(part.total()["cpu"], 0)
            self.assertTrue(any("left out" in comment for comment in part.comments), part.comments)
        self.assertEqual(sum(part.total()["cpu"] for part in parts), with_stack)

    def test_a_profile_that_is_not_there(self):
        _, dump = self.run_shares()
        run = self.mprof("pprof", dump, "-p", "heap,file")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r"^mprof: .*: no profile 'file': mprof's are heap, .*, cpu; the program has none of its own\n$")


if __name__ == "__main__":
    harness.main()
