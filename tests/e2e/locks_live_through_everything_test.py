# SPDX-License-Identifier: Apache-2.0
"""Locks in constructors, in signal handlers, across fork, until after the thread or the lock is gone."""

import tempfile
from pathlib import Path

import harness
from lock_truth import contention_profiles, on_stack

EVERY_WAIT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}

# What is surely waited for when every wait is recorded: function, label `wait`.
WAITS = {
    "plugin": ("from_lock_constructor", "semaphore"),
    "signal_post": ("take_posted", "semaphore"),
    "handler_locks": ("lock_in_handler", "mutex"),
    "thread_exit": ("lock_in_destructor", "mutex"),
    "futexes": ("wait_in_futex", "futex"),
    "gone_mutex": ("last_mutex", "mutex"),
    "gone_rwlock": ("last_rwlock", "rwlock read"),
    "gone_spin": ("last_spin", "spin"),
    "gone_semaphore": ("last_semaphore", "semaphore"),
    "gone_barrier": ("meet_last", "barrier"),
    "reused": ("reused_rwlock", "rwlock read"),
    "small_stack": ("lock_on_small_stack", "mutex"),
}


class Life(harness.Case):
    def check(self, what, *arguments, processes=1, preload=()):
        command = [harness.target("lock_life"), what, *arguments]
        plain = self.run_plain(*command, env={"LD_PRELOAD": ":".join(preload)})
        self.assertIn(plain.returncode, (0, 5), plain)
        for settings in (EVERY_WAIT, {}):
            with self.subTest(what, **settings):
                folder = Path(tempfile.mkdtemp(dir=self.dir))
                under = self.run_under(*command, env=settings, preload=preload, dump_dir=folder)
                self.assert_same_behaviour(plain, under)
                dumps = self.dumps(folder)
                self.assertEqual(len(dumps), processes)
                for dump in dumps[:3]:
                    self.check_dump(what, contention_profiles(self, dump), settings is EVERY_WAIT)

    def check_dump(self, what, profiles, every_wait):
        for profile in profiles.values():
            self.assert_no_own_frames(profile)
            for sample in profile.samples:
                # A wait whose deadline is past is one, and has no length.
                count, *delay = sample.values.values()
                self.assertTrue(count > 0 and all(ns >= 0 for ns in delay), sample)
        if every_wait and what in WAITS:
            function, wait = WAITS[what]
            found = [s for s in profiles["block"].samples if on_stack(s, function)]
            self.assertIn(wait, {s.labels["wait"] for s in found}, function)

    def test_constructor_of_a_library(self):
        """It waits before the library has begun, and its destructor after the end."""
        self.check("early")

    def test_constructor_inside_dlopen(self):
        self.check("plugin", harness.target("lock_life_plugin.so"))

    def test_signal_handlers(self):
        self.check("signal_post")
        self.check("handler_locks")

    def test_jump_out_of_a_wait(self):
        self.check("jump")

    def test_fork(self):
        self.check("fork", processes=31)
        self.check("fork_waited_for", processes=6)

    def test_end_of_threads(self):
        self.check("thread_exit")
        self.check("cancelled")

    def test_small_stacks(self):
        self.check("small_stack")

    def test_futexes(self):
        self.check("futexes")

    def test_allocators_with_locks(self):
        for preload in ((), ("libjemalloc.so.2",), ("libtcmalloc.so.4",), ("libmimalloc.so.2",)):
            self.check("allocator", processes=6, preload=preload)

    def test_lock_is_unmapped_behind_the_unlock(self):
        for kind in ("mutex", "rwlock", "spin", "semaphore", "barrier", "cond"):
            self.check(f"gone_{kind}")

    def test_memory_of_a_lock_is_used_for_another(self):
        self.check("reused")

    def test_exit_while_threads_wait(self):
        for how in ("return", "at_once", "elsewhere"):
            self.check(f"exit_{how}")


if __name__ == "__main__":
    harness.main()
