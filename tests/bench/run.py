#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark's driver. scripts/bench.sh builds what it needs and calls it."""

import argparse
import dataclasses
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
import time

import report
import session
import suite as suite_module
from results import Results

SETS = suite_module.SETS
FULL_ROUNDS = (suite_module.LIGHT, suite_module.LOCKS, suite_module.CPU, *suite_module.TRACES)
REPORTS = (("benchmarks.md", set(suite_module.HEAP_SETS) & set(SETS)),
           ("benchmarks-locks.md", {suite_module.LOCKS}),
           ("benchmarks-cpu.md", {suite_module.CPU}),
           ("benchmarks-trace.md", set(suite_module.TRACES)))


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=(
        "Measures what mprof costs beside no library, an empty interposer, heaptrack, gperftools "
        "and the samplers of tcmalloc and jemalloc."))
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, 3 rounds")
    parser.add_argument("--only", metavar="PATTERN", action="append",
                        help="workloads whose name matches, e.g. 'pair-*'; may be repeated")
    parser.add_argument("--sets", metavar="LIST", default=",".join(SETS),
                        help=f"comma-separated sets of variants, of {', '.join(SETS)}")
    parser.add_argument("--rounds", type=int, metavar="N",
                        help="rounds of the light and locks sets (default 11); the others get "
                        "a third")
    parser.add_argument("--out", metavar="FILE", help="where the report goes; default "
                        "docs/benchmarks.md for all sets of the heap, docs/benchmarks-locks.md "
                        "for the set locks, docs/benchmarks-cpu.md for the set cpu, "
                        "docs/benchmarks-trace.md for those of the trace, "
                        "nowhere for any other session")
    parser.add_argument("--raw", metavar="FILE", help="also write every single run, as JSON lines")
    parser.add_argument("--from", metavar="FILE", dest="from_raw", action="append",
                        help="measure nothing: report again what --raw wrote; may be repeated, for "
                        "sessions with different sets")
    parser.add_argument("--smoke", action="store_true",
                        help="a few milliseconds of every workload; fails only if a run fails")
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    parser.add_argument("--lib", metavar="PATH", help="the libmprof.so to measure")
    parser.add_argument("--build", metavar="DIR", help="a build folder that is ready")
    parser.add_argument("--programs", metavar="DIR", help=argparse.SUPPRESS)
    return checked(parser, parser.parse_args())


def checked(parser, options):
    unknown = [name for name in options.sets.split(",") if name not in SETS]
    if unknown:
        parser.error(f"--sets: unknown set '{unknown[0]}', known are {', '.join(SETS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds: {options.rounds} is not a positive number")
    if options.lib and not os.path.isfile(options.lib):
        parser.error(f"--lib: no such file: {options.lib}")
    # Absolute: the loader looks for a name without a slash in the library folders instead.
    options.lib = os.path.abspath(options.lib) if options.lib else ""
    options.programs = os.path.abspath(options.programs or ".")
    return options


def chosen_workloads(options):
    every = suite_module.all_workloads()
    if not options.only:
        return every
    chosen = [workload for workload in every
              if any(fnmatch.fnmatch(workload.name, pattern) for pattern in options.only)]
    if not chosen:
        sys.exit(f"--only: no workload matches {' '.join(options.only)}; --list shows them all")
    return chosen


