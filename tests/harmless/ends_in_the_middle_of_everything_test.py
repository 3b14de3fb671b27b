# SPDX-License-Identifier: Apache-2.0
"""Programs end in every way while other threads allocate, lock, throw and make threads."""

import harmless
import harness

HOW = (
    "return", "exit", "_exit", "quick_exit", "exit_in_thread", "exit_in_handler", "exit_in_timer",
    "quick_exit_in_handler", "quick_exit_in_timer", "abort", "abort_caught", "terminate", "segv", "kill",
)  # fmt: skip


class Ends(harmless.Case):
    def test_ends(self):
        for how in HOW:
            for _ in range(2 * harmless.LONGER):
                with self.subTest(how):
                    self.check_unchanged(harness.target("last_words"), how)

    def test_core_flag(self):
        """Whether a core was made is in the status that the parent gets."""
        script = (
            "import os, sys\n"
            "pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)\n"
            "status = os.waitpid(pid, 0)[1]\n"
            "print(os.WTERMSIG(status), os.WCOREDUMP(status))\n"
        )
        outcome = self.check_unchanged(
            "/usr/bin/python3", "-c", script, harness.target("last_words"), "core", ignored="core"
        )
        self.assertIn(outcome.out, (b"6 True\n", b"6 False\n"))


if __name__ == "__main__":
    harmless.main()
