# SPDX-License-Identifier: Apache-2.0
"""No place for the dump: one clear line, and the program runs on, unprofiled."""

import os
import resource
import subprocess

import harness


class NoDump(harness.Case):
    def check_ran(self, run, *words):
        self.assertEqual((run.returncode, run.stdout), (7, ""), run)
        lines = run.stderr.splitlines()
        self.assertEqual(len(lines), 1, run)
        self.assertTrue(lines[0].startswith("mprof: "), lines)
        for word in words:
            self.assertIn(word, lines[0])

    def test_folder_does_not_exist(self):
        path = self.dir / "nowhere" / "dump.mprof"
        run = self.run_under(harness.target("ends"), "exit", env={"MPROF_OUT": str(path)})
        self.check_ran(run, str(path), "No such file or directory")

    def test_folder_not_writable(self):
        """As a user who may not write there: root may write anywhere."""
        self.dir.chmod(0o755)
        env = [f"{k}={v}" for k, v in self.library_env(env={"MPROF_OUT": "%e.%p.mprof"}).items()]
        run = self.run_plain(
            *harness.as_root(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            "env", *env, self.readable_copy("ends"), "exit",
        )
        self.check_ran(run, "ends.", "Permission denied")
        self.assertEqual(self.dumps(), [])

    def readable_copy(self, name):
        """The build folder may be in a home that another user cannot enter."""
        copy = self.dir / name
        copy.write_bytes((harness.TARGETS / name).read_bytes())
        copy.chmod(0o755)
        return copy

    def library_env(self, *args, **options):
        environment = super().library_env(*args, **options)
        library = self.dir / "libmprof.so"
        library.write_bytes(harness.LIBRARY.read_bytes())
        library.chmod(0o755)
        environment["LD_PRELOAD"] = str(library)
        return environment

    def test_file_size_limit(self):
        """Beyond RLIMIT_FSIZE the kernel would send SIGXFSZ, which kills."""
        run = self.run_under(
            harness.target("ends"), "exit",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )
        self.check_ran(run)

    def test_file_size_limit_reached_later(self):
        """The dump begins and cannot grow: what it has stays readable, what is lost is counted."""
        limit = 2 << 20
        run = self.run_under(
            harness.target("surroundings"), "umask",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        self.assertEqual((run.returncode, run.stdout), (0, ""), run)
        for dump in self.dumps():
            self.assertLessEqual(dump.stat().st_size, limit)
            self.assertGreater(sum(self.info(dump)["lost"].values()), 0)
            self.profile(dump)
        if not self.dumps():
            self.assertEqual(len(run.stderr.splitlines()), 1, run)

    def on_small_disk(self, size, *command):
        """Runs in a mount namespace of its own, with a tmpfs of that size as the folder."""
        disk = self.dir / "disk"
        disk.mkdir()
        env = [f"{k}={v}" for k, v in self.library_env(dump_dir=disk).items()]
        script = (
            f'mount -t tmpfs -o size={size} none {disk} && "$@"; rc=$?; '
            f"for f in {disk}/*.mprof; do [ -e $f ] && cp $f {self.dir}; done; exit $rc"
        )
        wrap = ["unshare", "--mount", "sh", "-c", script, "sh", "env", *env]
        run = self.run_plain(*harness.as_root(), *wrap, *command)
        if os.geteuid() != 0:
            subprocess.run([*harness.as_root(), "chown", "-R", str(os.getuid()), str(self.dir)], check=True)
        return run

    def test_disk_full_at_start(self):
        run = self.on_small_disk("16k", harness.target("ends"), "exit")
        self.check_ran(run, "no space left")

    def test_disk_full_later(self):
        """No SIGBUS when the dump cannot grow."""
        run = self.on_small_disk("3m", harness.target("surroundings"), "umask")
        self.assertEqual((run.returncode, run.stdout), (0, ""), run)
        for dump in self.dumps():
            self.assertGreater(sum(self.info(dump)["lost"].values()), 0)
        if not self.dumps():
            self.assertEqual(len(run.stderr.splitlines()), 1, run)


if __name__ == "__main__":
    harness.main()
