# SPDX-License-Identifier: Apache-2.0
"""Eight threads at the pthread mutexes of an allocator: they are profiled while the profiler's hooks are in malloc."""

import re

import harness
from contended_program import EVERY_WAIT, ContendedProgram, Waits

COMMAND = harness.target("malloc_threads")
ALLOCATOR = "libjemalloc.so.2"
# One arena, and every call goes to it.
CONTENDED = "narenas:1,tcache:false"

BLOCK = [Waits("hammer", "mutex", 5), Waits("main", "join", 5)]
MUTEX = [Waits("hammer", "mutex", 5)]

# Those functions of its that do not jump to a nameless one.
NAMED = {"aligned_alloc", "calloc", "realloc"}


class AllocatorThreads(ContendedProgram):
    # All threads want the same few rows; one that loses its processor may hold one for long. What is
    # lost so is counted; that none is lost silently, the other checks show.
    counted_losses = ContendedProgram.counted_losses | {
        "row contended",
        "wait or thread not counted",
    }

    def check_with(self, options, rate):
        env = {"MALLOC_CONF": options}
        plain = self.run_plain(COMMAND, env={**env, "LD_PRELOAD": ALLOCATOR})
        self.assertEqual((plain.returncode, plain.stderr), (3, ""), plain)
        self.in_each_setting(
            lambda settings: self.check(plain, {**env, **settings}, rate, settings is EVERY_WAIT)
        )

    def check(self, plain, env, rate, is_exact):
        under = self.run_under(COMMAND, rate=rate, env=env, preload=[ALLOCATOR])
        self.assert_same_behaviour(plain, under)
        profiles = self.check_contention(self.only_dump(), BLOCK, MUTEX, is_exact)
        self.check_threads(profiles["threadcreate"], {re.compile("^hammer$"): 8})
        self.assertTrue(NAMED & profiles["mutex"].names(), profiles["mutex"].names())
        for sample in profiles["mutex"].samples:
            self.assertIn(ALLOCATOR, sample.frames[0].mapping, sample)
            self.assertRegex(sample.labels["victim"], r"^libjemalloc\.so\.2\+0x|alloc|free")

    def test_jemalloc(self):
        self.check_with(CONTENDED, self.rate)

    def test_jemalloc_with_threads_of_its_own(self):
        self.check_with(f"{CONTENDED},background_thread:true,dirty_decay_ms:1", self.rate)

    def test_jemalloc_with_every_call_sampled(self):
        """Then each call takes a stack, and the live table, before and after the allocator's locks."""
        self.check_with(CONTENDED, 1)


if __name__ == "__main__":
    harness.main()
