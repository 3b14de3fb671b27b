# SPDX-License-Identifier: Apache-2.0
"""What other CPU profilers say about the same run: samples by function of one program."""

import struct
import subprocess
from collections import Counter
from pathlib import Path


def functions_of(program):
    """[(start, end, name)] of a program, by its symbols."""
    lines = subprocess.run(["nm", "-CS", program], capture_output=True, text=True, check=True).stdout.splitlines()
    found = []
    for line in lines:
        parts = line.split(maxsplit=3)
        if len(parts) == 4 and parts[2] in "Tt":
            start = int(parts[0], 16)
            found.append((start, start + int(parts[1], 16), parts[3].partition("(")[0]))
    return found


def gperftools_samples(path, program):
    """The legacy binary form: a head of five words, then (count, depth, addresses), then the memory map."""
    data = Path(path).read_bytes()

    def words(at, count):
        return struct.unpack_from(f"<{count}Q", data, 8 * at)

    head = words(0, 5)
    if (head[0], head[1], head[2]) != (0, 3, 0):
        raise ValueError(f"{path}: head {head}")
    at, stacks = 5, []
    while True:
        count, depth = words(at, 2)
        addresses = words(at + 2, depth)
        at += 2 + depth
        if (count, depth, addresses) == (0, 1, (0,)):
            break
        stacks.append((count, addresses))
    maps = [line.split() for line in data[8 * at :].decode().splitlines()]
    base = next(int(m[0].partition("-")[0], 16) for m in maps if len(m) > 5 and m[5] == str(program) and int(m[2], 16) == 0)
    functions = functions_of(program)
    samples = Counter()
    for count, addresses in stacks:
        names = {n for start, end, n in functions if any(start <= a - base < end for a in addresses)}
        samples.update({name: count for name in names})
    return samples


def perf_works(folder):
    """Not everywhere: it may be missing, of another kernel, or forbidden."""
    try:
        return subprocess.run([*perf_record(folder / "perf.try"), "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def perf_record(path):
    return ["perf", "record", "-q", "-F", "500", "-e", "cpu-clock:u", "-o", str(path), "--"]


def perf_samples(path):
    run = subprocess.run(["perf", "script", "-i", path, "-F", "ip,sym"], capture_output=True, text=True, check=True)
    return Counter(line.split(maxsplit=1)[1].partition("(")[0] for line in run.stdout.splitlines() if line.strip())
