# SPDX-License-Identifier: Apache-2.0
"""`go tool pprof` takes block, mutex and threadcreate profiles, protobuf or text, and adds up the same."""

import re
from pathlib import Path

import harness
from lock_truth import contention_profiles

TYPES = {
    "block": "contentions/count delay/nanoseconds",
    "mutex": "contentions/count delay/nanoseconds",
    "threadcreate": "threadcreate/count",
}
EVERY_WAIT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}


def raw_totals(raw):
    """The sums of the values in what -raw prints."""
    rows = re.findall(r"(?m)^\s+((?:\d+\s+)*\d+): \d+", raw.partition("\nSamples:\n")[2].partition("\nLocations")[0])
    return [sum(column) for column in zip(*([int(n) for n in row.split()] for row in rows))]


class GoPprof(harness.Case):
    def setUp(self):
        super().setUp()
        run = self.run_under(harness.target("lock_truth"), "cond", env=EVERY_WAIT)
        self.assertEqual(run.returncode, 0, run)
        self.dump = self.only_dump()
        self.own = contention_profiles(self, self.dump)

    def file(self, kind, *options):
        folder = self.dir / f"{kind}{''.join(options)}"
        folder.mkdir(exist_ok=True)
        self.mprof_ok("pprof", self.dump, "-p", kind, "-o", folder, *options)
        (file,) = Path(folder).iterdir()
        return file

    def totals(self, kind):
        return list(self.own[kind].total().values())

    def accounted_ns(self, kind, *options):
        """What -top says it shows."""
        text = self.go_pprof("-top", "-unit=ns", "-nodefraction=0", *options, self.file(kind))
        return int(re.search(r"(?m)^Showing nodes accounting for (\d+)ns", text)[1])

    def test_raw(self):
        for kind, types in TYPES.items():
            with self.subTest(kind):
                raw = self.go_pprof("-raw", self.file(kind))
                self.assertIn(f"\n{types}\n", raw)
                self.assertIn(f"PeriodType: {types.split()[0].replace('/', ' ')}\nPeriod: 1\n", raw)
                self.assertEqual(raw_totals(raw), self.totals(kind))

    def test_text_form(self):
        for kind in TYPES:
            with self.subTest(kind):
                raw = self.go_pprof("-raw", self.file(kind, "--text"))
                self.assertEqual(raw_totals(raw), self.totals(kind))

    def test_text_form_headers(self):
        for kind, header in (
            ("block", r"--- contention:\ncycles/second=\d+\n"),
            ("mutex", r"--- mutex:\ncycles/second=\d+\nsampling period=1\n"),
            ("threadcreate", r"threadcreate profile: total \d+\n"),
        ):
            with self.subTest(kind):
                self.assertRegex(self.file(kind, "--text").read_text(), "^" + header)

    def test_delay_is_what_is_shown_first(self):
        for kind in ("block", "mutex"):
            with self.subTest(kind):
                self.assertIn("\nType: delay\n", self.go_pprof("-top", self.file(kind)))
                self.assertEqual(self.accounted_ns(kind), self.totals(kind)[1])

    def test_tags(self):
        tags = self.go_pprof("-tags", "-unit=ns", self.file("block"))
        self.assertRegex(tags, r"(?m)^ wait: Total ")
        self.assertRegex(tags, r"(?m)^ lock: Total ")
        for wait in {sample.labels["wait"] for sample in self.own["block"].samples}:
            self.assertRegex(tags, rf"(?m)%\): {wait}$")
        self.assertRegex(self.go_pprof("-tags", self.file("mutex")), r"(?m)^ victim: Total ")
        self.assertRegex(self.go_pprof("-tags", self.file("threadcreate")), r"(?m)^ start: Total ")

    def test_tagfocus(self):
        for wait in ("cond", "cond relock", "mutex"):
            with self.subTest(wait):
                wanted = sum(s.values["delay"] for s in self.own["block"].samples if s.labels["wait"] == wait)
                self.assertGreater(wanted, 0)
                self.assertEqual(self.accounted_ns("block", f"-tagfocus=wait=^{wait}$"), wanted)

    def test_threads_before_the_library_are_a_row(self):
        text = self.go_pprof("-top", "-nodefraction=0", self.file("threadcreate"))
        self.assertRegex(text, r"(?m)^\s+1\s+[\d.]+%\s+100%\s+1\s+[\d.]+%\s+\[before mprof\]")


if __name__ == "__main__":
    harness.main()
