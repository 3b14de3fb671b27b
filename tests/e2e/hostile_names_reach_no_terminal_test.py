# SPDX-License-Identifier: Apache-2.0
"""A program whose name, arguments and threads' names are escape sequences: no command sends them to the terminal."""

import os
import shutil
import unittest

import harness

EVIL = "a\x1b]0;title\x07\x1b[2Jb"
COMMANDS = (
    ("info",), ("top",), ("top", "--block"), ("locks",), ("threads",), ("timeline",), ("lifetimes",),
    ("trace", "--summary"), ("diff",), ("pprof", "--text", "-o", "out"),
)  # fmt: skip


class HostileNames(harness.Case):
    def assert_clean(self, text, what):
        left = {c for c in text if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0"}
        self.assertEqual(left, set(), f"{what}: {text[:2000]!r}")

    def run_evil(self, *args, env=None):
        program = self.dir / EVIL
        shutil.copy(harness.target("truth"), program)
        run = self.run_under(program, *args, env={"MPROF_TRACE": "1", "MPROF_BLOCK_RATE": "1", **(env or {})})
        self.assertEqual(run.returncode, 0, run)
        dump = self.dir / "plain.mprof"
        os.rename(self.only_dump(), dump)
        for journal in (".journal", ".trace"):
            for path in self.dir.glob(f"*.mprof{journal}"):
                os.rename(path, f"{dump}{journal}")
        return dump

    def test_reports(self):
        dump = self.run_evil(2)
        (self.dir / "out").mkdir()
        for command in COMMANDS:
            second = [dump] if command == ("diff",) else []
            run = self.mprof(command[0], dump, *second, *command[1:])
            self.assertEqual(run.returncode, 0, run)
            self.assert_clean(run.stdout + run.stderr, command)
        self.assertIn("a?]0;title??[2Jb", self.mprof_ok("info", dump).stdout)
        for path in (self.dir / "out").iterdir():
            self.assert_clean(path.read_text(errors="replace"), path)

    def test_complaints(self):
        """Of damage, and of a file that is no dump at all."""
        dump = self.run_evil(2)
        content = bytearray(dump.read_bytes())
        content[168:172] = (7).to_bytes(4, "little")  # row size of the first table
        hurt = self.dir / f"hurt{EVIL}.mprof"
        hurt.write_bytes(content)
        run = self.mprof("top", hurt)
        self.assertIn("damage", run.stderr)
        self.assert_clean(run.stderr, "damage")
        text = self.dir / f"text{EVIL}"
        text.write_text("hello")
        for command in ("info", "top", "diff"):
            run = self.mprof(command, text, *([text] if command == "diff" else []))
            self.assertNotEqual(run.returncode, 0, run)
            self.assert_clean(run.stderr, command)


if __name__ == "__main__":
    unittest.main()
