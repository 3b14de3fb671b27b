# SPDX-License-Identifier: Apache-2.0
"""Labels that a program sets are on its samples, and `go tool pprof` filters and sums by them."""

import re

import harness
from pprof import is_function

EVERY_WAIT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}
OWN_KEYS = {"wait", "lock", "lock_site", "victim"}
STORM_VALUES = 1000000
MOST_ROWS = 65536


class Labelled(harness.Case):
    def run_part(self, part, env=None, rate=1):
        run = self.run_under(harness.target("labelled"), part, env=env, rate=rate)
        self.assertEqual(run.returncode, 0, run)
        self.assertEqual(run.stdout, "done\n", run)
        self.assertEqual(run.stderr, "", run)

    def labels_of(self, profile, site):
        """The label sets of the samples below a function, without what mprof adds."""
        sets = [
            {k: v for k, v in sample.labels.items() if k not in OWN_KEYS}
            for sample in profile.samples
            if any(is_function(frame.function, site) for frame in sample.frames)
        ]
        self.assertTrue(sets, site)
        return sets

    def assert_labels(self, profile, site, wanted):
        self.assertEqual(self.labels_of(profile, site), [wanted], site)

    def lost_lines(self, dump):
        return [line for line in self.mprof_ok("info", dump).stdout.splitlines() if "[other]" in line]


class OfTheHeap(Labelled):
    def setUp(self):
        super().setUp()
        self.run_part("heap")
        self.dump = self.only_dump()

    def test_each_sample_has_what_was_in_force(self):
        profile = self.profile(self.dump)
        for site, wanted in {
            "plain_site": {},
            "one_label_site": {"handler": "spin"},
            "two_labels_site": {"handler": "spin", "request": "7"},
            "inner_scope_site": {"handler": "spin", "request": "8", "tenant": "t1"},
            "after_scope_site": {"handler": "spin", "request": "7"},
            "cleared_site": {"request": "7"},
        }.items():
            self.assert_labels(profile, site, wanted)
        self.assertCountEqual(
            self.labels_of(profile, "many_values_site"), [{"request": str(i)} for i in range(10)]
        )
        # The free of a block counts where the block does, whatever is in force then.
        self.assertEqual(profile.below("plain_site")["inuse_space"], 0)

    def test_go_pprof_sums_by_tags(self):
        tags = self.go_pprof("-tags", "-unit=B", "-sample_index=inuse_space", self.profile_file(self.dump))
        self.assertRegex(tags, r"(?m)^ handler: Total 4000\.0B\n\s+4000\.0B \(\s*100%\): spin$")
        self.assertRegex(tags, r"(?m)^ tenant: Total 1000\.0B\n\s+1000\.0B \(\s*100%\): t1$")
        request = re.search(r"(?ms)^ request: .*?\n\n", tags + "\n")[0]
        self.assertRegex(request, r"4000\.0B \([ \d.]+%\): 7\n")
        self.assertRegex(request, r"2000\.0B \([ \d.]+%\): 8\n")

    def shown(self, *options):
        text = self.go_pprof("-top", "-unit=B", "-nodefraction=0", *options, self.profile_file(self.dump))
        return int(re.search(r"(?m)^Showing nodes accounting for (\d+)B", text)[1])

    def test_go_pprof_focuses_on_tags(self):
        self.assertEqual(self.shown("-tagfocus=handler=spin"), 4000)
        self.assertEqual(self.shown("-tagfocus=request=^8$"), 2000)
        self.assertEqual(self.shown("-tagfocus=request=^8$", "-tagignore=tenant=t1"), 1000)

    def test_go_pprof_makes_tags_roots(self):
        text = self.go_pprof("-traces", "-tagroot=handler", self.profile_file(self.dump))
        self.assertRegex(text, r"two_labels_site\n(.*\n)*?\s+spin\n")

    def test_totals_are_those_of_an_unlabelled_program(self):
        info = self.info(self.dump)
        self.assertEqual(info["events"]["equal"], True)


class OfThreads(Labelled):
    def test_a_thread_begins_with_its_creators(self):
        self.run_part("threads")
        profile = self.profile(self.only_dump())
        for site in ("posix_thread_site", "c11_thread_site", "cxx_thread_site", "creator_site"):
            self.assert_labels(profile, site, {"request": "7"})
        self.assert_labels(profile, "changed_thread_site", {"request": "8"})
        self.assert_labels(profile, "handed_over_site", {"request": "7"})


class OfLocks(Labelled):
    def test_waiter_and_releaser_have_their_own(self):
        self.run_part("locks", env=EVERY_WAIT)
        dump = self.only_dump()
        self.assert_labels(self.profile(dump, "block"), "waiter_site", {"role": "waiter"})
        mutex = self.profile(dump, "mutex")
        self.assert_labels(mutex, "holder_site", {"role": "holder"})
        (sample,) = [s for s in mutex.samples if any(f.function == "holder_site" for f in s.frames)]
        self.assertEqual(set(sample.labels), {"role", "wait", "lock", "victim"})

    def test_go_pprof_focuses_on_them(self):
        self.run_part("locks", env=EVERY_WAIT)
        file = self.profile_file(self.only_dump(), "block")
        text = self.go_pprof("-top", "-nodefraction=0", "-tagfocus=role=waiter", file)
        self.assertIn("waiter_site", text)
        self.assertNotIn("join", text)
        self.assertRegex(self.go_pprof("-tags", file), r"(?m)%\): waiter$")


