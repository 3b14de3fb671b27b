# SPDX-License-Identifier: Apache-2.0
"""Calls that any signal ends do end when one of the program's own has been handled."""

import harmless
import harness


class Calls(harmless.Case):
    """mksh hung in one of ten runs: sigsuspend() was made again after SIGCHLD had been handled.

    A CPU sample that falls due while a handler of the program runs, and cannot come in, comes right behind
    it: what it finds is a call that failed with EINTR, and it took that for its own doing. With handlers
    that take milliseconds and block all signals, each of these calls hung at once.
    """

    timeout_s = 30

    def check(self, how):
        self.check_unchanged(harness.target("handled_calls"), 2 * harmless.LONGER, how)

    def test_sigaction(self):
        self.check("sigaction")

    def test_signal(self):
        self.check("signal")

    def test_handler_set_past_the_hooks(self):
        self.check("sigset")


if __name__ == "__main__":
    harmless.main()
