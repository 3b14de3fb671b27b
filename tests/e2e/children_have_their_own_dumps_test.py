# SPDX-License-Identifier: Apache-2.0
"""fork, vfork, posix_spawn, exec: each process writes its own dump, and sees what it saw before."""

import harness

PARENT_BEFORE = ("parent_before", 10, 10000, 10, 10000)
PARENT_AFTER = ("parent_after", 20, 40000, 20, 40000)
CHILD = ("child_allocates", 30, 90000, 30, 90000)


class Children(harness.Case):
    def both(self, how):
        program = harness.target("children")
        plain, under = self.run_plain(program, how), self.run_under(program, how)
        self.assert_same_behaviour(plain, under)
        return [self.profile(dump) for dump in self.dumps()]

    def split(self, profiles):
        """(the one of the process that began, the others)"""
        first = [p for p in profiles if p.below("parent_before")["alloc_objects"]]
        self.assertEqual(len(first), 1)
        return first[0], [p for p in profiles if p is not first[0]]

    def check_parent_and_child(self, how):
        parent, children = self.split(self.both(how))
        self.assertEqual(len(children), 1)
        for site in (PARENT_BEFORE, PARENT_AFTER):
            self.assert_site(parent, *site)
        self.assertEqual(parent.below("child_allocates")["alloc_objects"], 0)
        self.assert_site(children[0], *CHILD)
        # What the parent allocated before the fork is the parent's.
        self.assertEqual(children[0].below("parent_before")["alloc_objects"], 0)

    def test_fork(self):
        self.check_parent_and_child("fork")

    def test_fork_and_quit(self):
        self.check_parent_and_child("fork_quits")

    def test_vfork(self):
        self.check_parent_and_child("vfork")

    def test_spawn(self):
        self.check_parent_and_child("spawn")

    def test_vfork_child_that_allocates(self):
        """It runs in its parent's memory, and must not make a mess of the parent's dump."""
        (parent,) = self.both("vfork_allocates")
        for site in (PARENT_BEFORE, PARENT_AFTER):
            self.assert_site(parent, *site)

    def test_exec(self):
        """The pid stays, the program is another: two dumps."""
        before, after = self.split(self.both("exec"))
        self.assert_site(before, *PARENT_BEFORE)
        self.assertEqual(len(after), 1)
        self.assert_site(after[0], *CHILD)

    def test_fork_under_load(self):
        """Forks while other threads allocate: no child hangs, each has its dump."""
        parent, children = self.split(self.both("fork_under_load"))
        self.assert_site(parent, *PARENT_AFTER)
        self.assertEqual(len(children), 20)
        for child in children:
            self.assert_site(child, *CHILD)


if __name__ == "__main__":
    harness.main()
