# SPDX-License-Identifier: Apache-2.0
"""`mprof merge` and `mprof diff`: dumps, running programs and pprof files of any writer add up and
compare as in `go tool pprof`; what is not a profile is one clear line."""

import gzip
import json
import os
import re
import shutil
import struct
from pathlib import Path

import harness
from pprof import Profile

GO_PROFILES = Path(__file__).resolve().parent.parent / "golden" / "go"
VALUES = {"alloc_objects": "alloc_objects", "alloc_space": "alloc_bytes",
          "inuse_objects": "inuse_objects", "inuse_space": "inuse_bytes"}


def site(size):
    return f"truth::site<{size}ul>"


class Combined(harness.Case):
    """Two runs of a program that knows its truth, at rate 1, so that every number is exact."""

    def setUp(self):
        super().setUp()
        self.truths, self.dumps_of_runs, self.files = [], [], []
        for threads in (1, 3):
            folder = self.dir / f"run{threads}"
            folder.mkdir()
            run = self.run_under(harness.target("truth"), threads, dump_dir=folder)
            self.truths.append(json.loads(run.stdout)["sites"])
            self.dumps_of_runs.append(self.only_dump(folder))
            self.files.append(self.profile_file(self.dumps_of_runs[-1]))
        self.out = self.dir / "out.pb.gz"

    def merge(self, *inputs, options=()):
        run = self.mprof_ok("merge", *inputs, "-o", self.out, *options)
        self.assertEqual(run.stdout, f"{self.out}\n")
        self.assertEqual(run.stderr, "")
        return Profile(self.out)

    def assert_sum_of_truths(self, profile):
        for size in self.truths[0]:
            expected = {
                value: sum(truth[size][name] for truth in self.truths) for value, name in VALUES.items()
            }
            self.assertEqual(profile.below(site(size)), expected, size)

    def diff(self, *args):
        """{function: (A, B, B-A, percent)} as text, and the lines above the table."""
        lines = self.mprof_ok("diff", *args).stdout.splitlines()
        head = next(i for i, line in enumerate(lines) if line.endswith("  function"))
        rows = {}
        for line in lines[head + 1 :]:
            *numbers, name = line.split(None, len(lines[head].split()) - 1)
            rows[name.split("  ")[0]] = numbers
        return rows, lines[:head]

    def rows_by_site(self, rows):
        found = {}
        for size in self.truths[0]:
            (row,) = [numbers for name, numbers in rows.items() if site(size) in name]
            found[size] = row
        return found

    def top(self, *args):
        """`go tool pprof -top` below its first lines, which name files."""
        text = self.go_pprof("-top", "-nodefraction=0", "-edgefraction=0", *args)
        return text[text.index("Showing nodes") :]


