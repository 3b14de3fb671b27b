# SPDX-License-Identifier: Apache-2.0
"""MPROF_DRAIN=1, or a trace: the library starts `mprof drain` beside the program, which never notices."""

import os
import subprocess
import time

import harness


def drainers_of(dump):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[1:3] == [b"drain", str(dump).encode()]:
            found.append(int(pid))
    return found


class Drain(harness.Case):
    ENV = {"MPROF_DRAIN": "1"}

    def complete(self, dump):
        """The drainer ends by itself soon after the program."""
        self.wait_for(lambda: not drainers_of(dump), "the drainer has ended")
        events = self.info(dump)["events"]
        self.assertEqual(events["delivered"] + events["dropped"], events["produced"], events)
        self.assertEqual((events["gaps"], events["damaged"]), (0, 0), events)
        return events

    def test_events_are_kept(self):
        run = self.run_under(harness.target("handover"), "1", "50", rate=1000, env=self.ENV)
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "", ""), run)
        dump = self.only_dump()
        events = self.complete(dump)
        self.assertGreater(events["produced"], 1000)
        self.assertTrue(events["equal"], events)
        self.assertTrue(dump.with_name(dump.name + ".journal").exists())

    def test_a_trace_is_drained(self):
        """Unless MPROF_DRAIN=0 says that somebody else does it."""
        for drain, is_drained in ((None, True), ("0", False)):
            with self.subTest(drain):
                env = {"MPROF_TRACE": "1", **({"MPROF_DRAIN": drain} if drain else {})}
                folder = self.dir / f"drain-{drain}"
                folder.mkdir()
                run = self.run_under(harness.target("handover"), "1", "50", env=env, dump_dir=folder)
                self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "", ""), run)
                dump = self.only_dump(folder)
                self.wait_for(lambda: not drainers_of(dump), "the drainer has ended")
                self.assertEqual(dump.with_name(dump.name + ".trace").exists(), is_drained)

    def test_the_program_sees_no_child(self):
        """wait() in the program finds its own children and no other."""
        for how in ("fork", "spawn"):
            with self.subTest(how):
                plain = self.run_plain(harness.target("children"), how)
                under = self.run_under(harness.target("children"), how, env=self.ENV)
                self.assertIn("another wait: -1", plain.stdout)
                self.assert_same_behaviour(plain, under)

    def test_output_ends_with_the_program(self):
        """The drainer holds none of its descriptors: who reads the program's output sees its end."""
        process = self.start_under(
            harness.target("handover"), "0.3", env=self.ENV, stdout=subprocess.PIPE
        )
        begin = time.monotonic()
        process.stdout.read()
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(process.wait(), 0)

    def test_descriptors(self):
        program = harness.target("surroundings")
        plain = self.run_plain(program, "list_fds")
        self.assert_same_behaviour(plain, self.run_under(program, "list_fds", env=self.ENV))


if __name__ == "__main__":
    harness.main()
