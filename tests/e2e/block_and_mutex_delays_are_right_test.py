# SPDX-License-Identifier: Apache-2.0
"""Who waited, how long, for what, and because of whom: as the program measured it itself."""

import harness
from lock_truth import contention_profiles, rows_for, rows_of
from pprof import is_function

EXACT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}
DEFAULTS = {}

TOLERANCE, TOLERANCE_NS = 0.05, 500_000

# Of shorter ones some are counted by chance.
SURELY_COUNTED_NS = 20_000_000

# Their functions are called from an inlined one in between.
THROUGH_ANOTHER = (
    "Timed", "Clock", "Std", "Expiring", "Signal", "Broadcast", "Given", "Cnd", "Join", "Thrd", "PthreadBarrier",
)


def called_directly(site):
    return not any(f"<{name}" in site for name in THROUGH_ANOTHER)


class Delays(harness.Case):
    def truth_and_profiles(self, command, env):
        run = self.run_under(*command, env=env)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        rows = rows_of(run.stdout)
        self.assertGreater(len(rows), 0, run)
        dump = self.only_dump()
        profiles = contention_profiles(self, dump, ("block", "mutex"))
        dump.unlink()
        return rows, profiles

    def check(self, *command):
        for name, env in (("exact", EXACT), ("defaults", DEFAULTS)):
            with self.subTest(name):
                rows, profiles = self.truth_and_profiles(command, env)
                for kind, profile in profiles.items():
                    self.assertEqual(
                        profile.sample_types, [("contentions", "count"), ("delay", "nanoseconds")]
                    )
                    self.check_profile(profile, [r for r in rows if r.profile == kind], env is EXACT)
                    self.assert_no_own_frames(profile)

    def check_profile(self, profile, rows, exact):
        found = {row[:3]: [0, 0] for row in ((r.site, tuple(r.waits), r.lock) for r in rows)}
        for sample in profile.samples:
            mine = rows_for(sample, rows)
            self.assertEqual(len(mine), 1, f"sites of {sample}: {mine}")
            self.check_sample(sample, mine[0])
            sums = found[mine[0].site, tuple(mine[0].waits), mine[0].lock]
            sums[0] += sample.values["contentions"]
            sums[1] += sample.values["delay"]
        for row in rows:
            self.check_row(row, *found[row.site, tuple(row.waits), row.lock], exact)

    def check_row(self, row, count, delay_ns, exact):
        self.assertLessEqual(delay_ns, row.most_ns * (1 + TOLERANCE) + TOLERANCE_NS, row)
        if row.count == 0:  # possible, but not of necessity
            return
        self.assertGreaterEqual(delay_ns, row.least_ns * (1 - TOLERANCE) - TOLERANCE_NS, row)
        if row.waits == ["futex"]:
            # The C++ library goes back to sleep when it was woken for another.
            self.assertGreaterEqual(count, row.count, row)
        elif exact or row.least_ns >= SURELY_COUNTED_NS * row.count:
            self.assertEqual(count, row.count, row)

    def check_sample(self, sample, row):
        if called_directly(row.site):
            self.assertTrue(is_function(sample.frames[0].function, row.site), sample)
        self.check_lock(sample, row)
        if row.profile == "mutex":
            self.check_victim(sample, row)

    def check_lock(self, sample, row):
        lock = sample.labels.get("lock")
        if row.lock.startswith("0x"):
            self.assertRegex(lock, r"^0x[0-9a-f]+$")
        elif row.lock != "-":
            self.assertEqual(lock, row.lock, sample)
        if row.lock == "0x: allocate_lock":
            self.assertRegex(sample.labels["lock_site"], r"^allocate_lock .*lock_kinds\.h:\d+$")
        elif row.lock != "-":
            self.assertNotIn("lock_site", sample.labels)

    def check_victim(self, sample, row):
        function, _, line = sample.labels["victim"].rpartition(" ")
        self.assertRegex(line, r":\d+$")
        if all(called_directly(victim) for victim in row.victims):
            self.assertTrue(any(is_function(function, v) for v in row.victims), sample)

    def test_mutexes(self):
        self.check(harness.target("lock_truth"), "mutex")

    def test_spin_locks(self):
        self.check(harness.target("lock_truth"), "spin")

    def test_rwlocks(self):
        self.check(harness.target("lock_truth"), "rwlock")

    def test_condition_variables(self):
        self.check(harness.target("lock_truth"), "cond")

    def test_semaphores_barriers_and_joins(self):
        self.check(harness.target("lock_truth"), "others")

    def test_deadlines_that_pass(self):
        self.check(harness.target("lock_truth"), "deadlines")

    def test_standard_library(self):
        self.check(harness.target("lock_truth"), "std")

    def test_standard_library_on_futexes(self):
        self.check(harness.target("lock_truth"), "futex")

    def test_c11(self):
        self.check(harness.target("lock_truth"), "c11")

    def test_one_of_them_off(self):
        """Neither profile needs the other."""
        command = [harness.target("lock_truth"), "mutex"]
        for kind, off in (("mutex", "MPROF_BLOCK_RATE"), ("block", "MPROF_MUTEX_FRACTION")):
            with self.subTest(f"{off}=0"):
                rows, profiles = self.truth_and_profiles(command, {**EXACT, off: "0"})
                self.check_profile(profiles.pop(kind), [r for r in rows if r.profile == kind], True)
                for other in profiles.values():
                    self.assertEqual(other.samples, [])


if __name__ == "__main__":
    harness.main()
