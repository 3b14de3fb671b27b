# SPDX-License-Identifier: Apache-2.0
"""What a program does to its environment, its children must not suffer from."""

import harmless
import harness


class Environment(harmless.Case):
    def check(self, how, children):
        self.check_unchanged(harness.target("environment"), how)
        # Those of the last setting, without snapshots: each child has its own, where the user wanted it.
        names = [harmless.DUMP.fullmatch(dump.name) for dump in self.dumps(self.dumps_folder)]
        made = {name[1] for name in names if name}
        self.assertEqual(len(made), children + 1, names)

    def test_setenv_in_a_child(self):
        """zsh's children crashed now and then: setenv() moves the environment with realloc(), and if that was
        the child's first allocation, a trace from the start looked for MPROF_DRAIN in the old one, freed
        already. The environment is read once now, at the start of the process."""
        self.check("setenv", 2)

    def test_overwritten_by_a_title(self):
        """Servers write their title over the first environment (setproctitle). Children took the path of
        their dump from there: it was a file named by the title, in the program's folder."""
        self.check("title", 1)

    def test_no_environment(self):
        self.check("clear", 1)


if __name__ == "__main__":
    harmless.main()
