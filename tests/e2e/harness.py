# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test stands on: run a program under the library, find its dump, read it.

MPROF_BUILD names the build folder; meson sets it.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from pprof import Profile

BUILD = Path(os.environ["MPROF_BUILD"])
LIBRARY = BUILD / "preload" / "libmprof.so"
MPROF = BUILD / "dumper" / "mprof"
TARGETS = BUILD / "tests" / "targets"

# Far above what anything here needs: a test that waits longer has found a hang.
TIMEOUT_S = 120


class Run:
    """What is left of a program that ran."""

    def __init__(self, args, done):
        self.args = args
        self.returncode = done.returncode
        self.stdout = done.stdout
        self.stderr = done.stderr

    def __str__(self):
        return f"{self.args}: {self.returncode}\n{self.stdout[-2000:]}\n{self.stderr[-2000:]}"


def clean_environment(extra=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MPROF_")}
    environment.pop("LD_PRELOAD", None)
    environment.pop("DEBUGINFOD_URLS", None)
    environment["LC_ALL"] = "C"
    environment.update(extra or {})
    return environment


def target(name):
    return str(TARGETS / name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_root():
    """What makes a command run as root: nothing for root, else sudo."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


class Case(unittest.TestCase):
    """A folder of its own for each test, and the ways to run programs in it."""

    maxDiff = 4000

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="mprof-e2e-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    # Running programs

    def run_plain(self, *args, env=None, **options):
        options.setdefault("timeout", TIMEOUT_S)
        options.setdefault("cwd", self.dir)
        options.setdefault("text", True)
        args = [str(arg) for arg in args]
        return Run(args, subprocess.run(args, capture_output=True, env=clean_environment(env), **options))

    def library_env(self, rate=1, env=None, preload=(), dump_dir=None):
        dump_dir = dump_dir or self.dir
        environment = {
            "LD_PRELOAD": ":".join([str(LIBRARY), *preload]),
            "MPROF_OUT": f"{dump_dir}/%e.%p.mprof",
        }
        if rate is not None:
            environment["MPROF_HEAP_RATE"] = str(rate)
        environment.update(env or {})
        return environment

    def run_under(self, *args, rate=1, env=None, preload=(), dump_dir=None, **options):
        """Runs a program under the library, as a user does it."""
        return self.run_plain(*args, env=self.library_env(rate, env, preload, dump_dir), **options)

    def start_under(self, *args, rate=1, env=None, **options):
        """The same, without waiting for its end."""
        options.setdefault("cwd", self.dir)
        options.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen(
            [str(arg) for arg in args],
            env=clean_environment(self.library_env(rate, env)),
            **options,
        )
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process):
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream:
                stream.close()

    def mprof(self, *args, **options):
        return self.run_plain(MPROF, *args, **options)

    def mprof_ok(self, *args, **options):
        run = self.mprof(*args, **options)
        self.assertEqual(run.returncode, 0, run)
        return run

    # Their dumps

    def dumps(self, folder=None):
        """A process that finds its name taken, as after exec, adds a number."""
        names = re.compile(r".*\.mprof(\.\d+)?")
        return sorted(p for p in Path(folder or self.dir).iterdir() if names.fullmatch(p.name))

    def only_dump(self, folder=None):
        dumps = self.dumps(folder)
        self.assertEqual(len(dumps), 1, f"dumps: {dumps}")
        return dumps[0]

    def wait_for(self, condition, what, seconds=20):
        """The value of condition() as soon as it is true."""
        import time

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.01)
        self.fail(f"{what}: not within {seconds} s")

    def profile(self, dump, kind="heap", options=()):
        """The profile of a dump, or of a process by its pid."""
        with tempfile.TemporaryDirectory(dir=self.dir) as folder:
            self.mprof_ok("pprof", dump, "-p", kind, "-o", folder, *options)
            files = list(Path(folder).glob(f"*.{kind}.pb.gz"))
            self.assertEqual(len(files), 1, f"profiles: {files}")
            return Profile(files[0])

    def profile_file(self, dump, kind="heap", options=()):
        folder = self.dir / "profiles"
        folder.mkdir(exist_ok=True)
        self.mprof_ok("pprof", dump, "-p", kind, "-o", folder, *options)
        file = folder / f"{Path(dump).name}.{kind}.pb.gz"
        self.assertTrue(file.exists(), f"profiles: {list(folder.iterdir())}")
        return file

    def info(self, dump):
        return json.loads(self.mprof_ok("info", "--json", dump).stdout)

    # What must hold

    def go_pprof(self, *args):
        """`go tool pprof`, which must have nothing to complain about."""
        run = self.run_plain(
            "go", "tool", "pprof", *args, env={"PPROF_TMPDIR": str(self.dir), "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        )
        self.assertEqual(run.returncode, 0, run)
        self.assertEqual(run.stderr, "", f"go tool pprof {args}")
        return run.stdout

    def assert_same_behaviour(self, plain, under):
        self.assertEqual(under.returncode, plain.returncode, under)
        self.assertEqual(under.stdout, plain.stdout)
        self.assertEqual(under.stderr, plain.stderr)

    def assert_site(self, profile, function, objects, size_bytes, live_objects, live_bytes):
        """Exact counts below one function; objects -1 is any number."""
        found = profile.below(function)
        wanted = {
            "alloc_objects": found["alloc_objects"] if objects < 0 else objects,
            "alloc_space": size_bytes,
            "inuse_objects": live_objects,
            "inuse_space": live_bytes,
        }
        self.assertEqual(found, wanted, function)

    def assert_no_own_frames(self, profile):
        for sample in profile.samples:
            for frame in sample.frames:
                self.assertNotIn("libmprof", frame.mapping, sample)
                self.assertNotIn("mprof::preload", frame.function, sample)


main = unittest.main
