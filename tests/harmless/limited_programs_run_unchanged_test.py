# SPDX-License-Identifier: Apache-2.0
"""Limits of resources that a program gives itself, or is started with."""

import re

import harmless
import harness

MIB = 1 << 20
# A forked child that may not make a dump: the one line that all of them have together.
LINE = re.compile(rb"mprof: cannot write the dump [^\n]*; the program runs unprofiled\n")


def without_line(output):
    return LINE.sub(b"", output, count=1)


class Limited(harmless.Case):
    def check(self, *limits, before=(), status=7, **options):
        outcome = self.check_unchanged(*before, harness.target("limited"), *limits, clean=without_line, **options)
        self.assertEqual((outcome.status, outcome.err), (status, b""), outcome)
        return outcome

    def test_memory(self):
        """The dump and what belongs to it cannot grow, as it is the program's room that is limited."""
        self.check("as", 40 * MIB)
        self.check("data", 30 * MIB)

    def test_no_new_descriptor(self):
        self.check("nofile", 3)
        self.check("nofile", 0)

    def test_few_descriptors(self):
        self.check("nofile", 8)

    def test_size_of_files(self):
        """A dump that would grow beyond it would end the program by SIGXFSZ."""
        self.check("fsize", 0)
        self.check("fsize", 100000)
        self.check("fsize", 4 * MIB)

    def test_stack(self):
        self.check("stack", 128 * 1024)
        self.check("stack", "unlimited")

    def test_no_locked_memory_no_signals_no_cores(self):
        self.check("memlock", 0, "sigpending", 0, "core", 0, "msgqueue", 0, "rttime", 1000000)

    def test_processes(self):
        """For another user than root, whom it does not bind."""
        user = [*harness.as_root(), "setpriv", "--reuid=61234", "--regid=61234", "--clear-groups"]
        outcome = self.check("nproc", 0, before=user, prepare=self.open_to_all)
        self.assertEqual(outcome.out.count(b"fork: Resource temporarily unavailable"), 3, outcome)

    def open_to_all(self):
        self.dir.chmod(0o755)
        self.work.chmod(0o777)

    def test_from_the_start(self):
        for limit in (
            f"--as={256 * MIB}", f"--data={200 * MIB}", "--nofile=4:4", "--fsize=0",
            "--fsize=100000", f"--stack={128 * 1024}", "--stack=unlimited", "--memlock=0", "--sigpending=0",
        ):  # fmt: skip
            with self.subTest(limit):
                # With files of no size there is none from the start, and each run says so.
                self.check(before=["prlimit", limit], leaves_dumps=limit[:7] != "--fsize")


if __name__ == "__main__":
    harmless.main()
