# SPDX-License-Identifier: Apache-2.0
"""A wrong value of a setting: one line with variable, value, what is accepted and the default used."""

import os
import re
from pathlib import Path

import harness

SOURCE = Path(os.environ["MPROF_SOURCE"])

# variable, value that is not accepted, a word of what is accepted, the default
WRONG = (
    ("MPROF_HEAP_RATE", "often", "bytes", "524288"),
    ("MPROF_HEAP_RATE", "-1", "bytes", "524288"),
    ("MPROF_HEAP_RATE", "12x", "bytes", "524288"),
    ("MPROF_HEAP_RATE", "99999999999999999999999", "bytes", "524288"),
    ("MPROF_HEAP_RATE", "", "bytes", "524288"),
    ("MPROF_STACK_DEPTH", "0", "1 to 256", "64"),
    ("MPROF_STACK_DEPTH", "257", "1 to 256", "64"),
    ("MPROF_STACK_DEPTH", "deep", "1 to 256", "64"),
    ("MPROF_UNWIND", "magic", "auto, fp or dwarf", "auto"),
    ("MPROF_MMAP", "yes", "0 or 1", "0"),
    ("MPROF_DRAIN", "2", "0 or 1", "0"),
    ("MPROF_TRACE", "on", "0 or 1", "0"),
    ("MPROF_TRACE_MAX", "1k", "1048576", "1G"),
    ("MPROF_TRACE_MAX", "64M,go", ",stop", "1G"),
    ("MPROF_VERBOSE", "loud", "0 or 1", "0"),
    ("MPROF_SEED", "x", "18446744073709551615", "0"),
    ("MPROF_OUT", "%q.mprof", "%p", "%e.%p.mprof"),
)


class WrongSettings(harness.Case):
    def test_environment(self):
        for variable, value, accepted, default in WRONG:
            with self.subTest(variable=variable, value=value):
                run = self.run_under(harness.target("ends"), "exit", rate=None, env={variable: value})
                self.assertEqual((run.returncode, run.stdout), (7, ""), run)
                lines = run.stderr.splitlines()
                self.assertEqual(len(lines), 1, run)
                for word in (variable, value, accepted, default):
                    self.assertIn(word, lines[0])
                self.only_dump().unlink()

    def test_default_is_used(self):
        self.run_under(harness.target("ends"), "exit", rate=None, env={"MPROF_HEAP_RATE": "often"})
        self.assertEqual(self.info(self.only_dump())["heap_rate_bytes"], 524288)

    def test_several_wrong_values_are_several_lines(self):
        run = self.run_under(
            harness.target("ends"), "exit", rate=None, env={"MPROF_MMAP": "x", "MPROF_UNWIND": "y"}
        )
        self.assertEqual(len(run.stderr.splitlines()), 2, run)

    def test_right_values_say_nothing(self):
        for rate in ("0", "1", "4k", "1M", "524288"):
            with self.subTest(rate):
                run = self.run_under(harness.target("ends"), "exit", rate=rate)
                self.assertEqual((run.returncode, run.stderr), (7, ""), run)


class EverySetting(harness.Case):
    def test_is_listed_wherever_settings_are(self):
        help_text = self.mprof_ok("run", "--help").stdout
        settings = set(re.findall(r"MPROF_[A-Z_]+", (SOURCE / "format" / "config.h").read_text()))
        self.assertIn("MPROF_TRACE_MAX", settings)
        for setting in settings:
            option = "--" + setting.removeprefix("MPROF_").lower().replace("_", "-")
            if setting != "MPROF_DRAIN":  # run drains by itself
                self.assertRegex(help_text, rf"(?m)^  {option}[ {{]")
                self.assertIn(setting, help_text)
            self.assertIn(setting, (SOURCE / "docs" / "man" / "mprof.1").read_text())
            if setting not in ("MPROF_VERBOSE", "MPROF_SEED"):  # for who looks at mprof itself
                self.assertIn(setting, (SOURCE / "README.md").read_text())

    def test_is_checked_by_doctor(self):
        for variable, value, accepted, default in WRONG:
            run = self.mprof("doctor", "--no-run", "--", "true", env={variable: value})
            self.assertEqual(run.returncode, 1, run)
            for word in (f"{variable}={value} ", accepted, default):
                self.assertIn(word, run.stdout)


class WrongOptions(harness.Case):
    def check(self, *args, words):
        run = self.mprof(*args)
        self.assertNotEqual(run.returncode, 0, run)
        self.assertEqual(run.stdout, "", run)
        self.assertLessEqual(len(run.stderr.strip().splitlines()), 3, run)
        for word in words:
            self.assertIn(word, run.stderr)

    def test_options(self):
        self.check("no-such-command", words=["no-such-command"])
        self.check("info", "--no-such-option", "x", words=["--no-such-option"])
        self.check("run", "--heap-rate", "often", "--", "true", words=["often"])
        self.check("run", "--", "/no/such/program", words=["/no/such/program"])
        self.check("pprof", "999999999", words=["999999999"])
        self.run_under(harness.target("ends"), "exit")
        dump = self.only_dump()
        self.check("pprof", dump, "-p", "heap,nonsense", words=["nonsense"])
        # Folders are made, but not below a file.
        self.check("pprof", dump, "-o", dump / "folder", words=[str(dump)])
        self.check("top", dump, "--sort", "colour", words=["colour"])


if __name__ == "__main__":
    harness.main()
