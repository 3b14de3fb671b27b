# SPDX-License-Identifier: Apache-2.0
"""However a process ends, its dump has every sample until then, and it ends as without the library."""

import harness

HOW = (
    "return", "exit", "_exit", "quick_exit", "exit_group", "abort", "segv", "kill", "term",
    "pthread_exit", "exit_in_thread",
)


class Ends(harness.Case):
    def test_ends(self):
        for how in HOW:
            with self.subTest(how):
                plain = self.run_plain(harness.target("ends"), how)
                under = self.run_under(harness.target("ends"), how)
                self.assert_same_behaviour(plain, under)
                dump = self.only_dump()
                self.assert_site(self.profile(dump), "known_amount", 100, 123400, 60, 74040)
                self.assertEqual(sum(self.info(dump)["lost"].values()), 0)
                dump.unlink()


if __name__ == "__main__":
    harness.main()
