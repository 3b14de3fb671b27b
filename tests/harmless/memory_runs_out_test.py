# SPDX-License-Identifier: Apache-2.0
"""The kernel ends a program for its memory: the dump has all that it did up to the last call.

In a memory cgroup of its own, version 2 or 1. Where the machine lets nobody make one, the test says so, and the program
ends by SIGKILL at the limit of its address space instead.
"""

import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import disks
import harmless
import harness
import storm_truth

LIMITS_MIB = (24, 48, 64) * harmless.LONGER
SETTINGS = {
    "exact": disks.EXACT,
    # Its drainer lies in the same cgroup, and may be ended first.
    "with a drainer": {name: value for name, value in disks.EXACT.items() if name != "MPROF_DRAIN"},
}


class Cgroup:
    """One with a limit for memory, for what is started with join() as its preexec_fn."""

    def __init__(self, bytes_at_most):
        self.folder = self.make()
        v2 = (self.folder / "cgroup.controllers").exists()
        (self.folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(bytes_at_most))
        with contextlib.suppress(OSError):  # there is a word for it only where swap is counted
            name = "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"
            (self.folder / name).write_text("0" if v2 else str(bytes_at_most))

    @staticmethod
    def make():
        """A new one below the first hierarchy that has memory and lets us."""
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, kind, options, *_ = line.split()
            folder = Path(place) / f"mprof-test-{os.getpid()}-{time.monotonic_ns()}"
            is_v1 = kind == "cgroup" and "memory" in options.split(",")
            with contextlib.suppress(OSError):
                if kind == "cgroup2" and "memory" in (Path(place) / "cgroup.controllers").read_text().split():
                    (Path(place) / "cgroup.subtree_control").write_text("+memory")
                elif not is_v1:
                    continue
                folder.mkdir()
                return folder
        raise disks.Unavailable("no memory cgroup can be made")

    def join(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self):
        return (self.folder / "cgroup.procs").read_text().split()

    def kills(self):
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                words = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(words["oom_kill"])
        return 0

    def remove(self):
        self.folder.rmdir()


class NoMemory(disks.Case):
    def make_cgroup(self, bytes_at_most):
        try:
            return Cgroup(bytes_at_most)
        except disks.Unavailable as why:
            print(f"{why}; a limit of the address space and SIGKILL stand for it")
            return None

    def run_out(self, folder, settings, mebibytes):
        """Until the kernel ends it. Its dump, and its own truth."""
        counters = folder / "counters"
        cgroup = self.make_cgroup(mebibytes << 20)

        def limit_address_space():
            # mprof maps some 40 MiB of address space, of which it uses little.
            resource.setrlimit(resource.RLIMIT_AS, ((mebibytes + 64) << 20,) * 2)

        environment = {} if settings is None else self.library_env(None, settings, dump_dir=folder)
        outcome = self.run_watched(
            harness.target("eats_memory"), counters, environment=environment, cwd=folder,
            preexec_fn=cgroup.join if cgroup else limit_address_space,
        )  # fmt: skip
        self.assertEqual((outcome.status, outcome.out, outcome.err), (-signal.SIGKILL, b"", b""))
        if cgroup:
            self.assertGreaterEqual(cgroup.kills(), 1)
            self.wait_for(lambda: not cgroup.processes(), "its drainer has ended")
            cgroup.remove()
        return storm_truth.read(counters)

    def check(self, folder, settings, mebibytes):
        truth = self.run_out(folder, settings, mebibytes)
        self.assertGreater(truth.allocs_ended, 10)
        dump = self.only_dump(folder)
        # The program's own drainer may be at it still.
        self.wait_for(lambda: self.mprof("drain", "--once", dump).returncode == 0, "it is drained")
        events = self.check_events_of_killed(dump)
        found = self.profile(dump, "heap", ["--symbols=names"]).below("eat")
        for name, begun in (("objects", truth.allocs_begun), ("space", truth.bytes_begun)):
            one = 1 if name == "objects" else 100000
            self.assertIn(found[f"alloc_{name}"], (begun - one, begun))
            self.assertEqual(found[f"inuse_{name}"], found[f"alloc_{name}"])
        for file in folder.iterdir():
            file.unlink()
        return events["produced"]

    def check_events_of_killed(self, dump):
        """The thread may have been between its bucket and its ring."""
        info = self.info(dump)
        events = info["events"]
        told = events["delivered"] + events["dropped"] + events["without_profbuf"]
        self.assertIn(events["produced"] - told, (0, 1), events)
        self.assertEqual((events["gaps"], events["damaged"], info["damage"]), (0, 0, []))
        self.assertFalse(info["ended_cleanly"])
        return events

    def check_folder(self, folder):
        without = self.run_out(folder, None, 24)
        self.assertGreater(without.allocs_ended, 10)
        (folder / "counters").unlink()
        for name, settings in SETTINGS.items():
            produced = [self.check(folder, settings, mebibytes) for mebibytes in LIMITS_MIB]
            print(f"{name}: {produced} events")

    def test_dump_on_a_disk(self):
        folder = self.dir / "dumps"
        folder.mkdir()
        self.check_folder(folder)

    def test_dump_in_memory(self):
        """On tmpfs its pages count as the program's memory."""
        self.check_folder(self.tmpfs())


if __name__ == "__main__":
    disks.main()
