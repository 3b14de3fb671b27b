# SPDX-License-Identifier: Apache-2.0
"""The records of a dump's trace rings, as format/trace_ring.h has them: what no drainer took."""

import bisect
import re
import struct
import subprocess
from collections import namedtuple
from pathlib import Path

from pprof import varint

Record = namedtuple("Record", "kind ticks thread core stack arguments text")

BLOCK = 4096
NO_ROW = 0xFFFFFFFF
SOURCE = Path(__file__).resolve().parents[2] / "format"


def enumerators(file, name):
    """The names of an enum, without their k, in order."""
    text = (SOURCE / file).read_text()
    body = re.search(r"enum class %s : \w+ \{(.*?)\};" % name, text, re.DOTALL)[1]
    body = re.sub(r"//.*|/\*.*?\*/", "", body)
    return re.findall(r"\bk(\w+)\b", body)


TABLES = enumerators("dump.h", "TableId")
KINDS = enumerators("trace_record.h", "TraceKind")
WAITS = enumerators("label_table.h", "WaitKind")
# Of each kind: how many arguments, and which of them is an object or -1.
SHAPES = [
    (int(count), int(which))
    for count, which in re.findall(r'\{"[\w ]+", (\d), (-?\d)\}', (SOURCE / "trace_record.h").read_text())
]


class Dump:
    """The tables of a dump, row by row."""

    FIRST_TABLE_AT = 168  # of format version 4

    def __init__(self, path):
        self.bytes = Path(path).read_bytes()
        self.directories = {}
        directory = struct.Struct("<IIQ24Q")
        for i, name in enumerate(TABLES):
            row_bytes, first_rows, used, *chunks = directory.unpack_from(
                self.bytes, self.FIRST_TABLE_AT + i * directory.size
            )
            self.directories[name] = (row_bytes, first_rows, used, chunks)

    def used(self, table):
        return self.directories[table][2]

    def row(self, table, number, rows=1):
        row_bytes, first_rows, _, chunks = self.directories[table]
        chunk = 0 if number < first_rows else (number // first_rows).bit_length()
        before = 0 if chunk == 0 else first_rows << (chunk - 1)
        begin = chunks[chunk] + (number - before) * row_bytes
        return self.bytes[begin : begin + rows * row_bytes]


class Ring:
    def __init__(self, dump, number, ring_bytes):
        head = dump.row("TraceRings", number)
        self.written, self.dropped, self.first_drop, _, self.reported = struct.unpack_from("<5Q", head)
        (self.released,) = struct.unpack_from("<Q", head, 64)
        self.data = dump.row("TraceData", number * ring_bytes, ring_bytes)

    def records(self):
        """Of every block that begins at or behind what was released."""
        begin = -(-self.released // BLOCK) * BLOCK
        for position in range(begin, self.written, BLOCK):
            at = position % len(self.data)
            yield from block_records(self.data[at : at + min(BLOCK, self.written - position)])


def unzigzag(code):
    return code >> 1 ^ -(code & 1)


def block_records(data):
    ticks, thread, core = struct.unpack_from("<QII", data)
    object_ = 0
    at = 16
    while at < len(data) and data[at] != 0:
        head = data[at]
        kind = head & 0x3F
        since, at = varint(data, at + 1)
        ticks += since
        if head & 0x40:
            core, at = varint(data, at)
        stack = None
        if head & 0x80:
            stack, at = varint(data, at)
        arguments = []
        for i in range(SHAPES[kind][0]):
            value, at = varint(data, at)
            if i == SHAPES[kind][1]:
                value = object_ = (object_ + unzigzag(value)) % 2**64
            arguments.append(value)
        text = None
        if KINDS[kind] == "Log":
            length, at = varint(data, at)
            text, at = data[at : at + length], at + length
        yield Record(KINDS[kind], ticks, thread, core, stack, arguments, text)


def rings_of(dump, ring_bytes=1 << 18):
    return [Ring(dump, number, ring_bytes) for number in range(dump.used("TraceRings"))]


class Functions:
    """The names on a stack, leaf first, of functions that `nm` finds in the executable."""

    def __init__(self, dump, program):
        self.dump = dump
        self.program = str(program)
        lines = subprocess.run(["nm", "-C", "-n", program], capture_output=True, text=True, check=True).stdout
        found = re.findall(r"^([0-9a-f]+) [tTwW] (.*)$", lines, re.MULTILINE)
        self.starts = [int(address, 16) for address, _ in found]
        self.names = [name.split(".")[0] for _, name in found]  # .isra.0 and the like

    def load_bias(self, module):
        row = self.dump.row("Modules", module)
        bias, path, length = *struct.unpack_from("<Q", row, 16), *struct.unpack_from("<II", row, 64)
        return bias if self.dump.row("Strings", path, length).rstrip(b"\0").decode() == self.program else None

    def on(self, stack):
        names = []
        while stack is not None and stack > 2:
            pc, stack, module = struct.unpack_from("<QII", self.dump.row("StackNodes", stack))
            bias = self.load_bias(module) if module != NO_ROW else None
            if bias is not None:
                names.append(self.names[bisect.bisect_right(self.starts, pc - 1 - bias) - 1])
        return names


def records_of(path):
    """All records of all threads, by their time."""
    dump = Dump(path)
    return sorted((r for ring in rings_of(dump) for r in ring.records()), key=lambda r: r.ticks)


if __name__ == "__main__":
    import sys

    for record in records_of(sys.argv[1]):
        print(*record)
