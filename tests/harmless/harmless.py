# SPDX-License-Identifier: Apache-2.0
"""What every test here stands on: a program without the library, then with it in each setting.

What it printed, how it ended and the files it left must be equal, and it must end in time. Of what
the library left every dump must be readable.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))

import harness  # noqa: E402  found by the line above

# All there is, at rates that are far above any use, and looked at meanwhile by Disturber.
EVERYTHING = {
    "MPROF_HEAP_RATE": "4096",
    "MPROF_BLOCK_RATE": "1",
    "MPROF_MUTEX_FRACTION": "1",
    "MPROF_CPU_HZ": "1000",
    "MPROF_MMAP": "1",
    "MPROF_TRACE": "1",
}
SETTINGS = {"default": {}, "everything": EVERYTHING}

# Set for runs without a bound: what a test repeats, it may repeat that many times more.
LONGER = int(os.environ.get("MPROF_SOAK", "1"))

DUMP = re.compile(r".*\.(\d+)\.mprof(\.\d+)?")
MOST_DUMPS_READ = 12


@dataclasses.dataclass
class Outcome:
    """All that somebody outside can see of a program that ran. Negative status: its signal."""

    status: int
    out: bytes
    err: bytes
    files: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        return f"status {self.status}\n{self.out[-2000:]!r}\n{self.err[-2000:]!r}\n{sorted(self.files)}"


def files_below(folder, ignored=None):
    """What a program left: for each path its kind and rights, and what is in it."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if ignored and re.search(ignored, name):
            continue
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(mode):
            content = os.readlink(path)
        found[name] = (stat.filemode(mode), content)
    return found


def stacks_of_group(group):
    """Where the processes of a group are that did not end: for whoever reads of the failure."""
    text = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[2]) != group:
                continue
            text.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
            for task in sorted((entry / "task").iterdir()):
                text.append(f"  {task.name} {(task / 'wchan').read_text()} {(task / 'syscall').read_text().strip()}")
            command = ["gdb", "-p", entry.name, "-batch", "-ex", "thread apply all backtrace 20"]
            if shutil.which("gdb"):
                text.append(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout[-6000:])
    return "\n".join(text)


class Disturber:
    """Asks the processes that write dumps into a folder for snapshots, stacks and profiles."""

    def __init__(self, folder, scratch):
        self.folder = folder
        self.scratch = scratch
        self.crashes = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        number = 0
        while not self._over.wait(0.1):
            for pid in self._pids()[:4]:
                number += 1
                self._ask(pid, number)

    def _pids(self):
        with contextlib.suppress(OSError):
            names = [DUMP.fullmatch(name) for name in os.listdir(self.folder)]
            return sorted({match[1] for match in names if match and os.path.exists(f"/proc/{match[1]}")})
        return []

    def _ask(self, pid, number):
        questions = (
            ("threads", pid),
            ("ctl", pid, "--snapshot", f"s{number}"),
            ("pprof", "-p", "heap,block,mutex,cpu", "-o", self.scratch, pid),
        )
        # That it finds nobody any more is fine; that it crashes or hangs is not.
        run = subprocess.run(
            [harness.MPROF, *questions[number % len(questions)]],
            env=harness.clean_environment({"MPROF_OUT": f"{self.folder}/%e.%p.mprof"}),
            capture_output=True,
            timeout=harness.TIMEOUT_S,
        )
        if run.returncode not in (0, 1, 2):
            self.crashes.append(run)


class Case(harness.Case):
    settings = SETTINGS
    timeout_s = 120

    def setUp(self):
        super().setUp()
        self.work = self.dir / "work"  # where programs run: the same path each time
        self.dumps_folder = self.dir / "dumps"

    def environment_of(self, settings, preload=()):
        """What puts the library into a program; nothing for None."""
        if settings is None:
            return {"LD_PRELOAD": ":".join(preload)} if preload else {}
        return self.library_env(None, settings, preload, self.dumps_folder)

    def check_unchanged(self, *command, ignored=None, clean=None, prepare=None, leaves_dumps=True,
                        preload=(), **options):  # fmt: skip
        """Runs a command in an empty folder, which prepare() may fill first.

        `ignored`: a pattern for names of files that differ by nature; `clean` makes out of the output
        what is compared. The other options are those of run_watched().
        """

        def run(environment):
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
            if prepare:
                prepare()
            outcome = self.run_watched(*command, environment=environment, **options)
            outcome.files = files_below(self.work, ignored)
            if clean:
                outcome.out, outcome.err = clean(outcome.out), clean(outcome.err)
            return outcome

        return self.check_same(run, leaves_dumps, preload)

    def check_same(self, run, leaves_dumps=True, preload=()):
        """run(environment) must give the same in every setting; returns what that was."""
        plain = run(self.environment_of(None, preload))
        for name, settings in self.settings.items():
            with self.subTest(settings=name):
                shutil.rmtree(self.dumps_folder, ignore_errors=True)
                self.dumps_folder.mkdir()
                self.dumps_folder.chmod(0o1777)  # a program may become another user
                with self.disturbed(settings):
                    under = run(self.environment_of(settings, preload))
                self.assertEqual(under, plain, f"{name}:\n{under}\nwithout the library:\n{plain}")
                self.check_dumps(leaves_dumps)
        return plain

    @contextlib.contextmanager
    def disturbed(self, settings):
        if not settings:
            yield
            return
        scratch = self.dir / "asked"
        scratch.mkdir(exist_ok=True)
        with Disturber(self.dumps_folder, scratch) as disturber:
            yield
        self.assertEqual(disturber.crashes, [])

    def run_watched(self, *command, environment=None, stdin=b"", env=None, timeout_s=None, **options):
        """Runs to the end; what does not end is described, killed and a failure."""
        timeout_s = timeout_s or self.timeout_s
        options.setdefault("cwd", self.work)
        process = subprocess.Popen(
            [str(word) for word in command],
            env=harness.clean_environment({**(env or {}), **(environment or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        try:
            out, err = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired:
            where = stacks_of_group(process.pid)
            self.fail(f"{command}: not over within {timeout_s} s\n{where}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
        return Outcome(process.returncode, out, err)

    def check_dumps(self, leaves_dumps):
        dumps = self.dumps(self.dumps_folder)
        if leaves_dumps:
            self.assertNotEqual(dumps, [], "the library was not there")
        for dump in dumps[:: len(dumps) // MOST_DUMPS_READ + 1]:
            self.mprof_ok("info", dump)
            self.mprof_ok("pprof", "-o", self.dir / "asked-after", dump)


main = harness.main
