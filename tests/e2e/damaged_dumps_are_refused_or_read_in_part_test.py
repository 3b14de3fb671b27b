# SPDX-License-Identifier: Apache-2.0
"""Bad dumps: empty, cut anywhere, of another version, random, hostile. A clear line, never a crash."""

import random
import resource

import harness

COMMANDS = (("info",), ("top",), ("pprof", "-o", "out"), ("drain",))
MEMORY_BYTES = 4 << 30


class Damaged(harness.Case):
    def setUp(self):
        super().setUp()
        (self.dir / "out").mkdir()
        self.run_under(harness.target("truth"), 2)
        self.good = self.only_dump()
        self.bytes = self.good.read_bytes()

    def read(self, path, command):
        run = self.mprof(
            command[0], path, *command[1:], timeout=60, errors="replace",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        )
        self.assertIn(run.returncode, range(0, 100), f"a crash? {run}")
        self.assertNotIn("terminate called", run.stderr)
        return run

    def check(self, name, content, *words, commands=COMMANDS):
        """Refused with a line that names the file, or read; never anything else."""
        path = self.dir / name
        path.write_bytes(content)
        refused = 0
        for command in commands:
            run = self.read(path, command)
            if run.returncode != 0:
                refused += 1
                self.check_said(run, name, words)
        for leftover in self.dir.glob(f"{name}*"):
            leftover.unlink()
        return refused

    def check_said(self, run, name, words):
        """One line, or before it a bounded number that tell what is damaged where."""
        said = (run.stderr or run.stdout).strip().splitlines()
        self.assertIn(len(said), range(1, 100), run)
        self.assertTrue(any(name in line for line in said), run)
        for word in words:
            self.assertIn(word, said[-1])
        if len(said) > 1:
            self.assertRegex("\n".join(said), r"(?i)damage")

    def test_empty(self):
        self.assertEqual(self.check("empty.mprof", b""), len(COMMANDS))

    def test_no_such_file(self):
        run = self.mprof("info", self.dir / "nothing.mprof")
        self.assertNotEqual(run.returncode, 0)
        self.assertEqual(len(run.stderr.strip().splitlines()), 1, run)
        self.assertIn("nothing.mprof", run.stderr)

    def test_something_else(self):
        self.assertEqual(self.check("text.mprof", b"hello\n" * 5000), len(COMMANDS))
        self.assertEqual(self.check("zero.mprof", bytes(100000)), len(COMMANDS))

    def test_other_version(self):
        other = bytearray(self.bytes)
        other[8:12] = (999).to_bytes(4, "little")
        self.assertEqual(self.check("other.mprof", bytes(other), "999"), len(COMMANDS))

    def test_random_bytes(self):
        chance = random.Random(3)
        for number in range(10):
            content = chance.randbytes(chance.choice((10, 5000, 200000)))
            self.assertEqual(self.check(f"random{number}.mprof", content), len(COMMANDS))

    def test_cut(self):
        """At many places: in the header it is refused, behind it what is there is used."""
        chance = random.Random(4)
        size = len(self.bytes)
        places = [1, 8, 12, 100, 4095, 4096, 8191, 8192, 8193, size - 1, size - 4096]
        places += [chance.randrange(size) for _ in range(25)]
        for place in places:
            with self.subTest(cut_at=place):
                refused = self.check("cut.mprof", self.bytes[:place], commands=COMMANDS[:3])
                if place <= 4096:
                    self.assertEqual(refused, 3)

    def test_flipped_bytes(self):
        chance = random.Random(5)
        for number in range(40):
            content = bytearray(self.bytes)
            # Mostly near the beginning, where offsets and counts are.
            for _ in range(chance.choice((1, 10, 200))):
                reach = chance.choice((8192, len(content)))
                content[chance.randrange(16, reach)] = chance.randrange(256)
            with self.subTest(number):
                self.check("flipped.mprof", bytes(content), commands=COMMANDS[chance.randrange(3) :][:1])

    def test_damaged_tail_is_told(self):
        """What is read of a damaged dump says that something is missing."""
        path = self.dir / "half.mprof"
        path.write_bytes(self.bytes[: len(self.bytes) // 2])
        run = self.read(path, ("info",))
        said = run.stdout + run.stderr
        self.assertRegex(said, r"(?i)cut|damaged|missing|truncated|beyond|outside")


if __name__ == "__main__":
    harness.main()
