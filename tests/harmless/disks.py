# SPDX-License-Identifier: Apache-2.0
"""File systems that are small, broken or lack something, in a mount namespace of the test's own.

All of it vanishes with the test. A test that stands on this begins with disks.main().
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import harmless
import harness

PAGE = 4096

# All there is, exactly: each block, each wait, a trace. Rings are moved by the test, or by nobody.
EXACT = {**harmless.EVERYTHING, "MPROF_HEAP_RATE": "1", "MPROF_CPU_HZ": "0", "MPROF_DRAIN": "0"}


class Unavailable(Exception):
    """This machine has no such file system."""


def free_bytes(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def fill(folder, leave_bytes=0):
    """Takes all space but this; give_back() gives it back."""
    filler = folder / "filler"
    with filler.open("ab") as file:
        for unit in (1 << 20, PAGE):
            while (room := free_bytes(folder) - leave_bytes) >= unit:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room // unit * unit)
                except OSError:
                    if not take_piece(file, unit):
                        break


def take_piece(file, unit):
    """The last bytes of a file system are not always to be had in one piece."""
    try:
        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, unit)
        return True
    except OSError:
        return False


def give_back(folder):
    (folder / "filler").unlink()


def failing_fallocate(error, also_the_first=False):
    """For preexec_fn: space in files cannot be had, with this error; at their begin it can."""

    def instruction(code, value, if_so=0, if_not=0):
        return struct.pack("HBBI", code, if_so, if_not, value)

    load, is_equal, answer = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error
    fallocate, number_at, offset_at = 285, 0, 32
    program = instruction(load, number_at) + instruction(is_equal, fallocate, 0, 3)
    program += instruction(load, offset_at)
    program += instruction(is_equal, 0xFFFFFFFF if also_the_first else 0, 1, 0)
    program += instruction(answer, fail) + instruction(answer, allow)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)

    def install():
        no_new_privileges, set_seccomp, with_filter = 38, 22, 2
        if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, with_filter, header, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")

    install.kept = buffer
    return install


class Case(harmless.Case):
    def mount(self, *arguments):
        folder = Path(tempfile.mkdtemp(prefix="disk-", dir=self.dir))
        run = self.run_plain("mount", *arguments, folder)
        if run.returncode != 0:
            raise Unavailable(f"mount {' '.join(map(str, arguments))}: {run.stderr.strip()}")
        self.addCleanup(self.run_plain, "umount", "--lazy", folder)
        return folder

    def tmpfs(self, size="256m", **options):
        options = ",".join(f"{key}={value}" for key, value in {"size": size, **options}.items())
        return self.mount("-t", "tmpfs", "-o", options, "none")

    def disk_of(self, kind, mebibytes):
        """A file system of this kind in a file; the space of that file is there."""
        image = Path(tempfile.mktemp(prefix=f"{kind}-", suffix=".image", dir=self.dir))
        with image.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, mebibytes << 20)
        quiet = ["-q"] if kind in ("ext4", "xfs") else []
        run = self.run_plain(f"mkfs.{kind}", *quiet, image)
        self.assertEqual(run.returncode, 0, run)
        return self.mount("-t", kind, "-o", "loop", image)

    # A program that tests/targets/fills_tables.c is

    def copies_of_a_library(self, count=140):
        folder = self.dir / "libraries"
        folder.mkdir(exist_ok=True)
        content = (harness.TARGETS / "reload_alpha.so").read_bytes()
        for number in range(count):
            (folder / f"{number}.so").write_bytes(content)
        return folder

    def start_stages(self, folder, *stages, settings=None, **options):
        """Waits before each stage. With settings: under the library, and its dump on `folder`."""
        environment = {} if settings is None else self.library_env(None, settings, dump_dir=folder)
        process = subprocess.Popen(
            [harness.target("fills_tables"), str(self.dir / "libraries"), *stages],
            env=harness.clean_environment(environment), cwd=self.dir, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options,
        )
        self.addCleanup(self._end, process)
        process.said = b""
        self.hear(process)
        return process

    def hear(self, process):
        line = process.stdout.readline()
        process.said += line
        if not line:
            self.fail(f"it ended with status {process.wait()}: {process.stderr.read()!r}")

    def next_stage(self, process):
        process.stdin.write(b"x")
        self.hear(process)

    def last_words(self, process):
        out, err = process.communicate(b"x" * 1000, timeout=self.timeout_s)
        return harmless.Outcome(process.returncode, process.said + out, err)

    # Its books

    def blocks_of(self, outcome):
        return int(re.search(rb"(\d+) blocks", outcome.out)[1])

    def lost_blocks(self, profile):
        return sum(s.values["alloc_objects"] for s in profile.samples if s.frames[0].function.startswith("[lost: "))

    def check_truth(self, profile, outcome, hint=""):
        """Each block that the program says it allocated is in the profile once, at its place or as lost."""
        placed, truth = profile.below("fill")["alloc_objects"], self.blocks_of(outcome)
        self.assertLessEqual(placed, truth, hint)
        self.assertGreaterEqual(placed + self.lost_blocks(profile), truth, hint)

    def check_events(self, dump, hint=""):
        """All that was produced was delivered or counted as dropped."""
        info = self.info(dump)
        events = info["events"]
        told = events["delivered"] + events["dropped"] + events["without_profbuf"]
        self.assertEqual(told, events["produced"], (hint, events))
        self.assertEqual((events["gaps"], events["damaged"]), (0, 0), (hint, events))
        self.assertEqual(info["damage"], [], hint)
        return info


def unshare_mounts():
    """This process and its children see mounts of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private_and_below = 0x20000, (1 << 18) | 0x4000
    if libc.unshare(new_mounts) != 0 or libc.mount(None, b"/", None, private_and_below, None) != 0:
        raise OSError(ctypes.get_errno(), "a mount namespace of its own")


def main():
    """Runs the tests of the calling file, as root and with mounts of their own."""
    if os.geteuid() != 0:
        kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MPROF_")]
        os.execvp("sudo", [*harness.as_root(), "env", *kept, sys.executable, "-B", *sys.argv])
    unshare_mounts()
    harness.main()
