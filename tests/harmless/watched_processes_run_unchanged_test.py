# SPDX-License-Identifier: Apache-2.0
"""Processes that are traced by ptrace, or stopped and continued."""

import harmless
import harness


class Watched(harmless.Case):
    def check(self, how):
        outcome = self.check_unchanged(harness.target("traced_by_parent"), how)
        self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)

    def test_traced_by_its_parent(self):
        self.check("trace")

    def test_stopped_and_continued(self):
        for _ in range(harmless.LONGER):
            self.check("stop")


if __name__ == "__main__":
    harmless.main()
