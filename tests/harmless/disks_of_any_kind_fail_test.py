# SPDX-License-Identifier: Apache-2.0
"""Where the dump lies there is no room from the start, or later, or no right to write, or the disk breaks: the program
runs as it did, and one clear line or counted losses tell."""

import errno
import os
import resource
import time

import disks
import harmless
import harness

FIRST_BYTES = 8 << 20  # more than any dump begins with
SIZES = 12 * harmless.LONGER
PARTS = 6 * harmless.LONGER


class AtTheStart(disks.Case):
    def check_line(self, outcome, plain, *words):
        """One line on standard error, and all else as it was."""
        self.assertEqual((outcome.status, outcome.out), (plain.status, plain.out), outcome)
        self.assertEqual(outcome.err.count(b"\n"), 1, outcome)
        line = outcome.err.decode()
        self.assertRegex(line, r"\Amprof: cannot write the dump .*; the program runs unprofiled\n\Z")
        for word in words:
            self.assertIn(word, line)

    def run_ends(self, environment):
        return self.run_watched(harness.target("ends"), "exit", environment=environment, cwd=self.dir)

    def test_a_disk_of_any_size(self):
        """Too small for the dump, for the first tables, for the trace, or for nothing: a line, or a dump."""
        plain = self.run_ends({})
        for name, settings in {**self.settings, "exact": disks.EXACT}.items():
            lines = 0
            for size in range(0, FIRST_BYTES, FIRST_BYTES // SIZES):
                folder = self.tmpfs(size=max(size, disks.PAGE) // disks.PAGE * disks.PAGE)
                under = self.run_ends(self.library_env(None, settings, dump_dir=folder))
                if self.dumps(folder):
                    self.assertEqual(under, plain)
                    self.mprof_ok("info", self.only_dump(folder))
                else:
                    lines += 1
                    self.check_line(under, plain, "no space left on the device")
                    self.assertEqual(list(folder.iterdir()), [])
            print(f"{name}: {lines} of {SIZES} disks had no room for a dump")
            self.assertIn(lines, range(1, SIZES))

    def test_no_inode_left(self):
        folder = self.tmpfs(nr_inodes=2)
        (folder / "the last one").touch()
        plain = self.run_ends({})
        self.check_line(self.run_ends(self.library_env(dump_dir=folder)), plain, "No space left on device")

    def test_read_only(self):
        folder = self.tmpfs()
        self.assertEqual(self.run_plain("mount", "-o", "remount,ro", folder).returncode, 0)
        plain = self.run_ends({})
        self.check_line(self.run_ends(self.library_env(dump_dir=folder)), plain, "Read-only file system")

    def test_odd_places(self):
        """A device, a pipe, a folder, a file as a folder, names that are too long: nothing is opened that could act."""
        plain = self.run_ends({})
        devices = set(os.listdir("/dev"))
        pipe, file = self.dir / "pipe", self.dir / "file"
        os.mkfifo(pipe)
        file.touch()
        before = set(self.dir.iterdir())
        too_long = "File name too long"
        for place, word in {
            "/dev/full": "File exists", "/dev/null": "File exists", "/dev/tty": "File exists", pipe: "File exists",
            self.dir: "Is a directory", file / "dump": "Not a directory", self.dir / ("x" * 300): too_long,
            f"{self.dir}/{'y/' * 500}z": "No such file", f"{self.dir}/{'y/' * 5000}z": too_long,
            "/proc/self/dump": "No such file", "": "",
        }.items():  # fmt: skip
            with self.subTest(place=str(place)[:60]):
                under = self.run_ends({**self.library_env(), "MPROF_OUT": str(place)})
                self.check_line(under, plain, word) if word else self.assertEqual(under.status, plain.status)
        self.assertEqual(set(os.listdir("/dev")), devices)
        for dump in self.dumps():
            dump.unlink()
        self.assertEqual(set(self.dir.iterdir()), before)


class Later(disks.Case):
    def setUp(self):
        super().setUp()
        self.copies_of_a_library()

    def needs(self, make, *arguments):
        """What a machine has not, it has not; tmpfs, with which the rest is proven, every one has."""
        try:
            return make(*arguments)
        except disks.Unavailable as why:
            print(f"not on this machine: {why}")
            return None

    def run_when(self, folder, happens, *stages, settings=disks.EXACT, **options):
        """Something happens to the folder after the first stage. All that the program does is as without."""
        plain = self.last_words(self.start_stages(None, *stages))
        process = self.start_stages(folder, *stages, settings=settings, **options)
        self.next_stage(process)
        happens()
        self.assertEqual(self.last_words(process), plain)
        return plain

    def check_books(self, folder, plain, lossy=True):
        dump = self.only_dump(folder)
        self.mprof_ok("drain", "--once", dump)
        info = self.check_events(dump)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), plain)
        self.assertEqual(sum(info["lost"].values()) > 0, lossy, info["lost"])

    def check_full(self, folder):
        def fill():
            disks.fill(folder)
            os.sync()  # pages that were written are to be written anew

        stages = ("live", "stacks", "labels", "threads", "live")
        plain = self.run_when(folder, fill, *stages)
        disks.give_back(folder)
        self.check_books(folder, plain)

    def test_full_ext4(self):
        folder = self.needs(self.disk_of, "ext4", 40)
        if folder:
            self.check_full(folder)

    def test_full_xfs(self):
        folder = self.needs(self.disk_of, "xfs", 320)
        if folder:
            self.check_full(folder)

    def test_any_error(self):
        """Of a quota, a broken disk, a file system that is odd: as the kernel would say it, from a filter."""
        stages = ("live", "stacks", "labels")
        for error in (errno.EDQUOT, errno.EIO, errno.ENODEV, errno.EINTR, errno.EPERM, errno.ENOSYS):
            with self.subTest(error=errno.errorcode[error]):
                folder = self.tmpfs()
                fails = disks.failing_fallocate(error)
                plain = self.run_when(folder, lambda: None, *stages, preexec_fn=fails)
                self.check_books(folder, plain)

    def test_any_error_at_the_start(self):
        for error in (errno.EDQUOT, errno.EIO, errno.ENODEV):
            fails = disks.failing_fallocate(error, also_the_first=True)
            process = self.start_stages(self.tmpfs(), "live", settings=disks.EXACT, preexec_fn=fails)
            outcome = self.last_words(process)
            self.assertEqual(outcome.status, 7)
            line = rf"\Amprof: .*: {os.strerror(error)}; the program runs unprofiled\n\Z"
            self.assertRegex(outcome.err.decode(), line)

    def test_no_fallocate(self):
        """ramfs has none: the library writes zeros, as large as the file may be."""
        folder = self.mount("-t", "ramfs", "none")
        plain = self.run_when(folder, lambda: None, "stacks", "labels", "rings", "live")
        self.check_books(folder, plain, lossy=False)

    def test_no_fallocate_and_a_limit(self):
        folder = self.mount("-t", "ramfs", "none")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (7 << 20, 7 << 20))

        plain = self.run_when(folder, lambda: None, "stacks", "labels", "live", preexec_fn=limit)
        self.check_books(folder, plain)

    def test_remounted_read_only(self):
        """The kernel refuses while the dump is mapped. Afterwards, what reads a dump reads this one."""
        folder = self.tmpfs()

        def remount():
            run = self.run_plain("mount", "-o", "remount,ro", folder)
            self.assertIn("busy", run.stderr)

        plain = self.run_when(folder, remount, "live", "stacks")
        self.assertEqual(self.run_plain("mount", "-o", "remount,ro", folder).returncode, 0)
        dump, out = self.only_dump(folder), self.dir / "out"
        self.mprof_ok("info", dump)
        self.mprof_ok("top", dump)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), plain)
        for command in (("drain", dump), ("pprof", dump), ("trace", dump)):
            run = self.mprof(*command)
            self.assertEqual((run.returncode, run.stdout), (1, ""), run)
            self.assertRegex(run.stderr, r"\Amprof.*: .*\n\Z")
            self.assertEqual(run.stderr.count("\n"), 1, run)
        self.mprof_ok("trace", dump, "-o", out)

    def test_disk_cut_short(self):
        """The device ends where blocks of the dump were to be: they are lost, the program does not hear of it."""
        folder = self.needs(self.disk_of, "ext4", 40)
        if not folder:
            return

        def cut():
            (image,) = self.dir.glob("ext4-*.image")
            os.truncate(image, 1 << 16)

        self.run_when(folder, cut, "live", "stacks", "labels")
        os.sync()
        # Of the dump there may be anything now; mprof reads or refuses it.
        for dump in self.dumps(folder):
            self.assertIn(self.mprof("info", dump).returncode, (0, 1))

    def test_room_comes_back(self):
        """Tables that could not grow do so when there is room again; before, they never did."""
        folder = self.tmpfs()
        process = self.start_stages(folder, "stacks", "live", "stacks", "live", "labels", settings=disks.EXACT)
        disks.fill(folder)
        self.next_stage(process)
        self.next_stage(process)
        disks.give_back(folder)
        time.sleep(1.01)  # growth that failed often is not tried more than once a second
        dump = self.only_dump(folder)
        lost = self.info(dump)["lost"]
        self.assertGreater(lost["table full"], 0)
        under = self.last_words(process)
        self.check_books(folder, under)
        self.assertEqual(self.info(dump)["lost"], lost)