class OfProcessorTime(Labelled):
    def test_samples_have_what_was_in_force(self):
        self.run_part("cpu", env={"MPROF_CPU_HZ": "250"})
        profile = self.profile(self.only_dump(), "cpu")
        self.assertCountEqual(
            {tuple(labels.items()) for labels in self.labels_of(profile, "spin_site")},
            [(("handler", "heavy"),), (("handler", "light"),)],
        )
        spent_ms = {
            handler: sum(s.values["cpu"] for s in profile.samples if s.labels.get("handler") == handler) / 1e6
            for handler in ("heavy", "light")
        }
        self.assertAlmostEqual(spent_ms["heavy"], 600, delta=60)
        self.assertAlmostEqual(spent_ms["light"], 200, delta=40)


class Storm(Labelled):
    def test_million_values_are_bounded_counted_and_shown(self):
        self.run_part("storm")
        dump = self.only_dump()
        profile = self.profile(dump)
        self.assert_labels(profile, "early_value_site", {"request": "request-17"})
        self.assert_labels(profile, "late_value_site", {"request": "[other]"})
        self.assert_labels(profile, "beside_late_value_site", {"request": "[other]", "handler": "spin"})
        line = f'{STORM_VALUES - MOST_ROWS} labels of the program became "[other]" or were left out'
        self.assertTrue(any(line in comment for comment in profile.comments), profile.comments)
        self.assertEqual(len(self.lost_lines(dump)), 1)
        self.assertLess(dump.stat().st_blocks * 512, 8 << 20)

    def test_buckets_are_bounded_and_their_totals_right(self):
        self.run_part("buckets")
        dump = self.only_dump()
        profile = self.profile(dump, "allocs")
        self.assertEqual(profile.below("bucket_storm_site")["alloc_objects"], 4 * 40000)
        self.assertIn({}, self.labels_of(profile, "bucket_storm_site"))
        self.assertEqual(len(self.lost_lines(dump)), 1)
        self.assertLess(dump.stat().st_blocks * 512, 64 << 20)


class Fork(Labelled):
    def test_child_begins_without_labels_and_may_set_its_own(self):
        self.run_part("fork")
        dumps = {self.info(dump)["pid"]: dump for dump in self.dumps()}
        self.assertEqual(len(dumps), 2)
        profiles = [self.profile(dump) for dump in dumps.values()]
        (parent,) = [p for p in profiles if "parent_site" in p.names()]
        (child,) = [p for p in profiles if "child_site" in p.names()]
        self.assert_labels(parent, "parent_site", {"request": "7"})
        self.assert_labels(child, "child_site", {})
        self.assert_labels(child, "labelled_child_site", {"request": "child"})
        self.assert_labels(child, "restored_child_site", {})


class Signals(Labelled):
    def test_handler_that_labels_disturbs_nothing(self):
        for rate in (1, 512):
            with self.subTest(rate=rate):
                self.run_part("signals", rate=rate)
                dump = self.only_dump()
                if rate == 1:
                    self.assert_labels(self.profile(dump), "interrupted_site", {"request": "7"})
                dump.unlink()


class Reported(Labelled):
    def test_paused_allocations_are_left_out_and_frees_are_not(self):
        self.run_part("report")
        profile = self.profile(self.only_dump())
        self.assertFalse({"paused_site", "nested_pause_site"} & profile.names())
        self.assert_site(profile, "thread_beside_pause_site", 1, 1000, 1, 1000)
        self.assert_site(profile, "resumed_site", 1, 1000, 1, 1000)
        self.assert_site(profile, "freed_in_pause_site", 1, 1000, 0, 0)

    def test_blocks_of_an_arena_are_counted_beside_its_memory(self):
        self.run_part("report")
        profile = self.profile(self.only_dump())
        self.assert_site(profile, "arena_memory_site", 1, 100000, 1, 100000)
        self.assert_site(profile, "arena_block_site", 100, 50000, 60, 30000)

    def test_reported_blocks_are_sampled_at_the_rate(self):
        self.run_part("report", rate=2000)
        info = self.info(self.only_dump())
        self.assertEqual(info["events"]["equal"], True)

    def test_go_pprof_begins_at_the_caller(self):
        self.run_part("report")
        top = self.go_pprof("-top", "-nodefraction=0", self.profile_file(self.only_dump()))
        self.assertRegex(top, r"(?m) 30000B? .*arena_block_site|29\.30kB .*arena_block_site")
        self.assertNotIn("mprof_alloc", top)


if __name__ == "__main__":
    harness.main()
