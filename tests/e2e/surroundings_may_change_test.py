# SPDX-License-Identifier: Apache-2.0
"""The process closes all descriptors, leaves its folder or its root, becomes a daemon."""

import os

import harness

BEFORE = ("before_change", 50, 50 * 1111, 50, 50 * 1111)
AFTER = ("after_change", 3000, 3000 * 2222, 3000, 3000 * 2222)


class Surroundings(harness.Case):
    def check(self, how, *args, env=None):
        program = harness.target("surroundings")
        plain = self.run_plain(program, how, *args)
        under = self.run_under(program, how, *args, env=env)
        self.assertEqual(plain.returncode, 0, plain)
        self.assert_same_behaviour(plain, under)
        dump = self.only_dump()
        profile = self.profile(dump)
        self.assert_site(profile, *BEFORE)
        self.assert_site(profile, *AFTER)
        # 4096 stacks and 53248 blocks: the dump had to grow after the change.
        self.assertEqual(profile.below("grow")["alloc_objects"], 4096 * 13)
        self.assertEqual(sum(self.info(dump)["lost"].values()), 0)

    def test_descriptors_closed(self):
        self.check("close_all")

    def test_standard_descriptors_closed_too(self):
        self.check("close_stdio_too")

    def test_other_folder(self):
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        # A relative pattern means the folder in which the program began.
        self.check("chdir", elsewhere, env={"MPROF_OUT": "%e.%p.mprof"})
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_other_folder_of_a_forked_child(self):
        """A daemon goes to its data and forks: its children's dumps were left there, among the data."""
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        script = f"cd {elsewhere}; (echo child)"
        run = self.run_under("/usr/bin/dash", "-c", script, env={"MPROF_OUT": "%e.%p.mprof"})
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "child\n", ""), run)
        self.assertEqual(list(elsewhere.iterdir()), [])
        self.assertEqual(len(self.dumps()), 2)

    def test_other_root(self):
        root = self.dir / "root"
        root.mkdir()
        program = harness.target("surroundings")
        env = [f"{k}={v}" for k, v in self.library_env().items()]
        run = self.run_plain(*harness.as_root(), "env", *env, program, "chroot", root)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        if os.geteuid() != 0:
            self.run_plain(*harness.as_root(), "chown", "-R", str(os.getuid()), self.dir)
        profile = self.profile(self.only_dump())
        self.assert_site(profile, *BEFORE)
        self.assert_site(profile, *AFTER)

    def test_descriptors_are_not_visible(self):
        """The program finds the same descriptors open, and the next one has the same number."""
        program = harness.target("surroundings")
        plain, under = self.run_plain(program, "list_fds"), self.run_under(program, "list_fds")
        self.assertIn("next fd", plain.stdout)
        self.assert_same_behaviour(plain, under)

    def daemon_profile(self):
        for dump in self.dumps():
            profile = self.profile(dump)
            if profile.below("after_change")["alloc_objects"] == 3000:
                return profile
        return None

    def test_daemon(self):
        run = self.run_under(harness.target("surroundings"), "daemon")
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "", ""), run)
        # Each of the forks has its own dump; the last one is the daemon's.
        profile = self.wait_for(self.daemon_profile, "the daemon has allocated")
        self.assert_site(profile, *AFTER)


if __name__ == "__main__":
    harness.main()
