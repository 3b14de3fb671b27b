# SPDX-License-Identifier: Apache-2.0
"""Threads and profiles that another library's constructor makes, before this library's has run.

The arrays of threads on their way and of the program's own profiles once had constructors, which
emptied them after the first thread was made and the first value added: threads then ran with the
function and argument of others, and a profile lost what it held. Nothing has a constructor now
(scripts/check_abi.sh counts them).
"""

import harmless
import harness

PROGRAM = harness.target("begins_first")


class BeganFirst(harmless.Case):
    def test_threads_run_what_they_were_made_for(self):
        plain = self.check_unchanged("sh", "-c", '"$0" 2>/dev/null', PROGRAM)
        self.assertEqual(plain.out, b"240 of 240 ran once\n")

    def test_own_profile_keeps_its_values(self):
        under = self.run_under(PROGRAM)
        self.assertEqual((under.returncode, under.stderr), (0, "10 things\n"), under)
        found = self.profile(self.only_dump(), "early-things")
        self.assertEqual(sum(next(iter(sample.values.values())) for sample in found.samples), 10)


if __name__ == "__main__":
    harmless.main()
