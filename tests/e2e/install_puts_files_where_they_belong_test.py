# SPDX-License-Identifier: Apache-2.0
"""`meson install`: library, program, header and manual page, usable from there."""

import harness


class Install(harness.Case):
    def test_install(self):
        run = self.run_plain("meson", "install", "-C", harness.BUILD, "--no-rebuild", "--destdir", self.dir)
        self.assertEqual(run.returncode, 0, run)
        files = {p.name: p for p in self.dir.rglob("*") if p.is_file() or p.is_symlink()}
        for name in ("libmprof.so", "mprof", "mprof.h"):
            self.assertIn(name, files)
        self.assertTrue({"mprof.1", "mprof.1.gz"} & set(files), sorted(files))
        self.assertEqual(files["mprof.h"].parent.name, "include")
        self.assertEqual(files["mprof"].parent.name, "bin")
        self.assertNotIn("truth", files)
        # Found without any setting: the program looks beside itself for its library.
        out = self.dir / "work"
        out.mkdir()
        ran = self.run_plain(files["mprof"], "run", "--heap-rate", "1", "--", harness.target("ends"), "exit", cwd=out)
        self.assertEqual(ran.returncode, 7, ran)
        self.assertEqual(len(list(out.glob("ends.*.mprof"))), 1)

    def test_versions(self):
        run = self.run_plain(harness.MPROF, "--version")
        self.assertEqual(run.returncode, 0, run)
        self.assertRegex(run.stdout, r"\d+\.\d+")
        self.assertEqual(self.run_plain(harness.MPROF, "--help").returncode, 0)


if __name__ == "__main__":
    harness.main()