class Merge(Combined):
    def test_dumps_of_two_runs_add_up(self):
        profile = self.merge(*self.dumps_of_runs)
        self.assert_sum_of_truths(profile)
        # The runs were at other addresses; each file is there once.
        files = [profile.mapping_file(m) for m in profile.mappings]
        self.assertEqual(len(files), len(set(files)), files)
        self.assertEqual(len([f for f in files if f.endswith("/truth")]), 1)

    def test_files_and_dumps_in_any_mixture(self):
        self.assert_sum_of_truths(self.merge(self.files[0], self.dumps_of_runs[1]))
        self.assert_sum_of_truths(self.merge(*self.files))

    def test_same_as_go(self):
        for sample_index in VALUES:
            with self.subTest(sample_index):
                self.merge(*self.files)
                index = f"-sample_index={sample_index}"
                self.assertEqual(self.top(index, self.out), self.top(index, *self.files))

    def test_another_view_of_dumps(self):
        profile = self.merge(*self.dumps_of_runs, options=("-p", "threadcreate"))
        self.assertEqual(profile.sample_types, [("threadcreate", "count")])
        self.assertEqual(profile.total(), {"threadcreate": 1 + 1 + 1 + 3})

    def test_many_files(self):
        profile = self.merge(*[self.files[0]] * 100)
        once = Profile(self.files[0])
        self.assertEqual(len(profile.samples), len({(s.frames, tuple(s.labels.items())) for s in map(
            lambda s: s._replace(frames=tuple(s.frames)), once.samples)}))
        self.assertEqual(profile.total(), {k: 100 * v for k, v in once.total().items()})
        self.assertEqual(profile.comments, once.comments)

    def test_profiles_of_go_programs(self):
        heap = GO_PROFILES / "heap.pb.gz"
        self.assertEqual(self.merge(heap, heap).total(), {k: 2 * v for k, v in Profile(heap).total().items()})
        both = self.merge(heap, self.files[0])
        self.assertEqual(both.total()["inuse_space"],
                         Profile(heap).total()["inuse_space"] + Profile(self.files[0]).total()["inuse_space"])
        for name in ("cpu", "goroutine", "mutex", "custom", "threadcreate"):
            with self.subTest(name):
                file = GO_PROFILES / f"{name}.pb.gz"
                self.merge(file, file)
                self.assertEqual(self.top(self.out), self.top(file, file))

    def test_profile_that_pprof_wrote(self):
        rewritten = self.dir / "rewritten"
        run = self.run_plain("go", "tool", "pprof", "-proto", f"-output={rewritten}", self.files[0],
                             env={"PPROF_TMPDIR": str(self.dir)})
        self.assertEqual(run.returncode, 0, run)
        self.assert_sum_of_truths(self.merge(rewritten, self.files[1]))

    def test_converted_profile_of_gperftools(self):
        """CPU samples at three addresses of a program that is not there, as pprof converts them."""
        converted = []
        for run, start in enumerate((0x400000, 0x55D000000000)):
            words = [0, 3, 0, 10000, 0]
            for count, address in ((5, 0x100), (7 + run, 0x200)):
                words += [count, 2, start + address, start + 0x300]
            words += [0, 1, 0]
            maps = f"{start:x}-{start + 0x1000:x} r-xp 00000000 08:01 1234 /no/such/app\n"
            raw = self.dir / f"raw{run}.prof"
            raw.write_bytes(struct.pack(f"<{len(words)}Q", *words) + maps.encode())
            converted.append(self.dir / f"converted{run}.pb.gz")
            done = self.run_plain("go", "tool", "pprof", "-proto", "-symbolize=none",
                                  f"-output={converted[-1]}", raw, env={"PPROF_TMPDIR": str(self.dir)})
            self.assertEqual(done.returncode, 0, done)
        profile = self.merge(*converted)
        self.assertEqual(profile.sample_types, [("samples", "count"), ("cpu", "nanoseconds")])
        self.assertEqual(sorted(s.values["samples"] for s in profile.samples), [10, 15])
        self.assertEqual(profile.total()["cpu"], 25 * 10_000_000)

    def test_content_decides_not_the_name(self):
        plain = self.dir / "looks-like-a-dump.mprof"
        plain.write_bytes(gzip.decompress(self.files[0].read_bytes()))
        dump = self.dir / "looks-like-a-profile.pb.gz"
        dump.write_bytes(self.dumps_of_runs[1].read_bytes())
        self.assert_sum_of_truths(self.merge(plain, dump))
        pid = self.dir / "1"
        pid.write_bytes(self.files[0].read_bytes())
        self.assert_sum_of_truths(self.merge("1", dump))

    def test_pipes_and_standard_output(self):
        for output in ("-", "/dev/stdout"):
            with self.subTest(output):
                command = f"{harness.MPROF} merge <(cat {self.files[0]}) {self.files[1]} -o {output} | cat >{self.out}"
                run = self.run_plain("bash", "-c", command)
                self.assertEqual((run.returncode, run.stderr), (0, ""), run)
                self.assert_sum_of_truths(Profile(self.out))

    def test_output_through_a_link(self):
        target, link = self.dir / "target", self.dir / "link"
        target.write_text("old")
        link.symlink_to(target)
        self.mprof_ok("merge", *self.files, "-o", link)
        self.assertTrue(link.is_symlink())
        self.assert_sum_of_truths(Profile(target))


