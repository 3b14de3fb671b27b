# SPDX-License-Identifier: Apache-2.0
"""What a program of known waits says of itself: the lines that targets/lock_truth.cc prints."""

import tempfile
from collections import namedtuple
from pathlib import Path

from pprof import Profile, is_function

Row = namedtuple("Row", "profile site waits count least_ns most_ns lock victims")


def rows_of(text):
    rows = []
    for line in text.splitlines():
        profile, site, waits, count, least_ns, most_ns, lock, victims = line.split("\t")
        numbers = [int(text) for text in (count, least_ns, most_ns)]
        rows.append(Row(profile, site, waits.split("|"), *numbers, lock, victims.split("|")))
    return rows


def on_stack(sample, function):
    return any(is_function(frame.function, function) for frame in sample.frames)


def rows_for(sample, rows):
    """The rows that a sample can belong to: one, or the sample is wrong."""
    return [r for r in rows if sample.labels.get("wait") in r.waits and on_stack(sample, r.site)]


def contention_profiles(case, dump, kinds=("block", "mutex", "threadcreate")):
    """{kind: profile}, all written at once."""
    with tempfile.TemporaryDirectory(dir=case.dir) as folder:
        case.mprof_ok("pprof", dump, "-p", ",".join(kinds), "-o", folder)
        files = {kind: list(Path(folder).glob(f"*.{kind}.pb.gz")) for kind in kinds}
        case.assertEqual([len(f) for f in files.values()], [1] * len(kinds), files)
        return {kind: Profile(f[0]) for kind, f in files.items()}
