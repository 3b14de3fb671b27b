# SPDX-License-Identifier: Apache-2.0
"""tests/targets/steered.c under the library, and `mprof ctl` beside it."""

import re
import subprocess
from pathlib import Path

import harness


class Steered(harness.Case):
    def start(self, how, rate=1, env=None):
        self.process = self.start_under(
            harness.target("steered"), how, rate=rate, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.tell("+")  # it has come to where it obeys, and has its dump
        folder = Path(env["MPROF_OUT"]).parent if env and "MPROF_OUT" in env else None
        self.dump = self.dumps(folder)[0]
        self.wait_until_blocked(how)

    def wait_until_blocked(self, how):
        if how == "spin":
            return
        status = Path(f"/proc/{self.process.pid}/stat")
        self.wait_for(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "S", "it is blocked")

    def tell(self, commands):
        """What it answers must be the commands, and nothing of an interrupted call."""
        self.process.stdin.write(commands.encode())
        self.process.stdin.flush()
        for command in commands:
            self.assertEqual(self.process.stdout.readline().decode(), f"{command}\n")

    def finish(self):
        self.process.stdin.close()
        self.assertEqual(self.process.wait(), 0)
        self.assertEqual(self.process.stdout.read(), b"")

    def ctl(self, *options):
        return self.mprof_ok("ctl", self.process.pid, *options).stdout

    def change(self, *options):
        """Milliseconds until it was in force, None if it is not yet."""
        text = self.ctl(*options)
        found = re.search(r"in force after ([0-9.]+) ms", text)
        if not found:
            self.assertIn("takes effect when the program wakes", text)
        return float(found.group(1)) if found else None

    def numbers(self):
        """`mprof info` of the running program."""
        return self.info(self.process.pid)
