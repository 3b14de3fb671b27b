# SPDX-License-Identifier: Apache-2.0
"""A target that is killed at any instant, a trace that is larger than it may be: what there is opens.

MPROF_KILLS=N makes it another number of kills.
"""

import os
import random
import shutil
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
            shutil.rmtree(self.dir / str(number - 1), ignore_errors=True)
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


class Bounded(traced.Traced):
    """MPROF_TRACE_MAX, of a trace several times as large, through to Go's form."""

    ROUNDS = 400000

    def rounds_kept(self, limit):
        """The numbers of the rounds that have a log, and what the conversion complains of."""
        run = self.run_traced(
            harness.target("trace_events"), 1, self.ROUNDS, options=["-p", "heap", "--trace-max", limit]
        )
        self.assertEqual(run.returncode, 0, run)
        trace = self.dir / "go.trace"
        run = self.mprof_ok("trace", self.only_dump(), "-o", trace, "--symbols", "names")
        self.assertLess(self.only_dump().with_suffix(".mprof.trace").stat().st_blocks * 512, 2 << 20)
        events = self.accepted_events(trace)
        logs = [e for e in events.named("UserLog") if events.strings[e.values[1]] == "round"]
        return sorted(int(e.text) for e in logs), run.stderr

    def test_the_newest_is_kept(self):
        rounds, said = self.rounds_kept("1M")
        self.assertGreater(rounds[0], 16)
        self.assertEqual(rounds[-1], self.ROUNDS - 16)
        self.assertIn("given up to save space", said)

    def test_it_ends_when_it_is_full(self):
        rounds, _ = self.rounds_kept("1M,stop")
        self.assertEqual(rounds[0], 0)
        self.assertLess(rounds[-1], self.ROUNDS - 16)


if __name__ == "__main__":
    traced.main()
