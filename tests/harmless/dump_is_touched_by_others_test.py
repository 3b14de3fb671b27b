# SPDX-License-Identifier: Apache-2.0
"""Somebody removes, moves, replaces or cuts the dump, under the program or under `mprof` that reads it."""

import os
import random
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import disks
import harmless
import harness

STAGES = ("live", "stacks", "rings", "live")
CUTS = 30 * harmless.LONGER


class UnderTheProgram(disks.Case):
    def setUp(self):
        super().setUp()
        self.copies_of_a_library()
        self.folder = self.dir / "dumps"
        self.folder.mkdir()

    def run_while(self, change, **options):
        """change(dump) happens after the first stage, and says where the dump lies then. The program is as ever."""
        plain = self.last_words(self.start_stages(None, *STAGES))
        process = self.start_stages(self.folder, *STAGES, settings=disks.EXACT, **options)
        self.next_stage(process)
        dump = change(self.only_dump(self.folder))
        under = self.last_words(process)
        self.assertEqual(under, plain)
        if dump is not None:
            self.check_frozen(dump, plain)

    def check_frozen(self, dump, plain):
        """It has what there was room for, and counts the rest."""
        self.mprof_ok("drain", "--once", dump)
        info = self.check_events(dump)
        self.assertGreater(info["lost"]["table full"], 0)
        self.assertIn("the dump could not grow", self.mprof_ok("info", dump).stdout)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), plain)

    def test_moved(self):
        def move(dump):
            return dump.rename(self.dir / "moved.mprof")

        self.run_while(move)

    def test_folder_moved(self):
        def move(dump):
            self.folder.rename(self.dir / "elsewhere")
            return self.dir / "elsewhere" / dump.name

        self.run_while(move)

    def replaced_by(self, make):
        def replace(dump):
            moved = dump.rename(self.dir / "moved.mprof")
            make(dump)
            return moved

        self.run_while(replace)

    def test_replaced_by_a_file(self):
        """Which stays as it is, although it is under the dump's name."""
        self.replaced_by(lambda name: name.write_bytes(b"precious"))
        self.assertEqual(self.only_dump(self.folder).read_bytes(), b"precious")

    def test_replaced_by_a_link(self):
        """To the dump itself even: links are not followed."""
        self.replaced_by(lambda name: name.symlink_to(self.dir / "moved.mprof"))

    def test_replaced_by_a_pipe(self):
        """Nobody waits for a reader of it."""
        self.replaced_by(os.mkfifo)

    def test_replaced_by_a_folder(self):
        self.replaced_by(lambda name: name.mkdir())

    def test_removed(self):
        """The process still has it: `mprof PID` reads it as long as that lives."""
        plain = self.last_words(self.start_stages(None, *STAGES))
        process = self.start_stages(self.folder, *STAGES, settings=disks.EXACT)
        for _ in range(2):
            self.next_stage(process)
            for dump in self.dumps(self.folder):
                dump.unlink()
        info = self.info(process.pid)
        self.assertGreater(info["lost"]["table full"], 0)
        self.assertGreater(self.profile(process.pid, "allocs").below("fill")["alloc_objects"], 0)
        self.assertEqual(self.last_words(process), plain)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_folder_removed(self):
        def remove(_):
            shutil.rmtree(self.folder)

        self.run_while(remove)

    def test_rights_taken(self):
        """Of a program that is not root's, which root would not mind."""
        self.dir.chmod(0o755)
        self.folder.chmod(0o777)
        with self.subTest("file"):
            self.run_while(self.forbidden, user=65534, group=65534, extra_groups=[])

    @staticmethod
    def forbidden(dump):
        dump.chmod(0)
        return dump

    def test_cut(self):
        """The one way to end a program by its dump: its next store there is a SIGBUS, as in any file that it mapped.

        Only its own user, and root, can do that: others may not even open it."""
        self.dir.chmod(0o755)
        self.folder.chmod(0o777)
        process = self.start_stages(self.folder, *STAGES, settings=disks.EXACT)
        self.next_stage(process)
        dump = self.only_dump(self.folder)
        for command in (["truncate", "-s", "0"], ["tee"], ["cat"]):
            run = self.run_plain("setpriv", "--reuid=65534", "--clear-groups", *command, dump, input="")
            self.assertIn("Permission denied", run.stderr)
        self.next_stage(process)
        os.truncate(dump, 0)
        self.assertEqual(self.last_words(process).status, -signal.SIGBUS)


class UnderMprof(disks.Case):
    """A dump that is cut while it is read: what is left of it is read, or refused with a line; never a signal."""

    COMMANDS = (
        ("info",), ("top",), ("pprof", "-o", "out"), ("trace", "-o", "out/trace"), ("drain", "--once"), ("locks",),
        ("timeline",), ("lifetimes",), ("merge", "-o", "out/merged"), ("threads",), ("ctl", "--snapshot", "one"),
    )  # fmt: skip

    def setUp(self):
        super().setUp()
        self.copies_of_a_library(1)
        (self.dir / "out").mkdir()
        self.last_words(self.start_stages(self.dir, "stacks", "labels", "live", settings=disks.EXACT))
        self.whole = self.only_dump().rename(self.dir / "whole")
        self.size = self.whole.stat().st_size

    def start(self, number, dump):
        command = self.COMMANDS[number % len(self.COMMANDS)]
        return command, subprocess.Popen(
            [harness.MPROF, command[0], dump, *command[1:]], cwd=self.dir, env=harness.clean_environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def test_cut_while_it_is_read(self):
        chance, ends = random.Random(11), {}
        for number in range(CUTS):
            dump = self.dir / "cut.mprof"
            shutil.copyfile(self.whole, dump)
            command, process = self.start(number, dump)
            # Cut shorter and shorter for as long as it reads.
            size = self.size
            while process.poll() is None:
                size = size * chance.randrange(1, 100) // 100 if size > 5000 else self.size
                os.truncate(dump, size)
            out, err = process.communicate()
            self.assertIn(process.returncode, (0, 1), (command, out[-500:], err[-500:]))
            if process.returncode != 0:
                self.assertRegex(err + out, r"(?m)^(mprof|damage)", command)
            ends[process.returncode] = ends.get(process.returncode, 0) + 1
            for file in self.dir.glob("cut.*"):
                file.unlink()
        print(f"{CUTS} commands whose dump was cut ended so: {ends}")

    def test_cut_while_it_is_served(self):
        dump, port = self.dir / "served.mprof", harness.free_port()
        shutil.copyfile(self.whole, dump)
        server = subprocess.Popen(
            [harness.MPROF, "serve", dump, "--listen", f"127.0.0.1:{port}"], cwd=self.dir,
            env=harness.clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(self._end, server)

        def ask():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/debug/pprof/allocs", timeout=60).status
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                return 0

        self.wait_for(lambda: ask() == 200, "the server answers")
        for size in (self.size // 2, 100000, 8192, 4096, 100, 0, self.size):
            os.truncate(dump, size)
            self.assertIn(ask(), range(200, 600), size)
            self.assertIsNone(server.poll())
        shutil.copyfile(self.whole, dump)
        self.assertEqual(ask(), 200)


if __name__ == "__main__":
    disks.main()
