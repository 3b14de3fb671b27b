# SPDX-License-Identifier: Apache-2.0
"""Drainers without room, several at once, stopped for long; commands of `mprof` that are killed or stopped amid their
work with a program: it goes on, and the books balance."""

import os
import random
import signal
import subprocess
import threading

import disks
import harmless
import harness

ROUNDS = 6 * harmless.LONGER
STAGES = ("stacks", "rings", "live", "threads", "labels", "profiles") * ROUNDS


class Disturbed(disks.Case):
    def setUp(self):
        super().setUp()
        self.copies_of_a_library()
        self.started = []

    def start_mprof(self, *command, **options):
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True, **options}
        process = subprocess.Popen(
            [harness.MPROF, *map(str, command)], cwd=self.dir, env=harness.clean_environment(), **options
        )
        self.addCleanup(self._end, process)
        self.started.append(process)
        return process

    def drain(self, dump):
        return self.start_mprof("drain", dump, stderr=subprocess.PIPE)

    def has_journal(self, dump):
        return lambda: os.path.exists(f"{dump}.journal") and os.path.getsize(f"{dump}.journal")

    def check_books(self, dump, outcome):
        # A trace that was turned on has brought a drainer of its own, which may be at it still.
        self.wait_for(lambda: self.mprof("drain", "--once", dump).returncode == 0, "it is drained")
        info = self.check_events(dump)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), outcome)
        return info

    def begin(self, folder, *stages):
        self.plain = self.last_words(self.start_stages(None, *stages))
        process = self.start_stages(folder, *stages, settings=disks.EXACT)
        self.next_stage(process)
        return process, self.only_dump(folder)

    # Drainers

    def test_several_at_once(self):
        """One of them drains, each other says why it does not, in one line; after the end of that one the next may."""
        process, dump = self.begin(self.dir, *STAGES)
        for _ in range(2):
            all_of_them = [self.drain(dump) for _ in range(5)]
            self.wait_for(lambda: sum(d.poll() is not None for d in all_of_them) == 4, "all but one have ended")
            for drainer in all_of_them:
                self.check_refused(drainer) if drainer.poll() is not None else drainer.kill()
            for drainer in all_of_them:
                drainer.wait()
        drainer = self.drain(dump)
        self.wait_for(self.has_journal(dump), "it drains")
        self.assertEqual(self.last_words(process), self.plain)
        self.assertEqual(drainer.wait(self.timeout_s), 0)
        self.assertEqual(self.check_books(dump, self.plain)["lost"], {})

    def check_refused(self, drainer):
        self.assertEqual(drainer.returncode, 1)
        self.assertRegex(drainer.stderr.read(), r"\Amprof drain: [^\n]*: another mprof drain is at work on it\n\Z")

    def test_stopped_for_long(self):
        """All of the program's life is in the dump; of its events the rings have the first, and count the rest."""
        process, dump = self.begin(self.dir, *STAGES)
        drainer = self.drain(dump)
        self.wait_for(self.has_journal(dump), "it drains")
        drainer.send_signal(signal.SIGSTOP)
        self.assertEqual(self.last_words(process), self.plain)
        self.assertEqual(self.mprof("drain", "--once", dump).returncode, 1)
        self.check_truth(self.profile(dump, "allocs", ["--symbols=names"]), self.plain)
        drainer.send_signal(signal.SIGCONT)
        self.assertEqual(drainer.wait(self.timeout_s), 0)
        info = self.check_books(dump, self.plain)
        self.assertGreater(info["events"]["dropped"], 0)

    def check_no_room(self, attached):
        """A drainer whose disk is full waits for room, and then goes on where it was."""
        folder = self.tmpfs()
        process, dump = self.begin(folder, *STAGES)
        if attached:
            drainer = self.drain(dump)
            self.wait_for(self.has_journal(dump), "it drains")
            disks.fill(folder)
            self.next_stage(process)
        else:
            disks.fill(folder)
            drainer = self.drain(dump)
        said = drainer.stderr.readline()
        self.assertRegex(said, r"mprof drain: .* cannot grow \(No space left on device\); what they have stays")
        self.next_stage(process)
        disks.give_back(folder)
        self.wait_for(self.has_journal(dump), "it drains")
        self.assertEqual(self.last_words(process), self.plain)
        self.assertEqual(drainer.wait(self.timeout_s), 0)
        self.check_books(dump, self.plain)

    def test_no_room_for_its_journal(self):
        self.check_no_room(attached=True)

    def test_no_room_when_it_begins(self):
        """It ended then, and nobody drained when there was room again."""
        self.check_no_room(attached=False)

    # Commands

    def disturb(self, pid, over):
        """Commands at random, of which some are killed and some stopped, until it is over. How many."""
        chance = random.Random(21)
        questions = (
            ("threads", pid), ("threads", "--interrupt", pid), ("ctl", pid, "--reset"), ("ctl", pid, "--cpu", "900"),
            ("ctl", pid, "--block-rate", "1"), ("ctl", pid, "--trace", "off"), ("ctl", pid, "--trace", "on"),
            ("pprof", "-o", self.dir, pid), ("top", pid), ("trace", "-o", self.dir / "out.trace", pid), ("drain", pid),
            ("timeline", pid), ("locks", pid),
        )  # fmt: skip
        stopped = []
        while not over.is_set():
            snapshot = ("ctl", pid, "--snapshot", f"s{len(self.started)}")
            process = self.start_mprof(*chance.choice((*questions, snapshot)))
            over.wait(chance.uniform(0, 0.06))
            fate = chance.random()
            if fate < 0.5:
                process.kill()
            elif fate < 0.75:
                process.send_signal(signal.SIGSTOP)
                stopped.append(process)
            if len(stopped) > 3:
                stopped.pop(0).kill()
            if fate >= 0.9:
                stopped.append(process)

    def test_commands_that_are_killed_or_stopped(self):
        process, dump = self.begin(self.dir, *STAGES)
        over = threading.Event()
        others = threading.Thread(target=self.disturb, args=(process.pid, over))
        others.start()
        try:
            for stage in range(1, len(STAGES)):
                self.wait_for(lambda stage=stage: len(self.started) >= 2 * stage, "commands are given")
                self.next_stage(process)
            outcome = self.last_words(process)
        finally:
            over.set()
            others.join()
        self.assertEqual(outcome, self.plain)
        for command in self.started:
            self._end(command)
            self.assertIn(command.returncode, (0, 1, -signal.SIGKILL), command.args)
        print(f"{len(self.started)} commands, {sum(c.returncode < 0 for c in self.started)} of them killed")
        self.check_books(dump, self.plain)


if __name__ == "__main__":
    disks.main()
