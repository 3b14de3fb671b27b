# SPDX-License-Identifier: Apache-2.0
"""Shells and the small programs that scripts are made of."""

import harmless

SCRIPT = r"""
set -eu
for i in 1 2 3 4 5; do
  seq 1 $((i * 1000)) | sort -r -n | head -n 3 | tr '\n' ' ' | sed -e "s/^/$i: /"
  echo
done > lines
( trap 'echo child ends' EXIT; exit 3 ) || echo "subshell: $?"
cut -d: -f1 lines | paste -s -d+ - | tee sum
wc -l < lines
mkdir -p a/b/c; : > a/b/c/file; cp -a a copy; find copy -type f | sort
kill -TERM $$
"""


class Shells(harmless.Case):
    def test_dash(self):
        self.check_unchanged("dash", "-c", SCRIPT)

    def test_bash(self):
        self.check_unchanged("bash", "-c", SCRIPT)


if __name__ == "__main__":
    harmless.main()
