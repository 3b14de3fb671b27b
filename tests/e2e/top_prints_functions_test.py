# SPDX-License-Identifier: Apache-2.0
"""`mprof top`: flat, cum, function and place, sorted and cut as asked."""

import re

import harness


class Top(harness.Case):
    def setUp(self):
        super().setUp()
        self.run_under(harness.target("truth"), 2)
        self.dump = self.only_dump()

    def functions(self, *options):
        """The rows of the table: lines that begin with two values and their shares."""
        lines = self.mprof_ok("top", self.dump, *options).stdout.splitlines()
        rows = [line for line in lines if re.match(r"\s*\S+( [kMG]i?B)?\s+[\d.]+%", line)]
        return [line for line in rows if "truth::site<" in line or "main" in line or "work" in line]

    def test_in_use(self):
        rows = self.functions()
        self.assertIn("truth::site<1048577", rows[0])
        self.assertRegex(rows[0], r"truth\.h:\d+")

    def test_sort_by_cum(self):
        flat, cum = self.functions(), self.functions("--sort", "cum")
        self.assertNotEqual(flat, cum)
        self.assertIn("work", cum[0])

    def test_number_of_rows(self):
        two, many = self.functions("-n", "2"), self.functions("-n", "100")
        self.assertLessEqual(len(two), 2)
        self.assertGreater(len(many), 5)

    def test_other_values(self):
        self.assertIn("truth::site<1048577", self.functions("--peak")[0])
        self.assertIn("truth::site<1048577", self.functions("--allocs")[0])
        outputs = {"\n".join(self.functions(*o)) for o in ((), ("--peak",), ("--allocs",))}
        self.assertEqual(len(outputs), 3)

    def test_of_a_running_process(self):
        process = self.start_under(harness.target("handover"), 3)
        self.wait_for(lambda: len(self.dumps()) == 2, "the dump appears")
        self.wait_for(
            lambda: "first_of_pair" in self.mprof("top", process.pid, "--allocs").stdout, "it is seen by pid"
        )


if __name__ == "__main__":
    harness.main()
