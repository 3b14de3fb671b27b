# SPDX-License-Identifier: Apache-2.0
"""dlopen in every way, from programs linked in every way: targets/loads.cc."""

import shutil

import harmless
import harness

PROGRAMS = ("loads", "loads_fixed")  # position-independent and bound lazily; fixed and bound at once


class Loads(harmless.Case):
    def put_plugins(self):
        deep = self.work / "plugins" / "deep"
        deep.mkdir(parents=True)
        shutil.copy(harness.target("loads_outer.so"), self.work / "plugins" / "outer.so")
        shutil.copy(harness.target("loads_inner.so"), deep / "inner.so")

    def check(self, what, env=None):
        for program in PROGRAMS:
            outcome = self.check_unchanged(harness.target(program), what, prepare=self.put_plugins, env=env)
            self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)
        return outcome.out.decode()

    def test_loops(self):
        for _ in range(harmless.LONGER):
            out = self.check("loops")
        self.assertEqual(out.count(": 0 wrong, gone: 1"), 5, out)
        self.assertIn("nodelete: 0 wrong, gone: 0", out)

    def test_run_paths(self):
        out = self.check("run_paths")
        self.assertIn("from the program: 0\nfrom the plug-in: 0 wrong\n", out)

    def test_namespaces(self):
        out = self.check("namespaces")
        self.assertEqual(out.count(": 0 wrong, preloaded there: 0"), 5, out)

    def test_exceptions_through_plugins(self):
        self.assertEqual(self.check("exceptions"), "exceptions: 0 wrong\n")

    def test_many_threads(self):
        for _ in range(harmless.LONGER):
            self.assertEqual(self.check("many_threads"), "many threads: 0 wrong\n")

    def test_resolvers_that_allocate(self):
        self.assertEqual(self.check("early"), "resolver: 1\n")

    def test_all_bound_at_once(self):
        for what in ("loops", "run_paths", "exceptions", "early"):
            self.check(what, env={"LD_BIND_NOW": "1"})

    def test_beside_an_auditor(self):
        for what in ("run_paths", "exceptions", "early"):
            self.check(what, env={"LD_AUDIT": harness.target("audit_library.so")})


if __name__ == "__main__":
    harmless.main()
