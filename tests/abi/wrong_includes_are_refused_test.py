# SPDX-License-Identifier: Apache-2.0
"""scripts/check_layers.py must refuse each arrow between folders that is not allowed."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_layers.py"
RIGHT = {
    "format/a.h": "#include <cstdint>\n",
    "preload/a.cc": '#include <pthread.h>\n#include <atomic>\n#include "format/a.h"\n',
    "preload/mprof.h": "#include <stdint.h>\n",
    "dumper/a.cc": '#include <string>\n#include "format/a.h"\n#include "dumper/b.h"\n',
    "dumper/b.h": "",
    "tests/unit/a.cc": '#include "preload/a.h"\n#include "dumper/b.h"\n',
}
WRONG = {
    "format/b.h": ['#include "preload/a.h"', '#include "dumper/a.h"', "#include <string>", '#include "b.h"'],
    "preload/b.cc": [
        '#include "dumper/a.h"',
        '#include "tests/unit/a.h"',
        "#include <vector>",
        "# include <mutex>",
        '#include"dumper/b.h"',
        "#include NAME",
        "import std;",
    ],
    "preload/sub/b.hpp": ['#include "dumper/a.h"'],
    "preload/mprof.h": ['#include "preload/a.h"'],
    "dumper/c.cc": ['#include "preload/a.h"'],
    "other/a.c": [""],
    "a.c": [""],
}


class Layers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("scripts/check_layers.py", SCRIPT.read_text())

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, files=RIGHT):
        for name, text in files.items():
            self.write(name, text)
        command = [sys.executable, "-B", self.root / "scripts" / "check_layers.py"]
        return subprocess.run(command, capture_output=True, text=True)

    def test_right_ones_are_not(self):
        run = self.check()
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_wrong_ones(self):
        for name, lines in WRONG.items():
            for line in lines:
                with self.subTest(file=name, line=line):
                    run = self.check({**RIGHT, name: f"// a\n{line}\n"})
                    self.assertEqual(run.returncode, 1, run.stdout)
                    self.assertRegex(run.stderr, rf"\A{name}:[12]: .*\n\Z")
                    (self.root / name).unlink()

    def test_layer_that_is_not_there(self):
        self.check()
        shutil.rmtree(self.root / "preload")
        command = [sys.executable, "-B", self.root / "scripts" / "check_layers.py"]
        run = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stderr), (1, "preload/: no code found\n"))


if __name__ == "__main__":
    unittest.main()
