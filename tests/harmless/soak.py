# SPDX-License-Identifier: Apache-2.0
"""Runs everything that looks for harm, over and over for some hours: soak.py HOURS --build DIR

A case is a test of this folder, a storm of ../e2e at its full length, or a fuzzer for a while. Each
runs in a process of its own, which is killed if it hangs; what a failed one said is kept. At the end,
or when interrupted: a table of cases, runs and failures.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).parent
E2E = HERE.parent / "e2e"
FUZZ = HERE.parent / "fuzz"

# What is bounded in the suite, and for how long it goes on here.
STORMS = {
    "locks_under_storm_do_not_hang": {"MPROF_STORM_SECONDS": "60"},
    "cpu_samples_under_storm_do_no_harm": {"MPROF_STORM_SECONDS": "60"},
    "target_is_killed_at_any_instant": {"MPROF_TEST_KILLS": "2000"},
    "trace_survives_kills": {"MPROF_KILLS": "100"},
    "trace_of_many_events": {"MPROF_TRACE_EVENTS": "10000000"},
}
FUZZ_SECONDS = 60
LONGEST_RUN_S = 1800


@dataclasses.dataclass
class Case:
    name: str
    command: list
    environment: dict = dataclasses.field(default_factory=dict)
    runs: int = 0
    failures: int = 0
    longest_s: float = 0


def test_names(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from test_names(entry)
        else:
            yield entry.id()


def harmless_cases():
    suite = unittest.defaultTestLoader.discover(str(HERE), "*_test.py", str(HERE))
    if unittest.defaultTestLoader.errors:
        sys.exit("\n".join(unittest.defaultTestLoader.errors))
    for name in test_names(suite):
        module, test = name.split(".", 1)
        yield Case(
            f"{module.removesuffix('_test')}: {test}",
            [sys.executable, "-B", str(HERE / f"{module}.py"), test],
            {"MPROF_SOAK": "3"},
        )


def storm_cases():
    for name, environment in STORMS.items():
        yield Case(name, [sys.executable, "-B", str(E2E / f"{name}_test.py")], environment)


def fuzz_cases(build):
    """Each goes on where the ones before stopped: what they found worth keeping is in `found`."""
    for source in sorted(FUZZ.glob("*_fuzz.cc")):
        found = build / "found" / source.stem
        found.mkdir(parents=True, exist_ok=True)
        corpus = FUZZ / "corpus" / source.stem.removesuffix("_fuzz")
        folders = [str(found), *([str(corpus)] if corpus.exists() else [])]
        command = [str(build / "tests" / "fuzz" / source.stem), f"-max_total_time={FUZZ_SECONDS}"]
        yield Case(f"fuzz: {source.stem}", [*command, "-rss_limit_mb=2048", *folders])


def run_once(case, log):
    with log.open("wb") as out:
        process = subprocess.Popen(
            case.command, env={**os.environ, **case.environment}, cwd=log.parent, start_new_session=True,
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            return process.wait(LONGEST_RUN_S) == 0
        except subprocess.TimeoutExpired:
            out.write(f"\nnot over within {LONGEST_RUN_S} s\n".encode())
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Soak:
    def __init__(self, cases, logs, seconds):
        self.cases = cases
        self.logs = logs
        self.end = time.monotonic() + seconds
        self.begin = time.monotonic()

    def is_over(self):
        return time.monotonic() >= self.end

    def attend(self, case):
        if self.is_over():
            return
        begin = time.monotonic()
        log = self.logs / f"{re.sub('[^A-Za-z0-9_.]+', '-', case.name)}.{case.runs + 1}.log"
        passed = run_once(case, log)
        case.runs += 1
        case.longest_s = max(case.longest_s, time.monotonic() - begin)
        if passed:
            log.unlink()
        else:
            case.failures += 1
        print(f"{'ok    ' if passed else 'FAILED'} {case.name} ({time.monotonic() - begin:.0f} s)", file=sys.stderr)

    def run(self, jobs):
        """Rounds of all cases, each in another order, so that other ones run side by side."""
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            try:
                while not self.is_over():
                    order = random.sample(self.cases, len(self.cases))
                    list(pool.map(self.attend, order))
            except KeyboardInterrupt:
                self.end = 0  # those that run end, no other begins

    def table(self):
        hours = (time.monotonic() - self.begin) / 3600
        rows = [f"| {c.name} | {c.runs} | {c.failures} | {c.longest_s:.0f} s |" for c in self.cases]
        runs, failures = sum(c.runs for c in self.cases), sum(c.failures for c in self.cases)
        return "\n".join([
            f"{time.strftime('%Y-%m-%d')}, {hours:.2f} hours, Linux {platform.release()}, "
            f"{'-'.join(platform.libc_ver())}, {os.cpu_count()} cores",
            "",
            "| case | runs | failures | longest |",
            "|---|---|---|---|",
            *rows,
            f"| **all {len(rows)}** | **{runs}** | **{failures}** | |",
        ])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(prog="soak.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("hours", type=float, metavar="HOURS", help="how long, 0.1 or more; the last round is cut short")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases whose names match, as *fuzz*")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time; default: one for each core")
    parser.add_argument("--logs", type=Path, default=Path("soak-logs"), help="folder for what failed runs said")
    parser.add_argument("--build", type=Path, required=True, help="build with tests")
    parser.add_argument("--fuzz-build", type=Path, help="build with fuzzers; none: they are left out")
    options = parser.parse_args()
    if not options.list and not 0 < options.hours < 10000:
        parser.error(f"HOURS is {options.hours:g}; accepted: a number above 0")
    os.environ |= {"MPROF_BUILD": str(options.build.resolve()), "MPROF_SOURCE": str(HERE.resolve().parent.parent)}
    cases = [*harmless_cases(), *storm_cases()]
    if options.fuzz_build:
        cases += fuzz_cases(options.fuzz_build.resolve())
    cases = [case for case in cases if fnmatch.fnmatch(case.name, options.only)]
    if not cases:
        parser.error(f"no case matches {options.only!r}; --list names them")
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    logs = options.logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    soak = Soak(cases, logs, options.hours * 3600)
    soak.run(options.jobs)
    print(soak.table())
    failed = any(case.failures for case in cases)
    if failed:
        print(f"what failed runs said is in {logs}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
