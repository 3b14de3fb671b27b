# SPDX-License-Identifier: Apache-2.0
"""What each function of the lock family answers is the same with the library, odd arguments included."""

import harness

# Settings under which every wait, a part of them, or none is looked at.
SETTINGS = {
    "every": {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"},
    "defaults": {},
    "off": {"MPROF_BLOCK_RATE": "0", "MPROF_MUTEX_FRACTION": "0"},
    "traced": {"MPROF_TRACE": "1", "MPROF_BLOCK_RATE": "0", "MPROF_MUTEX_FRACTION": "0"},
}


class Results(harness.Case):
    def check(self, name, rate=1):
        program = harness.target("lock_results")
        plain = self.run_plain(program)
        under = self.run_under(program, rate=rate, env=SETTINGS[name])
        self.assertEqual(plain.returncode, 0, plain)
        cases, answers = plain.stdout.splitlines(), under.stdout.splitlines()
        self.assertGreater(len(cases), 1900)
        for number, (wanted, found) in enumerate(zip(cases, answers), 1):
            self.assertEqual(found, wanted, f"line {number}, after {cases[max(0, number - 4):number - 1]}")
        self.assert_same_behaviour(plain, under)

    def test_every_wait(self):
        self.check("every")

    def test_defaults(self):
        self.check("defaults", rate=None)

    def test_off(self):
        self.check("off", rate=0)

    def test_traced(self):
        self.check("traced", rate=None)


if __name__ == "__main__":
    harness.main()
