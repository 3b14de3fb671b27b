# SPDX-License-Identifier: Apache-2.0
"""Drainers that are killed, stopped and continued at random while a program runs."""

import random
import signal
import subprocess
import time

import harness


class Case(harness.Case):
    def drain(self, dump, *options):
        process = subprocess.Popen(
            [harness.MPROF, "drain", dump, *options],
            env=harness.clean_environment(), cwd=self.dir,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self.addCleanup(self._end, process)
        return process

    def disturb(self, target, dump, seed):
        """Until the target has ended. How many drainers there were."""
        chance, drains = random.Random(seed), 0
        while target.poll() is None:
            drainer = self.drain(dump)
            drains += 1
            time.sleep(chance.uniform(0.01, 0.25))
            if chance.random() < 0.4:
                drainer.send_signal(signal.SIGSTOP)
                time.sleep(chance.uniform(0.05, 0.5))
                if chance.random() < 0.5:
                    drainer.send_signal(signal.SIGCONT)
                    time.sleep(chance.uniform(0.01, 0.2))
            self._end(drainer)
        return drains
