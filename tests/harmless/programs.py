# SPDX-License-Identifier: Apache-2.0
"""Programs of the distribution: what every test stands on that runs some."""

import shutil

import harmless

# The distribution's, whatever else the machine has.
PATH = "/usr/bin:/bin"
SURROUNDINGS = {"PATH": PATH, "TZ": "UTC", "TERM": "dumb"}


class Programs(harmless.Case):
    def needs(self, *names):
        """scripts/install_deps.sh installs them: one that is missing is a failure."""
        missing = [name for name in names if not shutil.which(name, path=PATH)]
        self.assertEqual(missing, [], "programs that are not installed: scripts/install_deps.sh test")

    def check_works(self, *command, status=0, err=b"", env=None, **options):
        """The same in every setting, and done: that it fails each time would prove nothing."""
        self.needs(command[0])
        env = {**SURROUNDINGS, "HOME": str(self.work), "TMPDIR": str(self.dir), **(env or {})}
        outcome = self.check_unchanged(shutil.which(command[0], path=PATH), *command[1:], env=env, **options)
        self.assertEqual((outcome.status, outcome.err), (status, err), outcome)
        return outcome

    def check_script(self, script, *needed, shell="dash", **options):
        self.needs(*needed)
        return self.check_works(shell, "-c", "set -eu\n" + script, **options)


main = harmless.main
