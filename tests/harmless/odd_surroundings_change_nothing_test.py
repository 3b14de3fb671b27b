# SPDX-License-Identifier: Apache-2.0
"""Other roots and namespaces, no file and no folder of its own, clocks that jump or are not there."""

import shutil

import harmless
import harness


class Surroundings(harmless.Case):
    settings = {**harmless.SETTINGS, "everything": dict(harmless.EVERYTHING)}

    def check(self, *how, before=(), program="ways_of_life", **options):
        outcome = self.check_unchanged(*before, program if "/" in str(program) else harness.target(program), *how,
                                       **options)  # fmt: skip
        self.assertEqual((outcome.status, outcome.err), (11, b""), outcome)
        return outcome


class Places(Surroundings):
    def copy_program(self):
        program = self.work / "copy"
        shutil.copy(harness.target("ways_of_life"), program)

    def test_its_own_file_is_removed(self):
        self.check("unlink", program=self.work / "copy", prepare=self.copy_program)

    def test_its_folder_is_removed(self):
        self.check("no_folder")

    def test_another_root(self):
        """From there no dump can be made; the child that is forked says so in one line."""
        outcome = self.check_unchanged(*harness.as_root(), harness.target("ways_of_life"), "pivot_root",
                                       ignored="^root", clean=harness_line)  # fmt: skip
        self.assertEqual((outcome.status, outcome.err), (11, b""), outcome)
        self.assertIn(b"pivot_root: 0\n", outcome.out)


class Namespaces(Surroundings):
    def test_of_every_kind(self):
        every = ["--user", "--map-root-user", "--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup"]
        self.check(before=["unshare", *every, "--fork", "--mount-proc"])

    def test_pids_without_their_proc(self):
        self.check(before=[*harness.as_root(), "unshare", "--pid", "--fork"])

    def test_no_proc_at_all(self):
        hide = 'mount -t tmpfs none /proc && exec "$0"'
        self.check(before=[*harness.as_root(), "unshare", "--mount", "sh", "-c", hide])


class Clocks(Surroundings):
    def test_far_ahead_and_behind_by_a_namespace(self):
        for offset in ("1000000000", "-1"):
            with self.subTest(offset):
                self.check(before=[*harness.as_root(), "unshare", "--time", "--fork", "--monotonic", offset,
                                   "--boottime", offset])  # fmt: skip

    def test_no_cycle_counter(self):
        """The library read it all the same, in the first sample after prctl(PR_SET_TSC): SIGSEGV."""
        self.check("no_cycle_counter")


def harness_line(output):
    """Without the line of a forked child that can have no dump."""
    return b"".join(line for line in output.splitlines(True) if not line.startswith(b"mprof: cannot write the dump"))


if __name__ == "__main__":
    harmless.main()
