# SPDX-License-Identifier: Apache-2.0
"""A target that is killed at any instant, a drainer that dies: the trace opens, as far as it goes.

MPROF_KILLS=N makes it another number of kills.
"""

import os
import random
import re
import signal
import subprocess
import time

import go_trace
import harness
import traced

KILLS = int(os.environ.get("MPROF_KILLS", "24"))
PAGES_EVERY = 8


class Killed(traced.Traced):
    def kill_once(self, number):
        """The dump of a program that was killed, if it had come so far."""
        folder = self.dir / str(number)
        folder.mkdir()
        process = subprocess.Popen(
            [harness.target("trace_events"), "3", "0"],
            env=harness.clean_environment(self.library_env(524288, traced.TRACE, dump_dir=folder)),
            cwd=folder,
            start_new_session=True,
        )
        # From before the first thread to well into the journal.
        time.sleep(random.Random(number).choice([0.02, 0.1, 0.4]) * random.Random(-number).random())
        process.kill()
        process.wait()
        dumps = self.dumps(folder)
        return dumps[0] if dumps and any(dumps[0].read_bytes()[:8]) else None

    def test_the_target_is_killed(self):
        opened, trace = 0, self.dir / "killed.trace"
        for number in range(KILLS):
            dump = self.kill_once(number)
            if dump is None:
                continue
            run = self.mprof("trace", dump, "-o", trace, "--symbols", "names")
            if run.returncode != 0:
                # Killed before its first record.
                self.assertRegex(run.stderr, r"\Amprof: .*no trace was recorded.*\n\Z", (number, run))
                continue
            go_trace.run(trace, "-d")
            if opened % PAGES_EVERY == 0:
                go_trace.check_pages(trace, most_of_a_kind=2)
            opened += 1
        print(f"{KILLS} kills, {opened} traces")
        self.assertGreater(opened, KILLS * 0.7)


class Drainer(traced.Traced):
    SECONDS = 3

    def drain(self, dump):
        process = subprocess.Popen(
            [harness.MPROF, "drain", dump],
            env=harness.clean_environment(), cwd=self.dir,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(self._end, process)
        return process

    def disturb(self, target, dump):
        """Kills and stops drainers at random until the time is over."""
        chance, drains, end = random.Random(7), 0, time.monotonic() + self.SECONDS
        while time.monotonic() < end:
            drainer = self.drain(dump)
            drains += 1
            time.sleep(chance.uniform(0.01, 0.25))
            if chance.random() < 0.4:
                drainer.send_signal(signal.SIGSTOP)
                time.sleep(chance.uniform(0.05, 0.3))
            drainer.kill()
            drainer.wait()
        return drains

    def test_drainers_die(self):
        """Each record is there once, or counted as lost."""
        # 0: the library starts none of its own.
        env = {**traced.TRACE, "MPROF_DRAIN": "0"}
        target = self.start_under(harness.target("trace_events"), 1, 0, rate=None, env=env)
        dump = self.wait_for(self.dumps, "the dump appears")[0]
        drains = self.disturb(target, dump)
        target.kill()
        target.wait()
        self.assertGreater(drains, 5)
        self.mprof_ok("drain", dump)
        run = self.mprof_ok("trace", dump, "-o", self.dir / "go.trace", "--symbols", "names")
        self.assertNotRegex(run.stderr, "gap|damage|missing|no whole frame")
        lost = int(re.search(r"; (nothing|\d+) (?:was|were) lost", run.stdout)[1].replace("nothing", "0"))
        print(f"{drains} drainers: {run.stdout.strip()}")
        rounds = [int(e.text) for e in self.logs(self.accepted_events(self.dir / "go.trace"))]
        self.assertGreater(len(rounds), 500)
        steps = {after - before for before, after in zip(rounds, rounds[1:])}
        self.assertTrue(min(steps) > 0, "none comes twice")
        if lost == 0:
            self.assertEqual(steps, {16})

    @staticmethod
    def logs(events):
        logs = [e for e in events.named("UserLog") if events.strings[e.values[1]] == "round"]
        return sorted(logs, key=lambda event: event.ns)


if __name__ == "__main__":
    traced.main()