class Diff(Combined):
    def test_two_dumps(self):
        rows, _ = self.diff(*self.dumps_of_runs, "-n", "0", "--type", "inuse_objects")
        for size, (a, b, difference, percent) in self.rows_by_site(rows).items():
            truth_a, truth_b = (truth[size]["inuse_objects"] for truth in self.truths)
            self.assertEqual((int(a), int(b)), (truth_a, truth_b), size)
            self.assertEqual(difference, f"+{truth_b - truth_a}")
            self.assertEqual(percent, "+200.00%")

    def test_largest_difference_first_growth_and_shrinkage(self):
        grown, _ = self.diff(*self.files)
        self.assertIn(site(1048577), next(iter(grown)))
        shrunk, _ = self.diff(*reversed(self.files))
        self.assertEqual(list(shrunk), list(grown))
        for function, (a, b, difference, percent) in shrunk.items():
            self.assertEqual((b, a), tuple(grown[function][:2]))
            self.assertEqual(difference, grown[function][2].replace("+", "-"))
            self.assertTrue(percent.startswith("-") or percent == "gone", percent)

    def test_head_of_the_table(self):
        _, head = self.diff(*self.files, "-n", "2")
        self.assertEqual(head[0], "Type: inuse_space, without callees (flat)")
        self.assertRegex(head[1], rf"^A: {re.escape(str(self.files[0]))}, of truth, at ")
        self.assertRegex(head[2], rf"^B: {re.escape(str(self.files[1]))}, of truth, at ")
        self.assertRegex(head[3], r"^Total: .* in A, .* in B: \+.*; 2 of \d+ functions that differ shown, \d+ are equal$")

    def test_with_callees(self):
        flat, _ = self.diff(*self.files, "-n", "0")
        cum, _ = self.diff(*self.files, "-n", "0", "--cum")
        self.assertFalse([name for name in flat if "build_up" in name])
        self.assertTrue([name for name in cum if "build_up" in name])

    def test_of_itself(self):
        rows, head = self.diff(self.files[0], self.files[0])
        self.assertEqual(rows, {})
        self.assertRegex("\n".join(head), r": 0, 0%; 0 of 0 functions that differ shown, \d+ are equal")

    def test_normalized(self):
        four_runs = self.dir / "four.pb.gz"
        self.mprof_ok("merge", *[self.files[0]] * 4, "-o", four_runs)
        self.assertTrue(self.diff(four_runs, self.files[0])[0])
        rows, head = self.diff(four_runs, self.files[0], "--normalize")
        self.assertEqual(rows, {})
        self.assertRegex(head[1], rf"^A: {re.escape(str(four_runs))} times 0\.25, of truth")

    def test_written_difference_is_that_of_pprof(self):
        self.mprof_ok("diff", *self.files, "-o", self.out)
        for sample_index in VALUES:
            with self.subTest(sample_index):
                index = f"-sample_index={sample_index}"
                self.assertEqual(self.top(index, self.out),
                                 self.top(index, f"-diff_base={self.files[0]}", self.files[1]))
        bases = [s for s in Profile(self.out).samples if s.labels.get("pprof::base") == "true"]
        self.assertTrue(bases)
        for sample in bases:
            self.assertLessEqual(max(sample.values.values()), 0)

    def test_other_builds_compare_by_function(self):
        """A program that was built again has other addresses and another build id."""
        source = self.dir / "app.c"
        totals = []
        for number, more in enumerate(("", "int unused(int x) { return x * 3; }\n")):
            source.write_text("#include <stdlib.h>\n" + more +
                              "__attribute__((noinline)) void* leak(void) { void* p = malloc(1000);"
                              ' __asm__ volatile("" : : "r"(p) : "memory"); return p; }\n'
                              f"int main(void) {{ for (int i = 0; i < {10 * (number + 1)}; i++) leak(); }}\n")
            app = self.dir / f"app{number}"
            self.assertEqual(self.run_plain("cc", "-g", "-O1", "-o", app, source).returncode, 0)
            folder = self.dir / f"build{number}"
            folder.mkdir()
            self.run_under(app, dump_dir=folder)
            totals.append(self.only_dump(folder))
        rows, _ = self.diff(*totals, "--type", "inuse_objects")
        self.assertEqual(rows, {"leak": ["10", "20", "+10", "+100.00%"]})

    def test_running_program(self):
        process = self.start_under(harness.target("handover"), 60)
        self.wait_for(lambda: "first_of_pair" in self.mprof("top", process.pid, "--allocs").stdout, "it allocates")
        before = self.dir / "before.pb.gz"
        self.mprof_ok("merge", process.pid, "-p", "allocs", "-o", before)
        rows, _ = self.wait_for(
            lambda: [found] if (found := self.diff(before, process.pid, "-p", "allocs"))[0] else None, "it grows"
        )[0]
        self.assertIn("first_of_pair", rows)
        self.assertTrue(rows["first_of_pair"][2].startswith("+"))


