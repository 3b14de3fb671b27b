# SPDX-License-Identifier: Apache-2.0
"""Daemons that fork twice, close every descriptor and write a file of theirs by descriptor 2."""

import harmless
import harness


class Daemons(harmless.Case):
    # The first process adopts what its children leave behind, as init does: drainers, too.
    settings = {**harmless.SETTINGS, "everything": {**harmless.EVERYTHING, "MPROF_DRAIN": "0"}}

    def check(self, how, *root):
        outcome = self.check_unchanged(
            *harness.as_root(), harness.target("daemons"), how, self.work / "written", *root,
            ignored="^root$", prepare=self.make_root,
        )  # fmt: skip
        self.assertEqual((outcome.status, outcome.out), (0, b"3 ended, 700\n"), outcome)
        return outcome.files["written"][1]

    def make_root(self):
        (self.work / "root").mkdir()

    def test_one_by_one(self):
        self.check("each")

    def test_by_close_range(self):
        self.check("range")

    def test_by_closefrom(self):
        self.check("from")

    def test_children_in_another_root_have_no_dump_and_say_nothing_in_a_file(self):
        """Each forked child that could not make its dump wrote a line to descriptor 2. In a daemon
        that closed all and opened a file of its own, that line went into the file."""
        self.assertEqual(self.check("range", self.work / "root").count(b"child below"), 3)


class Lines(harmless.Case):
    def test_children_that_have_no_dump_say_so_once(self):
        """A server whose workers could make no dump had a line from each of them in its log."""
        self.work.mkdir()
        command = ["limited", "fsize", "0", "nofile", "3"]
        environment = self.environment_of({})
        self.dumps_folder.mkdir()
        outcome = self.run_watched(harness.target(command[0]), *command[1:], environment=environment)
        lines = outcome.err.splitlines()
        self.assertEqual([line.startswith(b"mprof: cannot write the dump") for line in lines], [True], outcome)


if __name__ == "__main__":
    harmless.main()
