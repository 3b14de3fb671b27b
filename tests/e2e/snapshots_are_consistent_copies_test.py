# SPDX-License-Identifier: Apache-2.0
"""`mprof ctl --snapshot` and --reset: copies of one moment, and what has happened since."""

import os
import shutil
import time
from pathlib import Path

import harness
from steered_program import Steered


class Moments(harness.Case):
    SECONDS = 4

    def check(self, dump):
        """As at any consistent cut; see tests/targets/handover.cc."""
        profile = self.profile(dump)
        first, second = profile.below("first_of_pair"), profile.below("second_of_pair")
        self.assertIn(first["alloc_objects"] - second["alloc_objects"], (0, 1))
        freed = [p["alloc_objects"] - p["inuse_objects"] for p in (first, second)]
        self.assertIn(freed[1] - freed[0], (0, 1))
        self.assertEqual(first["inuse_space"], 300 * first["inuse_objects"])
        return first["alloc_objects"]

    def test_each_is_one_moment_of_a_program_that_goes_on(self):
        process = self.start_under(harness.target("handover"), self.SECONDS)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        taken = []
        while process.poll() is None:
            name = f"n{len(taken)}"
            run = self.mprof("ctl", process.pid if len(taken) % 2 else dump, "--snapshot", name)
            if process.poll() is not None:
                break
            self.assertEqual(run.returncode, 0, run)
            taken.append(Path(run.stdout.strip()))
            self.assertEqual(taken[-1], dump.with_name(f"{dump.stem}.{name}.mprof"))
            time.sleep(0.1)
        self.assertEqual(process.wait(), 0)
        self.assertGreater(len(taken), 4)
        counts = [self.check(path) for path in taken]
        self.assertEqual(counts, sorted(counts))
        self.assertGreater(counts[-1], counts[0])

    def test_it_is_as_the_dump_was(self):
        process = self.start_under(harness.target("handover"), 1)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        self.assertEqual(process.wait(), 0)
        copy = self.mprof_ok("ctl", dump, "--snapshot", "end").stdout.strip()
        for kind in ("heap", "peak", "threadcreate"):
            samples = [self.profile(path, kind).samples for path in (dump, copy)]
            self.assertEqual(samples[0], samples[1])
        self.assertEqual(os.stat(copy).st_mode & 0o777, 0o600)


class Names(Steered):
    def test_nothing_is_overwritten(self):
        self.start("read")
        path = Path(self.ctl("--snapshot", "one").strip())
        before = path.read_bytes()
        self.tell("+")
        run = self.mprof("ctl", self.process.pid, "--snapshot", "one")
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertRegex(run.stderr, "one.mprof: there is one of this name already, and nothing is overwritten")
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(len(self.dumps()), 2)
        self.finish()

    def test_a_snapshot_says_what_it_is(self):
        self.start("read")
        path = self.ctl("--snapshot", "one").strip()
        self.finish()
        text = self.mprof_ok("info", path).stdout
        self.assertIn("a snapshot of the running program", text)
        self.assertEqual(self.info(path)["lost"], {})
        self.assertIn("kept while the target ran", "\n".join(self.profile(path).comments))
        self.assert_site(self.profile(path), "keep_blocks", 1000, 100000, 1000, 100000)

    def test_a_dump_whose_folder_is_gone(self):
        """Then it is reached through /proc, and there is no place beside it."""
        folder = self.dir / "gone"
        folder.mkdir()
        self.start("read", env={"MPROF_OUT": f"{folder}/%e.%p.mprof"})
        shutil.rmtree(folder)
        run = self.mprof("ctl", self.process.pid, "--snapshot", "one")
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertEqual(run.stderr.count("\n"), 1, run)
        self.finish()

    def test_run_makes_no_profiles_of_them(self):
        source = self.dir / "self.c"
        source.write_text('#include <mprof.h>\nint main(void) { return mprof_snapshot("mine"); }\n')
        headers = Path(os.environ["MPROF_SOURCE"]) / "preload"
        self.assertEqual(self.run_plain("cc", f"-I{headers}", source, "-o", self.dir / "self").returncode, 0)
        (self.dir / "out").mkdir()
        run = self.mprof_ok("run", "-o", self.dir / "out", "--heap-rate", 1, "--", self.dir / "self")
        self.assertEqual(len(list((self.dir / "out").glob("*.mine.mprof"))), 1, run)
        self.assertEqual(list((self.dir / "out").glob("*.mine.mprof.*")), [], run)


class SinceReset(Steered):
    def since(self, kind="heap"):
        return self.profile(self.process.pid, kind, ["--since-reset"])

    def test_only_what_came_after_it(self):
        self.start("read")
        self.tell("++")
        self.ctl("--reset")
        self.assertEqual(self.since().below("keep_blocks")["alloc_objects"], 0)
        self.tell("+")
        self.assert_site(self.since(), "keep_blocks", 1000, 100000, 1000, 100000)
        self.ctl("--reset")
        self.assert_site(self.since(), "keep_blocks", 0, 0, 0, 0)
        self.tell("++-")
        self.assert_site(self.since(), "keep_blocks", 2000, 200000, 1000, 100000)
        self.assert_site(self.profile(self.process.pid), "keep_blocks", 6000, 600000, 5000, 500000)
        self.finish()
        # Of the program that has ended, too.
        self.assert_site(self.profile(self.dump, "heap", ["--since-reset"]), "keep_blocks", 2000, 200000, 1000, 100000)

    def test_what_was_freed_since_is_negative(self):
        self.start("read")
        self.tell("++")
        self.ctl("--reset")
        self.tell("--")
        self.assert_site(self.since(), "keep_blocks", 0, 0, -2000, -200000)
        self.finish()

    def test_waits_and_contention(self):
        self.start("read", env={"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"})
        self.tell("www")
        self.ctl("--reset")
        self.tell("ww")
        self.assertEqual(self.since("mutex").total()["contentions"], 2)
        self.assertEqual(self.profile(self.process.pid, "mutex").total()["contentions"], 5)
        self.assertEqual(self.since("threadcreate").total()["threadcreate"], 2)
        self.finish()

    def test_go_pprof_and_top_show_it(self):
        self.start("read")
        self.tell("++")
        self.ctl("--reset")
        self.tell("+")
        text = self.mprof_ok("top", self.process.pid, "--allocs", "--objects", "--since-reset").stdout
        self.assertRegex(text, r"Total: 1000\b")
        self.mprof_ok("pprof", self.dump, "-p", "allocs", "-o", self.dir, "--since-reset")
        (file,) = self.dir.glob("*.allocs.pb.gz")
        self.assertRegex(self.go_pprof("-top", "-sample_index=alloc_objects", file), r"1000.*keep_blocks")
        self.finish()

    def test_without_a_reset_one_line_says_how(self):
        self.start("read")
        run = self.mprof("top", self.process.pid, "--since-reset")
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"`mprof ctl {self.process.pid} --reset` makes one", run.stderr)
        for bad in (["--since-reset", "--from", "1"], ["--since-reset", "--peak"]):
            self.assertEqual(self.mprof("top", self.process.pid, *bad).returncode, 2)
        self.finish()


if __name__ == "__main__":
    harness.main()