class BadInput(Combined):
    def refused(self, *args, words=()):
        """One line that says which file is the matter; nothing is written."""
        for command in (["merge", *args, "-o", self.out], ["diff", *args], ["diff", *args, "-o", self.out]):
            run = self.mprof(*command)
            self.assertEqual(run.returncode, 1, run)
            self.assertEqual(run.stdout, "")
            self.assertEqual(len(run.stderr.splitlines()), 1, run)
            self.assertTrue(run.stderr.startswith("mprof: "), run)
            for word in words:
                self.assertIn(str(word), run.stderr)
            self.assertFalse(self.out.exists())

    def file(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path

    def test_not_a_profile(self):
        for name, content in (("text", b"hello, world\n"), ("empty", b""), ("zeros", b"\0" * 4096),
                              ("elf", Path(harness.MPROF).read_bytes()[:65536]),
                              ("gzipped-text", gzip.compress(b"hello, world\n")),
                              ("two", gzip.decompress(self.files[0].read_bytes()) * 2)):
            with self.subTest(name):
                bad = self.file(name, content)
                words = (bad, "not a dump, and not a readable pprof profile")
                self.refused(self.files[0], bad, words=words)
                self.refused(bad, self.files[0], words=words)

    def test_truncated(self):
        whole = self.files[0].read_bytes()
        for size in (1, 2, 10, len(whole) // 2, len(whole) - 1):
            with self.subTest(size):
                self.refused(self.file("cut.pb.gz", whole[:size]), self.files[1], words=("cut.pb.gz", "pprof profile"))
        self.refused(self.file("cut.pb.gz", whole[:-1]), self.files[1], words=("gzip data end early",))

    def test_damaged(self):
        whole = bytearray(self.files[0].read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        self.refused(self.file("damaged.pb.gz", bytes(whole)), self.files[1], words=("damaged.pb.gz", "gzip data at byte"))

    def test_damaged_dump(self):
        dump = self.dumps_of_runs[0].read_bytes()
        self.refused(self.file("cut.mprof", dump[:100]), self.files[1], words=("cut.mprof",))

    def test_different_types(self):
        cpu = GO_PROFILES / "cpu.pb.gz"
        self.refused(self.files[0], cpu, words=(
            self.files[0], cpu, "profiles of different values",
            "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes",
            "samples/count cpu/nanoseconds",
        ))

    def test_missing_and_unreadable(self):
        self.refused(self.files[0], self.dir / "nothing", words=("nothing: No such file or directory",))
        self.refused(self.files[0], self.dir, words=(f"{self.dir}: Is a directory",))
        self.refused(self.files[0], "/proc/self/mem", words=("/proc/self/mem: Input/output error",))
        self.refused(self.files[0], "4194305", words=("process 4194305: no such process",))

    def test_no_permission(self):
        self.files[1].chmod(0)
        self.files[0].chmod(0o644)
        self.dir.chmod(0o755)
        # Root may read anything, and another user may not enter any build folder.
        as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        mprof = shutil.copy(harness.MPROF, self.dir)
        run = self.run_plain(*as_other, mprof, "diff", *self.files)
        self.assertEqual((run.returncode, run.stdout), (1, ""), run)
        self.assertEqual(run.stderr, f"mprof: {self.files[1]}: Permission denied\n")

    def test_unknown_value_type(self):
        run = self.mprof("diff", *self.files, "--type", "cpu")
        self.assertEqual(run.returncode, 1)
        self.assertIn('value type "cpu" is not in the profile; it has: alloc_objects, alloc_space', run.stderr)

    def test_usage(self):
        for args in (("merge", "a"), ("diff", "a"), ("diff", "a", "b", "c"), ("diff", "a", "b", "-p", "heap,peak")):
            with self.subTest(args):
                run = self.mprof(*args)
                self.assertEqual(run.returncode, 2, run)
                self.assertEqual(len(run.stderr.splitlines()), 1, run)

    def test_output_that_cannot_be(self):
        dump = self.dumps_of_runs[0]
        before = dump.read_bytes()
        for output, words in ((dump, "is a dump; a profile is not written over it"),
                              (self.dir / "no" / "folder.pb.gz", "No such file or directory"),
                              (self.dir, "Is a directory"), ("/dev/full", "No space left on device")):
            with self.subTest(output):
                run = self.mprof("merge", *self.files, "-o", output)
                self.assertEqual((run.returncode, run.stdout), (1, ""), run)
                self.assertIn(words, run.stderr)
        self.assertEqual(dump.read_bytes(), before)


if __name__ == "__main__":
    harness.main()
