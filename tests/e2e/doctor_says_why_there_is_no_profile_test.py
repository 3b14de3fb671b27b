# SPDX-License-Identifier: Apache-2.0
"""`mprof doctor` says why a profile is empty or partial."""

import harness


class Doctor(harness.Case):
    def doctor(self, *command):
        run = self.mprof("doctor", "--", *command)
        return run.stdout + run.stderr

    def test_static_program(self):
        self.assertRegex(self.doctor(harness.target("static_program")), r"(?i)static")

    def test_allocator_in_the_executable(self):
        text = self.doctor(harness.target("own_malloc"))
        self.assertRegex(text, r"(?i)malloc")
        self.assertRegex(text, r"(?i)executable|itself|defines")

    def test_setuid_program(self):
        program = self.dir / "setuid"
        program.write_bytes((harness.TARGETS / "ends").read_bytes())
        program.chmod(0o755)
        owner = self.run_plain(*harness.as_root(), "chown", "nobody", program)
        mode = self.run_plain(*harness.as_root(), "chmod", "4755", program)
        self.assertEqual((owner.returncode, mode.returncode), (0, 0))
        self.assertRegex(self.doctor(program), r"(?i)set-?uid")

    def test_nothing_wrong(self):
        run = self.mprof("doctor", "--", harness.target("truth"))
        self.assertEqual(run.returncode, 0, run)

    def test_not_found(self):
        self.assertIn("no-such-program", self.doctor("no-such-program"))


if __name__ == "__main__":
    harness.main()
