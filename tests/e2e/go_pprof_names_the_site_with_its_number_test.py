# SPDX-License-Identifier: Apache-2.0
"""`go tool pprof -alloc_space -top` names each function of the program with the program's number."""

import json
import re

import harness


class GoPprof(harness.Case):
    def top(self, file, sample_type):
        """{function: flat bytes or objects} as Go's tool prints it."""
        text = self.go_pprof(f"-{sample_type}", "-unit=B", "-nodefraction=0", "-nodecount=1000", "-top", file)
        rows = {}
        for line in text.splitlines():
            row = re.match(r"\s*(\d+)B?\s+[\d.]+%\s+[\d.]+%\s+\d+B?\s+[\d.]+%\s+(.*)", line)
            if row:
                rows[row[2]] = int(row[1])
        return rows

    def test_top(self):
        run = self.run_under(harness.target("truth"), 2)
        truth = json.loads(run.stdout)["sites"]
        dump = self.only_dump()
        heap, allocs = self.profile_file(dump), self.profile_file(dump, "allocs")
        for file, sample_type, number in (
            (allocs, "alloc_space", "alloc_bytes"),
            (allocs, "alloc_objects", "alloc_objects"),
            (heap, "inuse_space", "inuse_bytes"),
            (heap, "inuse_objects", "inuse_objects"),
        ):
            rows = self.top(file, sample_type)
            for size, counts in truth.items():
                mine = [v for name, v in rows.items() if f"truth::site<{size}" in name]
                self.assertEqual(mine, [counts[number]], f"{sample_type} of {size}: {rows}")

    def test_default_sample_types(self):
        """A heap profile opens with what is in use, an allocs profile with what was allocated."""
        self.run_under(harness.target("truth"))
        dump = self.only_dump()
        self.assertIn("Type: inuse_space", self.go_pprof("-top", self.profile_file(dump)))
        self.assertIn("Type: alloc_space", self.go_pprof("-top", self.profile_file(dump, "allocs")))

    def test_raw(self):
        self.run_under(harness.target("truth"))
        raw = self.go_pprof("-raw", self.profile_file(self.only_dump()))
        self.assertIn("alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes", raw)
        self.assertIn("PeriodType: space bytes", raw)
        self.assertRegex(raw, r"Period: 1\b")
        self.assertRegex(raw, r"Mappings\n1: 0x[0-9a-f]+/0x[0-9a-f]+/0x[0-9a-f]+ \S*/truth [0-9a-f]{16,}")


if __name__ == "__main__":
    harness.main()
