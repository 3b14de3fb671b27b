# SPDX-License-Identifier: Apache-2.0
"""A program whose threads wait for each other, with and without the library: what it does, who waited for whom."""

import json
from collections import namedtuple

import harness
from lock_truth import contention_profiles, on_stack
from real_program import RealProgram

# What has to be there: a function with waits of this kind, for so long at least.
Waits = namedtuple("Waits", "function wait least_ms", defaults=(0,))

DEFAULTS = {}
EVERY_WAIT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}

KINDS = ("block", "mutex", "threadcreate")

# The waiter's clock is read before and after the lock's, the kernel may come in between.
CLOCKS_NS = 1_000_000


class ContendedProgram(RealProgram):
    # Threads may still be there after the end.
    counted_losses = {"after the end"}

    def in_each_setting(self, check):
        """check(settings of the library), as a sub test that finds no dump of the one before."""
        for settings in (DEFAULTS, EVERY_WAIT):
            with self.subTest(**settings):
                check(settings)
            for dump in self.dumps():
                dump.unlink()

    def contend(self, command, block, mutex, look, env=None, rate=None):
        """A program that ends with 3 does the same with the library, in each setting. What is wanted is in its
        profiles, and look(profiles) checks the rest."""
        env = env or {}
        plain = self.run_plain(*command, env=env)
        self.assertEqual(plain.returncode, 3, plain)

        def check(settings):
            under = self.run_under(*command, rate=rate or self.rate, env={**env, **settings})
            self.assert_same_behaviour(plain, under)
            look(self.check_contention(self.only_dump(), block, mutex, settings is EVERY_WAIT))

        self.in_each_setting(check)

    def check_contention(self, dump, block, mutex, is_exact):
        """Everything reads it without a complaint, and what is wanted is there. The profiles, by kind."""
        for kind in KINDS:
            file = self.profile_file(dump, kind)
            self.assertIn("flat%", self.go_pprof("-top", file))
            self.assertIn("Mappings", self.go_pprof("-raw", file))
            self.go_pprof("-tags", file)
        profiles = contention_profiles(self, dump, KINDS)
        for kind, profile in profiles.items():
            self.check_samples(kind, profile)
        self.check_waits(profiles["block"], block)
        self.check_waits(profiles["mutex"], mutex)
        self.check_locks(dump, is_exact)
        self.check_reports(dump)
        return profiles

    def check_samples(self, kind, profile):
        labels = {"block": {"wait"}, "mutex": {"wait", "lock", "victim"}, "threadcreate": set()}
        self.assert_no_own_frames(profile)
        for sample in profile.samples:
            self.assertTrue(all(value > 0 for value in sample.values.values()), sample)
            self.assertEqual(labels[kind] - set(sample.labels), set(), sample)

    def check_waits(self, profile, wanted):
        for waits in wanted:
            found = [s for s in profile.samples if on_stack(s, waits.function) and s.labels["wait"] == waits.wait]
            self.assertTrue(found, f"{waits}: {sorted(profile.names())[:200]}")
            self.assertGreaterEqual(sum(s.values["delay"] for s in found), waits.least_ms * 1e6, waits)

    def check_locks(self, dump, is_exact):
        """A lock is waited for while somebody waits: no longer than its waiters, no longer than the run."""
        report = json.loads(self.mprof_ok("locks", "--json", "-n", "0", dump).stdout)
        self.assertIn("Locks of", self.mprof_ok("locks", dump).stdout)
        for lock in report["locks"] if is_exact else []:
            contended_ns = lock["contended"]["delay_ns"]["value"]
            self.assertLessEqual(contended_ns, report["duration_ns"], lock)
            self.assertLessEqual(contended_ns, lock["waited"]["delay_ns"]["value"] * 1.02 + CLOCKS_NS, lock)

    def check_reports(self, dump):
        lost = set(self.info(dump)["lost"])
        self.assertLessEqual(lost, self.counted_losses, self.mprof_ok("info", dump).stdout)
        for kind in ("--block", "--mutex"):
            self.assertIn("flat", self.mprof_ok("top", kind, dump).stdout)

    def check_threads(self, profile, started):
        """{pattern of a start function: how many}, and the main thread."""
        # A thread whose creation passed the hooks is there too, below a frame of its own.
        [main_thread] = [
            s for s in profile.samples if "start" not in s.labels and s.frames[0].function != "[incomplete]"
        ]
        self.assertEqual([f.function for f in main_thread.frames], ["[before mprof]"])
        self.assertEqual(main_thread.values["threadcreate"], 1)
        found = {}
        for sample in profile.samples:
            if "start" in sample.labels:
                start = sample.labels["start"]
                found[start] = found.get(start, 0) + sample.values["threadcreate"]
        for pattern, count in started.items():
            self.assertEqual(sum(n for start, n in found.items() if pattern.search(start)), count, found)
        unknown = [start for start in found if not any(p.search(start) for p in started)]
        self.assertEqual(unknown, [], found)


main = harness.main
