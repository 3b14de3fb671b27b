# SPDX-License-Identifier: Apache-2.0
"""A program that prints what a profile must say of each of its functions, held against the profile."""

import harness


class CountedOnce(harness.Case):
    def check(self, program, *args, preload=(), at_least=15):
        run = self.run_under(harness.target(program), *args, preload=preload)
        self.assertEqual(run.returncode, 0, run)
        self.assertEqual(run.stderr, "")
        dump = self.only_dump()
        profile = self.profile(dump)
        lines = run.stdout.splitlines()
        self.assertGreaterEqual(len(lines), at_least)
        for line in lines:
            function, *numbers = line.split()
            with self.subTest(function=function, program=program, preload=preload):
                if function == "new_failing_nothrow":
                    # libstdc++'s form throws inside: an exception object comes and goes.
                    found = profile.below(function)
                    self.assertLessEqual(found["alloc_objects"], 1)
                    self.assertEqual(found["inuse_objects"], 0)
                else:
                    self.assert_site(profile, function, *map(int, numbers))
        self.assert_no_own_frames(profile)
        dump.unlink()
        return {line.split()[0] for line in lines}


main = harness.main
