# SPDX-License-Identifier: Apache-2.0
"""git makes, walks and packs a synthetic repository: one process and many."""

import random

import harness
from real_program import RealProgram


def fast_import_stream(commits):
    chance = random.Random(1)
    files = {f"d{i % 17}/f{i}.txt": [f"line {j} {chance.random()}" for j in range(100)] for i in range(60)}
    for commit in range(commits):
        message = f"commit {commit}"
        yield f"commit refs/heads/master\nmark :{commit + 1}\ncommitter A <a@b> {1600000000 + commit} +0000\n"
        yield f"data {len(message)}\n{message}\n"
        if commit:
            yield f"from :{commit}\n"
        for name in sorted(files) if commit == 0 else chance.sample(sorted(files), 5):
            files[name][chance.randrange(100)] = f"line {chance.random()} of {commit}"
            body = "\n".join(files[name]) + "\n"
            yield f"M 644 inline {name}\ndata {len(body)}\n{body}\n"


class Git(RealProgram):
    def setUp(self):
        super().setUp()
        self.env = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat", "HOME": str(self.dir)}
        self.repository = self.dir / "repository"
        self.run_plain("git", "init", "-q", "--bare", "-b", "master", self.repository, env=self.env)
        made = self.git("fast-import", "--quiet", input="".join(fast_import_stream(150)))
        self.assertEqual(made.returncode, 0, made)

    def git(self, *args, **options):
        return self.run_plain("git", f"--git-dir={self.repository}", *args, env=self.env, **options)

    def git_under(self, *args):
        return self.run_under(
            "git", f"--git-dir={self.repository}", *args, rate=self.rate, env=self.env
        )

    def test_log(self):
        log = ["log", "-p", "--stat", "--find-renames", "master"]
        self.assert_same_behaviour(self.git(*log), self.git_under(*log))
        # The git binary has no symbols; the library it inflates with exports its own.
        dump = self.only_dump()
        self.check_profile(dump, ["inflateInit2_"])
        files = {f.mapping for s in self.profile(dump).samples for f in s.frames}
        self.assertTrue(any(file.endswith("/git") for file in files), files)

    def test_children(self):
        """gc starts children, which have their own dumps."""
        done = self.git_under("gc", "--quiet", "--prune=now")
        self.assertEqual(done.returncode, 0, done)
        self.assertGreater(len(self.dumps()), 2)
        self.assertEqual(self.git("fsck", "--strict").returncode, 0)
        for dump in self.dumps():
            self.mprof_ok("info", dump)

    def test_failure(self):
        show = ["show", "no-such-revision"]
        plain, under = self.git(*show), self.git_under(*show)
        self.assertEqual(plain.returncode, 128, plain)
        self.assert_same_behaviour(plain, under)


if __name__ == "__main__":
    harness.main()