def rounds_of_sets(options):
    most = options.rounds or (3 if options.quick else 11)
    fewer = max(most // 3, 1 if options.rounds else 2)
    wanted = options.sets.split(",")
    return {name: most if name in FULL_ROUNDS else fewer for name in SETS if name in wanted}


def progress_line(run):
    said = f"failed: {run.failure}" if run.failure else f"{run.value:.4g}"
    print(f"{run.workload:24} {run.set_name:8} {run.variant:17} round {run.round_number + 1:2} "
          f"{said}", file=sys.stderr, flush=True)


class RawFile:
    """A head line with the machine and the rounds, then a line for each run."""

    def __init__(self, path, machine, rounds):
        self.file = open(path, "w", encoding="utf-8") if path else None
        self.write({"machine": machine, "rounds": rounds})

    def write(self, record):
        if self.file:
            print(json.dumps(record), file=self.file, flush=True)

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8") as file:
            head = json.loads(file.readline())
            runs = [session.Run(**json.loads(line)) for line in file]
        return runs, head["machine"], head["rounds"]

    @classmethod
    def read_all(cls, paths):
        """Sessions as one. Facts about the machine that differ are listed side by side."""
        runs, machines, rounds = [], [], {}
        for path in paths:
            more_runs, machine, more_rounds = cls.read(path)
            if twice := rounds.keys() & more_rounds.keys():
                sys.exit(f"--from: the set '{sorted(twice)[0]}' of {path} is also in another file")
            runs += more_runs
            machines.append(machine)
            rounds |= more_rounds
        facts = dict.fromkeys(name for machine in machines for name in machine)
        return runs, {name: "; ".join(dict.fromkeys(machine[name] for machine in machines
                                                    if name in machine))
                      for name in facts}, rounds


def measure(options, suite):
    rounds = rounds_of_sets(options)
    machine = report.describe_machine()
    raw = RawFile(options.raw, machine, rounds)
    runs = []

    def on_run(run):
        runs.append(run)
        raw.write(dataclasses.asdict(run))
        progress_line(run)
    variants = suite_module.all_variants(options.lib, options.programs)
    session.run_session(suite, chosen_workloads(options), variants, rounds, on_run)
    return runs, machine, rounds


def smoke(options, suite):
    """Every workload once under each mprof variant. Says nothing about time, and fails for none."""
    failed = 0
    variants = [variant for variant in suite_module.all_variants(options.lib, options.programs)
                if variant.set_name in suite_module.SMOKES]
    for workload in chosen_workloads(options):
        start_s = time.monotonic()
        runs = [session.run_once(suite, workload, variant, 0) for set_name in workload.sets
                for variant in session.members_of(set_name, variants, workload)]
        bad = [run for run in runs if run.failure]
        failed += len(bad)
        print(f"{workload.name:24} {'FAILED' if bad else 'ok':6} "
              f"{time.monotonic() - start_s:5.1f} s")
        for run in bad:
            print(f"    {run.variant}: {run.failure}")
    return 1 if failed else 0


def write_report(path, runs, machine, rounds):
    text = report.render(Results(runs), machine, rounds, real_names())
    print(text)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"written: {os.path.relpath(path)}", file=sys.stderr)


def write_reports(options, runs, machine, rounds):
    """One file if it was named; else one for the heap, one for the locks and one for traces, if
    all of it was measured."""
    if options.out or options.quick or options.only or options.from_raw:
        write_report(options.out, runs, machine, rounds)
        return
    for name, sets in REPORTS:
        measured = [run for run in runs if run.set_name in sets]
        path = os.path.join(report.HERE, "..", "..", "docs", name)
        if measured:
            write_report(path if rounds.keys() >= sets else None, measured, machine,
                         {name: rounds[name] for name in rounds if name in sets})


def report_again(options):
    write_reports(options, *RawFile.read_all(options.from_raw))
    return 0


def real_names():
    return {workload.name for workload in suite_module.all_workloads() if workload.unit == "s"}


def main():
    options = parse_arguments()
    if options.list:
        print("\n".join(workload.name for workload in suite_module.all_workloads()))
        return 0
    if options.from_raw:
        return report_again(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that scratch folders are deleted
    data = tempfile.mkdtemp(prefix="mprof-bench-data-")
    try:
        suite = suite_module.Suite(options.programs, data, options.lib, 4 if options.quick else 1)
        if options.smoke:
            return smoke(options, suite)
        runs, machine, rounds = measure(options, suite)
        write_reports(options, runs, machine, rounds)
        return 0
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
