# SPDX-License-Identifier: Apache-2.0
"""The dump is a new file of mode 0600: no link is followed, nothing that exists is touched."""

import os
import stat

import harness


class DumpFile(harness.Case):
    def run_at(self, path):
        run = self.run_under(harness.target("ends"), "return", env={"MPROF_OUT": str(path)})
        self.assertEqual((run.returncode, run.stdout), (7, ""), run)
        return run

    def others(self, *known):
        return [p for p in self.dir.rglob("*") if p.is_file() and not p.is_symlink() and p not in known]

    def check_elsewhere_or_said(self, run, path, *known):
        """What was in the way is clear: either the dump has another name or one line says why not."""
        new = self.others(*known)
        if new:
            self.assertEqual(len(new), 1, new)
            self.assert_site(self.profile(new[0]), "known_amount", 100, 123400, 60, 74040)
        else:
            self.assertEqual(len(run.stderr.splitlines()), 1, run)
            self.assertIn(str(path), run.stderr)

    def test_mode(self):
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.run_at(self.dir / "dump.mprof")
        mode = (self.dir / "dump.mprof").stat().st_mode
        self.assertTrue(stat.S_ISREG(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_existing_file(self):
        path = self.dir / "dump.mprof"
        path.write_text("mine")
        run = self.run_at(path)
        self.assertEqual(path.read_text(), "mine")
        self.check_elsewhere_or_said(run, path, path)

    def test_symbolic_link(self):
        victim, path = self.dir / "victim", self.dir / "dump.mprof"
        victim.write_text("precious")
        path.symlink_to(victim)
        run = self.run_at(path)
        self.assertEqual(victim.read_text(), "precious")
        self.assertTrue(path.is_symlink())
        self.check_elsewhere_or_said(run, path, victim)

    def test_dangling_link(self):
        path = self.dir / "dump.mprof"
        path.symlink_to(self.dir / "nowhere")
        run = self.run_at(path)
        self.assertFalse((self.dir / "nowhere").exists())
        self.check_elsewhere_or_said(run, path)

    def test_default_name(self):
        env = {"LD_PRELOAD": str(harness.LIBRARY), "MPROF_HEAP_RATE": "1"}
        self.run_plain(harness.target("ends"), "return", env=env)
        self.assertRegex(self.only_dump().name, r"^ends\.[0-9]+\.mprof$")

    def test_same_name_for_many(self):
        """A pattern without a pid: each process still has its own dump, or a line."""
        path = self.dir / "dump.mprof"
        self.run_at(path)
        before = path.read_bytes()
        run = self.run_at(path)
        self.assertEqual(path.read_bytes(), before)
        self.check_elsewhere_or_said(run, path, path)


if __name__ == "__main__":
    harness.main()
