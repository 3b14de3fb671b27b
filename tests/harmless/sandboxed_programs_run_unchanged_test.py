# SPDX-License-Identifier: Apache-2.0
"""Programs that give up system calls by seccomp: a call that they did not make would be their end."""

import harmless
import harness

ENDS = {
    "strict": 21, "strict_by_syscall": 22, "strict_beside_others": 23, "killed_by_prctl": 24,
    "killed_by_syscall": 25, "gets_errors": 26, "is_trapped": 27, "threads_and_forks": 28,
    "several_filters": 29, "wrong_requests": 30,
}  # fmt: skip


class Sandboxed(harmless.Case):
    """A table that had to grow, a timer, the end of the library: each made a system call, and the
    kernel ended the program for it. In strict mode it takes the cycle counter away as well, and the
    first time stamp of a sample was a SIGSEGV."""

    def check(self, *ways):
        for way in ways:
            with self.subTest(way):
                outcome = self.check_unchanged(harness.target("sandboxed"), way)
                self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)
                self.assertIn(f"{way}: {ENDS[way] << 8:x}\n".encode(), outcome.out)

    def test_strict_mode(self):
        self.check("strict", "strict_by_syscall")

    def test_one_thread_in_strict_mode(self):
        self.check("strict_beside_others")

    def test_filters_that_kill(self):
        self.check("killed_by_prctl", "killed_by_syscall", "several_filters")

    def test_filters_that_answer(self):
        self.check("gets_errors", "is_trapped")

    def test_threads_and_forks_behind_a_filter(self):
        self.check("threads_and_forks")

    def test_requests_that_are_refused(self):
        self.check("wrong_requests")


if __name__ == "__main__":
    harmless.main()
