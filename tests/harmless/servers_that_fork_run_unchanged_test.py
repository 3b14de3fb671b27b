# SPDX-License-Identifier: Apache-2.0
"""Servers that fork and never exec: prefork, zygote, one generation after the other."""

import harmless
import harness


class Servers(harmless.Case):
    def check(self, how, number, status=0):
        outcome = self.check_unchanged(harness.target("prefork"), how, number)
        self.assertEqual((outcome.status, outcome.err), (status, b""), outcome)

    def test_children_serve_end_and_are_replaced(self):
        self.check("servers", 40 * harmless.LONGER)

    def test_a_zygote_makes_all_others(self):
        self.check("zygote", 8 * harmless.LONGER)

    def test_a_fork_of_a_fork_of_a_fork(self):
        self.check("generations", 20, status=27)


if __name__ == "__main__":
    harmless.main()
