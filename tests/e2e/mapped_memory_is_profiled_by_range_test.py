# SPDX-License-Identifier: Apache-2.0
"""MPROF_MMAP=1: what a program maps, cuts, moves and unmaps is counted to the last page."""

import harness
from allocators import ALLOCATORS

KIB = 1 << 10
MIB = 1 << 20

# function: objects and bytes allocated, objects and bytes in use at the end
SITES = {
    "keeps_private": (1, 3 * MIB, 1, 3 * MIB),
    "keeps_shared": (1, 2 * MIB, 1, 2 * MIB),
    "rounds_to_pages": (1, 8 * KIB, 1, 8 * KIB),
    "uses_mmap64": (1, MIB, 1, MIB),
    "cuts_head": (1, 8 * MIB, 1, 7 * MIB),
    "cuts_tail": (1, 8 * MIB, 1, 6 * MIB),
    "cuts_middle": (1, 8 * MIB, 1, 5 * MIB),
    "cuts_until_nothing_is_left": (1, 4 * MIB, 0, 0),
    # 6 MiB were taken by other mappings, 1 MiB on each side of them was unmapped.
    "reserves": (1, 16 * MIB, 1, 8 * MIB),
    "commits": (3, 6 * MIB, 0, 0),
    "maps_a_file": (0, 0, 0, 0),
    "loses_a_part_to_a_file": (1, 4 * MIB, 1, 3 * MIB),
    # Like realloc: the old mapping ends, a new one begins.
    "remaps_larger": (2, 20 * MIB, 1, 16 * MIB),
    "remaps_smaller": (1, 8 * MIB, 1, 3 * MIB),
    "remaps_to_a_fixed_place": (3, 6 * MIB, 1, 2 * MIB),
    "remaps_a_part": (2, 9 * MIB, 2, 8 * MIB),
    "remaps_and_leaves_it_mapped": (2, 4 * MIB, 2, 4 * MIB),
    "duplicates_a_shared_one": (2, 2 * MIB, 2, 2 * MIB),
    "remaps_a_file": (0, 0, 0, 0),
    "fails": (1, 8 * MIB, 1, 8 * MIB),
    "maps_by_syscall": (0, 0, 0, 0),
    "moves_the_break_by_sbrk": (1, MIB, 1, 768 * KIB),
    "moves_the_break_by_brk": (1, 512 * KIB, 1, 128 * KIB),
    "maps_in_a_handler": (1, MIB, 1, MIB),
    "maps_in_a_thread": (1, 5 * MIB, 1, MIB),
    "loses_it_to_a_vfork_child": (1, 2 * MIB, 0, 0),
}
ROUNDS = 4 * 2000  # of the storm, all threads together


def mapped_total(profile):
    """Sum of what is labelled as a mapping, (objects, bytes, live objects, live bytes)."""
    total = [0, 0, 0, 0]
    for sample in profile.samples:
        if sample.labels.get("kind") == "mmap":
            total = [a + b for a, b in zip(total, sample.values.values())]
    return tuple(total)


class MappedMemory(harness.Case):
    def profile_of(self, *args, preload=(), rate=1):
        run = self.run_under(
            harness.target("maps"), *args, rate=rate, preload=preload, env={"MPROF_MMAP": "1"}
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        return run, self.profile(self.only_dump())

    def check_sites(self, profile):
        for function, expected in SITES.items():
            with self.subTest(function):
                self.assert_site(profile, function, *expected)
        # And nothing else: no mapping of the allocator, of libc or of the library itself.
        expected = tuple(sum(column) for column in zip(*SITES.values()))
        self.assertEqual(mapped_total(profile), expected)

    def test_each_allocator(self):
        for name, preload in ALLOCATORS.items():
            with self.subTest(name):
                for dump in self.dumps():
                    dump.unlink()
                plain = self.run_plain(harness.target("maps"), env={"LD_PRELOAD": ":".join(preload)})
                run, profile = self.profile_of(preload=preload)
                self.assert_same_behaviour(plain, run)
                self.check_sites(profile)
                self.assert_no_own_frames(profile)

    def test_mappings_are_exact_at_any_rate(self):
        for rate in (0, 1 << 30):
            with self.subTest(rate=rate):
                for dump in self.dumps():
                    dump.unlink()
                _, profile = self.profile_of(rate=rate)
                for function in ("cuts_middle", "remaps_larger", "moves_the_break_by_sbrk"):
                    self.assert_site(profile, function, *SITES[function])

    def test_events_equal_the_buckets(self):
        self.profile_of()
        info = self.mprof_ok("info", self.only_dump()).stdout
        self.assertRegex(info, r"(?m)^lost +nothing$")
        self.assertRegex(info, r"double entry +events equal the \d+ buckets")

    def test_peak(self):
        self.profile_of("storm")
        peak = self.profile(self.only_dump(), kind="peak").below("storms")["inuse_space"]
        # One to four threads hold at most 64 KiB and what mremap adds to it.
        self.assertGreaterEqual(peak, 64 * KIB)
        self.assertLessEqual(peak, 4 * 96 * KIB)

    def test_threads_that_share_addresses(self):
        _, profile = self.profile_of("storm")
        self.assertEqual(mapped_total(profile), (2 * ROUNDS, ROUNDS * 112 * KIB, 0, 0))
        info = self.mprof_ok("info", self.only_dump()).stdout
        self.assertRegex(info, r"(?m)^lost +nothing$")

    def test_forked_child_knows_only_its_own(self):
        run = self.run_under(harness.target("maps"), "fork", env={"MPROF_MMAP": "1"})
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        profiles = [self.profile(dump) for dump in self.dumps()]
        self.assertEqual(len(profiles), 2)
        parent, child = sorted(profiles, key=lambda p: p.below("maps_in_the_child")["alloc_space"])
        self.assert_site(parent, "maps_in_the_parent", 1, 6 * MIB, 1, 4 * MIB)
        self.assert_site(parent, "maps_in_the_child", 0, 0, 0, 0)
        self.assert_site(child, "maps_in_the_child", 1, 2 * MIB, 1, 2 * MIB)
        self.assert_site(child, "maps_in_the_parent", 0, 0, 0, 0)

    def test_not_asked_for(self):
        plain = self.run_plain(harness.target("maps"))
        run = self.run_under(harness.target("maps"))
        self.assert_same_behaviour(plain, run)
        self.assertEqual(mapped_total(self.profile(self.only_dump())), (0, 0, 0, 0))


if __name__ == "__main__":
    harness.main()
