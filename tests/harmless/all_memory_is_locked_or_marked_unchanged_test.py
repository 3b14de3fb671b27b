# SPDX-License-Identifier: Apache-2.0
"""mlockall, huge pages, MADV_DONTFORK, membarrier, protection keys: targets/memory_ways.c."""

import harmless
import harness

WHAT = ("locked", "locked_on_fault", "huge_pages", "not_forked", "barriers", "protection_keys")


class Memory(harmless.Case):
    def test_memory(self):
        for what in WHAT:
            with self.subTest(what):
                outcome = self.check_unchanged(harness.target("memory_ways"), what)
                self.assertEqual(outcome.status, 0, outcome)


if __name__ == "__main__":
    harmless.main()
