# SPDX-License-Identifier: Apache-2.0
"""Programs whose trace is read from the rings of their dump."""

import shutil
import struct

import api_program
import harness
import trace_rings


class Trace:
    """The records of a dump, and the texts and stacks that they name."""

    def __init__(self, path):
        self.dump = trace_rings.Dump(path)
        self.records = trace_rings.records_of(path)

    def of(self, *kinds):
        return [r for r in self.records if r.kind in kinds]

    def text(self, row):
        """What begins there in the string table."""
        text = b""
        while not text.endswith(b"\0"):
            text += self.dump.row("Strings", row + len(text))
        return text[:-1].decode()

    def caller(self, record):
        """The address of the innermost frame."""
        return struct.unpack_from("<Q", self.dump.row("StackNodes", record.stack))[0] - 1

    def said(self):
        """What the program itself wrote, in order: kind, arguments, with names as text."""
        for r in self.of("TaskBegin", "TaskEnd", "RegionBegin", "RegionEnd", "Log"):
            if r.kind == "Log":
                category = self.text(r.arguments[1] - 1) if r.arguments[1] != 0 else None
                yield r.kind, r.arguments[0], category, r.text.decode()
            elif r.kind == "TaskEnd":
                yield r.kind, *r.arguments
            else:
                yield r.kind, *r.arguments[:-1], self.text(r.arguments[-1])


class Case(api_program.Case):
    def run_undrained(self, program, rate=0, env=None):
        """With a library that finds no drainer beside it, so that the rings keep what is in them."""
        library = shutil.copy(harness.LIBRARY, self.dir)
        return self.run_under(program, rate=rate, env={"LD_PRELOAD": library, **(env or {})})

    def trace_of(self, program, **options):
        """What it prints, and its trace."""
        run = self.run_undrained(program, **options)
        self.assertEqual(run.returncode, 0, run)
        return run.stdout, Trace(self.only_dump())
