# SPDX-License-Identifier: Apache-2.0
"""A program that runs with another user's rights is never profiled: its memory is not its caller's."""

from pathlib import Path

import harness

SOURCE = Path(__file__).parent.parent / "targets" / "ends.c"


class Setuid(harness.Case):
    def root(self, *command):
        run = self.run_plain(*harness.as_root(), *command)
        self.assertEqual(run.returncode, 0, run)

    def build(self):
        """A preload the loader itself ignores in such a program; so the library is linked to it."""
        self.dir.chmod(0o777)
        library = self.dir / "libmprof.so"
        library.write_bytes(harness.LIBRARY.read_bytes())
        library.chmod(0o755)
        program = self.dir / "ends"
        built = self.run_plain(
            "cc", "-D_GNU_SOURCE", "-pthread", SOURCE, "-o", program,
            "-Wl,--no-as-needed", library, f"-Wl,-rpath,{self.dir}",
        )
        self.assertEqual(built.returncode, 0, built)
        return program

    def run_as_nobody(self, program):
        env = [f"MPROF_OUT={self.dir}/%e.%p.mprof", "MPROF_HEAP_RATE=1", "LC_ALL=C"]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        return self.run_plain(*harness.as_root(), *nobody, "env", *env, program, "exit")

    def test_setuid(self):
        program = self.build()
        program.chmod(0o755)
        self.assertEqual(self.run_as_nobody(program).returncode, 7)
        self.assertEqual(len(self.dumps()), 1, "without the bit it is profiled")
        self.root("rm", self.dumps()[0])
        self.root("chown", "root", program)
        self.root("chmod", "4755", program)
        run = self.run_as_nobody(program)
        self.assertEqual((run.returncode, run.stdout), (7, ""), run)
        self.assertEqual(self.dumps(), [])


if __name__ == "__main__":
    harness.main()
