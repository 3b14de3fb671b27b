# SPDX-License-Identifier: Apache-2.0
"""The programs in docs/api.md compile without a warning, run alike with and without the library, and show what they say."""

import os
import re
from pathlib import Path

import api_program
import harness
import traced_program
from pprof import Profile

PAGE = Path(os.environ["MPROF_SOURCE"]) / "docs" / "api.md"
EXAMPLES = {
    name: text
    for _, text, name in re.findall(r"(?ms)^```(c|cpp)\n((?:/\*|//) (\S+\.(?:c|cc))\b.*?)^```$", PAGE.read_text())
}
COMPILERS = {suffix: (compiler, options) for compiler, suffix, options in api_program.COMPILERS}


class Examples(traced_program.Case):
    def build(self, name):
        stem, suffix = name.split(".")
        compiler, options = COMPILERS[suffix]
        return self.compile(EXAMPLES[name], compiler, suffix, [*options, "-g", "-O1"], stem)

    def run_example(self, name, with_library, without_library=None):
        """What it prints, with and without; gives its dump."""
        program = self.build(name)
        plain = self.run_plain(program)
        under = self.run_under(program)
        for run, wanted in ((plain, without_library or with_library), (under, with_library)):
            self.assertEqual((run.returncode, run.stdout, run.stderr), (0, wanted, ""), run)
        return self.only_dump()

    def run_and_trace(self, name, output, env=None):
        """What it says in a trace; it prints the same with the library and without."""
        program = self.build(name)
        self.assertEqual(self.run_plain(program).stdout, output)
        printed, trace = self.trace_of(program, env={"MPROF_TRACE": "1"} if env is None else env)
        self.assertEqual(printed, output)
        return list(trace.said())

    def labels(self, dump, **bytes_of):
        """The label sets of the only sample with so many bytes."""
        profile = self.profile(dump, "allocs")
        found = {}
        for name, size in bytes_of.items():
            (sample,) = [s for s in profile.samples if s.values["alloc_space"] == size]
            found[name] = sample.labels
        return found

    def assert_profile(self, dump, name, file_word, site, count):
        """A profile of the program's own, of one site."""
        self.mprof_ok("pprof", dump, "-p", name, "-o", self.dir)
        file = self.dir / f"{dump.name}.{file_word}.pb.gz"
        profile = Profile(file)
        self.assertEqual(profile.sample_types, [(name, "count")])
        self.assertEqual((profile.total(), profile.below(site)), ({name: count}, {name: count}))
        top = self.go_pprof("-top", file)
        self.assertRegex(top, rf"(?m)^\s+{count} +100% .* {re.escape(site.partition('(')[0])}")
        self.assertNotIn("mprof_profile_add", top)

    def test_every_example_of_the_page_is_tested(self):
        blocks = re.findall(r"(?m)^```(?:c|cpp)$", PAGE.read_text())
        self.assertEqual(len(blocks), len(EXAMPLES))
        tested = {name[len("test_example_") :].replace("_", ".") for name in dir(self) if name.startswith("test_example_")}
        self.assertEqual(tested, set(EXAMPLES))

    def test_example_active_c(self):
        program = self.build("active.c")
        self.assertEqual(self.run_plain(program).stdout, "not profiled\n")
        under = self.run_under(program)
        self.assertEqual(under.stdout, f"profiled into {self.only_dump()}\n")

    def test_example_labels_c(self):
        dump = self.run_example("labels.c", "done\n")
        request = {"handler": "order", "request": "7"}
        self.assertEqual(self.labels(dump, page=1000, mail=2000), {"page": request, "mail": request})
        tags = self.go_pprof("-tags", "-sample_index=inuse_space", self.profile_file(dump))
        self.assertRegex(tags, r"(?m)\(\s*100%\): 7$")

    def test_example_labels_cc(self):
        dump = self.run_example("labels.cc", "order 7\n")
        self.assertEqual(
            self.labels(dump, page=1000, invoice=3000),
            {
                "page": {"handler": "order", "request": "7"},
                "invoice": {"handler": "invoice", "request": "7"},
            },
        )

    def test_example_profile_c(self):
        dump = self.run_example("profile.c", "1 still open\n", "0 still open\n")
        self.assert_profile(dump, "example.org/files", "example.org%2Ffiles", "open_file", 1)

    def test_example_profile_cc(self):
        dump = self.run_example("profile.cc", "2 sessions\n", "0 sessions\n")
        self.assert_profile(dump, "sessions", "sessions", "Session::Session()", 2)

    def test_example_arena_c(self):
        profile = self.profile(self.run_example("arena.c", "1\n"))
        self.assert_site(profile, "arena_alloc", 2, 2000, 1, 1500)
        self.assertNotIn(65536, [sample.values["alloc_space"] for sample in profile.samples])

    def test_example_arena_cc(self):
        profile = self.profile(self.run_example("arena.cc", "1000\n"))
        self.assertIn(4000, [sample.values["alloc_space"] for sample in profile.samples])
        self.assertNotIn(8096, [sample.values["alloc_space"] for sample in profile.samples])

    def test_example_tasks_c(self):
        self.assertEqual(
            self.run_and_trace("tasks.c", "answered\n"),
            [
                ("TaskBegin", 1, 0, "request"),
                ("RegionBegin", 1, "parse"),
                ("RegionEnd", 1, "parse"),
                ("RegionBegin", 1, "answer"),
                ("Log", 1, "cache", "not in there"),
                ("RegionEnd", 1, "answer"),
                ("TaskEnd", 1),
            ],
        )

    def test_example_tasks_cc(self):
        said = self.run_and_trace("tasks.cc", "imported\n")
        logs = {line[1]: line[3] for line in said if line[0] == "Log"}
        self.assertEqual(sorted(logs.values()), ["orders.csv", "prices.csv"])
        self.assertEqual(set(logs), {2, 3})
        each = {
            ("RegionBegin", 0, "wait for both"),
            ("RegionEnd", 0, "wait for both"),
            ("TaskBegin", 1, 0, "nightly job"),
            ("TaskEnd", 1),
        }
        for task, text in logs.items():
            each |= {("TaskBegin", task, 1, "import"), ("TaskEnd", task), ("Log", task, "file", text)}
            each |= {("Region" + end, task, "read and store") for end in ("Begin", "End")}
        self.assertEqual((set(said), len(said)), (each, len(each)))
        self.assertEqual((said[0], said[-1]), (("TaskBegin", 1, 0, "nightly job"), ("TaskEnd", 1)))

    def test_example_trace_c(self):
        said = self.run_and_trace("trace.c", "0\n", env={})
        round_2 = [("TaskBegin", 2, 0, "round"), ("Log", 2, "progress", "round 2"), ("TaskEnd", 2)]
        self.assertEqual(said, round_2)

    def test_example_snapshot_c(self):
        self.run_example_with_snapshot("snapshot.c", "loaded")

    def run_example_with_snapshot(self, name, snapshot):
        program = self.build(name)
        plain, under = self.run_plain(program), self.run_under(program)
        self.assert_same_behaviour(plain, under)
        copy, dump = sorted(self.dumps(), key=lambda path: snapshot not in path.name)
        sizes = [{s.values["alloc_space"] for s in self.profile(d).samples} for d in (copy, dump)]
        self.assertIn(5000, sizes[0])
        self.assertNotIn(3000, sizes[0])
        self.assertLessEqual({3000, 5000}, sizes[1])


if __name__ == "__main__":
    harness.main()
