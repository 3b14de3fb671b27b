# SPDX-License-Identifier: Apache-2.0
"""The soak knows every case, from a shell that knows nothing of the tests, and runs them.

Begun by itself, it once could not load a test that asks for the folder of the source.
"""

import sys
from pathlib import Path

import harmless
import harness

HERE = Path(__file__).resolve().parent


class Soak(harmless.Case):
    def soak(self, *options):
        return self.run_plain(sys.executable, "-B", HERE / "soak.py", "--build", harness.BUILD, *options)

    def test_every_test_is_a_case(self):
        listed = self.soak("1", "--list")
        self.assertEqual((listed.returncode, listed.stderr), (0, ""), listed)
        files = {line.partition(":")[0] for line in listed.stdout.splitlines()}
        tests = {path.name.removesuffix("_test.py") for path in HERE.glob("*_test.py")}
        self.assertEqual(tests - files, set())

    def test_a_case_runs(self):
        run = self.soak("0.001", "--only", "error_messages_of_the_loader_stay*", "--jobs", "1")
        self.assertEqual(run.returncode, 0, run)
        self.assertRegex(run.stdout, r"\*\*all \d+\*\* \| \*\*[1-9]\d*\*\* \| \*\*0\*\*")

    def test_wrong_hours_are_one_clear_line(self):
        run = self.soak("0")
        self.assertEqual(run.returncode, 2, run)
        self.assertTrue(run.stderr.endswith("soak.sh: error: HOURS is 0; accepted: a number above 0\n"), run)


if __name__ == "__main__":
    harmless.main()