class Snapshots(disks.Case):
    """What `mprof` writes beside a dump finds no room: one line, no half file, and the dump is none the worse."""

    def setUp(self):
        super().setUp()
        self.copies_of_a_library()

    def check_refused(self, folder, *command):
        before = {path.name: path.stat().st_size for path in folder.iterdir()}
        run = self.mprof(*command)
        self.assertEqual((run.returncode, run.stdout), (1, ""), run)
        self.assertRegex(run.stderr, r"\Amprof[^\n]*: [^\n]*No space left on device[^\n]*\n\Z")
        self.assertEqual({path.name: path.stat().st_size for path in folder.iterdir()}, before, command)

    def test_every_file_of_mprof(self):
        folder = self.tmpfs()
        process = self.start_stages(folder, "stacks", "rings", "live", settings=disks.EXACT)
        self.next_stage(process)
        self.next_stage(process)
        dump = self.only_dump(folder)
        room = 0
        for room in (0, disks.PAGE, 4 * disks.PAGE):
            disks.fill(folder, room)
            self.check_refused(folder, "ctl", dump, "--snapshot", "one")
            self.check_refused(folder, "ctl", dump, "--reset")
            disks.give_back(folder)
        outcome = self.last_words(process)
        for room in (0, disks.PAGE):
            disks.fill(folder, room)
            self.check_refused(folder, "pprof", "-p", "allocs", dump)
            self.check_refused(folder, "trace", dump)
            self.check_refused(folder, "trace", dump, "--format", "perfetto")
            self.check_refused(folder, "merge", dump, dump, "-o", folder / "merged")
            self.check_refused(folder, "diff", dump, dump, "-o", folder / "difference")
            disks.give_back(folder)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), outcome)

    def sizes_of_room(self, file):
        """From nothing to all that this file takes; and takes it away."""
        pages = -(-file.stat().st_blocks * 512 // disks.PAGE)
        file.unlink()
        return sorted({pages * part // PARTS * disks.PAGE for part in range(PARTS)}), (pages + 16) * disks.PAGE

    def check_any_room(self, folder, file, *command):
        self.mprof_ok(*command)
        too_small, enough = self.sizes_of_room(file)
        for room in too_small:
            disks.fill(folder, room)
            self.check_refused(folder, *command)
            disks.give_back(folder)
        disks.fill(folder, enough)
        self.mprof_ok(*command)
        disks.give_back(folder)

    def test_traces_and_snapshots_at_any_room(self):
        folder = self.tmpfs()
        process = self.start_under(
            harness.target("trace_events"), 3, 4000, env={**disks.EXACT, "MPROF_OUT": f"{folder}/%e.mprof"}
        )
        self.assertEqual(process.wait(self.timeout_s), 0)
        dump = folder / "trace_events.mprof"
        self.mprof_ok("drain", "--once", dump)
        for form in ("go", "perfetto"):
            out = folder / f"out.{form}"
            self.check_any_room(folder, out, "trace", dump, "--format", form, "-o", out)
        self.check_any_room(folder, folder / "out.merged", "merge", dump, dump, "-o", folder / "out.merged")

    def snapshot_of_its_own(self, folder, plain, stages, room=None):
        """The one that the program took, if it could; `room` bytes are free when it does."""
        process = self.start_stages(folder, *stages, settings=disks.EXACT)
        dump = self.only_dump(folder)
        self.next_stage(process)
        if room is not None:
            disks.fill(folder, room)
        self.assertEqual(self.last_words(process), plain)
        dump.unlink()
        (folder / "filler").unlink(missing_ok=True)
        snapshots = list(folder.iterdir())
        return snapshots[0] if snapshots else None

    def test_snapshot_by_the_program(self):
        """The program goes on, and has the whole snapshot or none, and no part of it either."""
        folder, stages = self.tmpfs(), ("stacks", "snapshot", "live")
        plain = self.last_words(self.start_stages(None, *stages))
        whole = self.snapshot_of_its_own(folder, plain, stages)
        self.mprof_ok("info", whole)
        for room in self.sizes_of_room(whole)[0]:
            self.assertIsNone(self.snapshot_of_its_own(folder, plain, stages, room), f"{room} bytes free")

    def check_readable(self, dump):
        """The disk is full still: neither holes in the dump nor a journal that could not begin are damage."""
        written = ("pprof", "-o", self.dir), ("trace", "-o", self.dir / "out")
        for command in (("info",), ("top",), ("timeline",), *written):
            run = self.mprof_ok(command[0], dump, *command[1:])
            self.assertEqual(run.stderr, "")
            self.assertNotRegex(run.stdout, "(?m)^damage")

    def test_drain_at_any_room(self):
        """A journal gets what it has room for, the rest stays in the dump. Later all of it is there, once."""
        folder = self.tmpfs()
        self.last_words(self.start_stages(folder, "stacks", "labels", "live", settings=disks.EXACT))
        dump, refused = self.only_dump(folder), 0
        copies = [folder / f"copy{number}.mprof" for number in range(6)]
        for copy in copies:
            self.assertEqual(self.run_plain("cp", "--sparse=always", dump, copy).returncode, 0)
        self.mprof_ok("drain", "--once", dump)
        whole = self.check_events(dump)["events"]
        need = sum(journal.stat().st_blocks * 512 for journal in folder.glob("*.mprof.*"))
        for number, copy in enumerate(copies):
            disks.fill(folder, need * number // 5 // disks.PAGE * disks.PAGE)
            run = self.mprof("drain", "--once", copy)
            if run.returncode != 0:
                refused += 1
                self.assertEqual(run.returncode, 1, run)
                self.assertRegex(run.stderr, r"No space left on device")
                self.check_readable(copy)
            disks.give_back(folder)
            self.mprof_ok("drain", "--once", copy)
            events = self.check_events(copy)["events"]
            self.assertEqual(events["delivered"], whole["delivered"])
        print(f"{need} bytes of journals; {refused} of 6 times there was too little room")
        self.assertIn(refused, range(2, 6))


if __name__ == "__main__":
    disks.main()
