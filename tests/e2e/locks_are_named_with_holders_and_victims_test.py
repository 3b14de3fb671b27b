# SPDX-License-Identifier: Apache-2.0
"""`mprof locks`: which lock, who held it, who waited, whatever the lock is a part of."""

import json
import re
import subprocess
from collections import namedtuple

import harness

EXACT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}

Known = namedtuple("Known", "name kind wait held_ms holders")

# What targets/lock_names.cc does, the worst first: holder -> (its victim, milliseconds).
LOCKS = [
    Known("g_mutex", "mutex", "mutex", 170, {"flush_global": ("put_global", 120), "scan_global": ("get_global", 50)}),
    Known("0x", "mutex", "mutex", 110, {"hold_cache": ("want_cache", 110)}),
    Known("hidden_mutex", "mutex", "mutex", 90, {"hold_hidden": ("want_hidden", 90)}),
    Known("g_registry+0x20", "mutex", "mutex", 70, {"hold_registry": ("want_registry", 70)}),
    Known("store::Table::lock", "rwlock", "rwlock read", 50, {"hold_table": ("want_table", 50)}),
    Known("local_mutex()::lock", "mutex", "mutex", 30, {"hold_local": ("want_local", 30)}),
]

# A thread that is not given a CPU at once holds for longer.
LATE_MS = 60


def function_of(site):
    """Of "(anonymous namespace)::flush_global() /src/lock_names.cc:55"."""
    return re.match(r"(?:\(anonymous namespace\)::)?(\w+)", site)[1]


class Locks(harness.Case):
    def record(self, env=EXACT, **options):
        run = self.run_under(harness.target("lock_names"), env=env, **options)
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "done\n", ""), run)
        return self.only_dump()

    def locks(self, dump, *options):
        return json.loads(self.mprof_ok("locks", "--json", dump, *options).stdout)

    def named(self, report, known):
        """The lock of that name, from the program's own locks."""
        found = [lock for lock in report["locks"] if self.is_named(lock, known)]
        self.assertEqual(len(found), 1, f"{known.name} in {[lock['lock'] for lock in report['locks']]}")
        return found[0]

    @staticmethod
    def is_named(lock, known):
        if known.name == "0x":
            return lock["lock"].startswith("0x") and "make_cache" in lock["lock_site"]
        return re.sub(r"^\(anonymous namespace\)::", "", lock["lock"]) == known.name

    def assert_ms(self, delay_ns, wanted_ms, what):
        ms = delay_ns["value"] / 1e6
        self.assertTrue(wanted_ms * 0.95 - 1 <= ms <= wanted_ms + LATE_MS, f"{what}: {ms} ms, not {wanted_ms}")
        self.assertEqual(delay_ns["stderr"], 0, what)

    def check_lock(self, lock, known):
        self.assertEqual(lock["kind"], known.kind)
        self.assert_ms(lock["contended"]["delay_ns"], known.held_ms, known.name)
        self.assert_ms(lock["waited"]["delay_ns"], known.held_ms, known.name)
        self.assertEqual(lock["contended"]["count"]["value"], len(known.holders), known.name)
        self.assertEqual(lock["waited"]["count"]["value"], len(known.holders), known.name)
        self.assertEqual({function_of(h["site"]) for h in lock["holders"]}, set(known.holders), known.name)
        for holder in lock["holders"]:
            self.check_holder(holder, known)

    def check_holder(self, holder, known):
        victim, ms = known.holders[function_of(holder["site"])]
        self.assertRegex(holder["site"], r"/lock_names\.cc:\d+$")
        self.assertEqual(len(holder["victims"]), 1, holder)
        self.assertEqual(function_of(holder["victims"][0]["site"]), victim)
        self.assertRegex(holder["victims"][0]["site"], r"/lock_names\.cc:\d+$")
        self.assertEqual(holder["victims"][0]["wait"], known.wait)
        self.assert_ms(holder["delay_ns"], ms, holder["site"])

    def test_every_lock_with_its_holders_and_victims(self):
        report = self.locks(self.record())
        for known in LOCKS:
            with self.subTest(known.name):
                self.check_lock(self.named(report, known), known)
        # Joins are waits, and no locks.
        self.assertGreater(report["other_waits"]["count"]["value"], 0)

    def test_the_worst_comes_first(self):
        dump = self.record()
        delays = [lock["contended"]["delay_ns"]["value"] for lock in self.locks(dump)["locks"]]
        self.assertEqual(delays, sorted(delays, reverse=True))
        table = self.mprof_ok("locks", dump).stdout
        self.assertRegex(table, r"\n1\. g_mutex \(mutex\)\n")
        self.assertRegex(table, r"\n\d\. 0x[0-9a-f]+ \(mutex\)\n   in a block allocated by .*make_cache.* .*lock_names\.cc:\d+\n")
        first = table.split("\n1. ")[1].split("\n2. ")[0]
        order = re.findall(r"\d\s+(held by|waited) (?:\(anonymous namespace\)::)?(\w+)", first)
        self.assertEqual(
            order,
            [("held by", "flush_global"), ("waited", "put_global"), ("held by", "scan_global"), ("waited", "get_global")],
        )
        self.assertIn("MPROF_MUTEX_FRACTION=1", table)

    def test_as_many_as_asked_for(self):
        dump = self.record()
        table = self.mprof_ok("locks", "-n", "2", dump).stdout
        self.assertEqual(re.findall(r"^(\d+)\. ", table, re.M), ["1", "2"])
        self.assertRegex(table, r"\n\d+ more locks with ")
        everything = self.mprof_ok("locks", "-n", "0", dump).stdout
        self.assertEqual(len(re.findall(r"^(\d+)\. ", everything, re.M)), len(self.locks(dump)["locks"]))

    def test_labels_of_the_profile_say_the_same(self):
        profile = self.profile(self.record(), "mutex")
        for known in LOCKS:
            for holder, (victim, _) in known.holders.items():
                samples = [s for s in profile.samples if any(holder in f.function for f in s.frames)]
                self.assertEqual(len(samples), 1, f"{holder}: {samples}")
                labels = samples[0].labels
                self.assertEqual(function_of(labels["victim"]), victim)
                self.assertEqual(labels["wait"], known.wait)
                self.assertTrue(known.name in labels["lock"], labels)
                self.assertEqual("make_cache" in labels.get("lock_site", ""), known.name == "0x", labels)

    def test_of_a_running_process(self):
        process = self.start_under(
            harness.target("lock_names"), "stay", env=EXACT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.assertEqual(process.stdout.readline(), b"done\n")
        report = self.locks(process.pid)
        self.assertTrue(report["running"])
        self.check_lock(self.named(report, LOCKS[0]), LOCKS[0])

    def test_without_symbols_it_is_files_and_offsets(self):
        report = self.locks(self.record(), "--symbols", "none")
        worst = report["locks"][0]
        self.assertRegex(worst["lock"], r"^lock_names\+0x[0-9a-f]+$")
        for holder in worst["holders"]:
            self.assertRegex(holder["site"], r"^lock_names\+0x[0-9a-f]+$")

    def test_what_was_not_recorded_is_said(self):
        off = self.record({"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "0"})
        table = self.mprof_ok("locks", off).stdout
        self.assertIn("MPROF_MUTEX_FRACTION=0", table)
        self.assertNotIn("held by", table)
        self.assertRegex(table, r"waiter .*put_global")


if __name__ == "__main__":
    harness.main()
