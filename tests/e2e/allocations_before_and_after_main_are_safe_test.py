# SPDX-License-Identifier: Apache-2.0
"""Allocations before any constructor, in TLS destructors, in exit handlers and after main."""

import harness
from allocators import ALLOCATORS

# After the library's constructor, and so in the profile: function, bytes of its one kept block.
ALWAYS_COUNTED = {
    "from_constructor": 3002,
    "from_main": 3003,
    "from_key_destructor": 3004,
    "from_thread_local_destructor": 3005,
    "from_atexit": 3006,
    "from_on_exit": 3007,
    "from_static_destructor": 3008,
}


class EarlyAndLate(harness.Case):
    def check(self, preload=(), rate=1, env=None):
        program = harness.target("early_late")
        plain = self.run_plain(program, env={"LD_PRELOAD": ":".join(preload)})
        under = self.run_under(program, rate=rate, preload=preload, env=env)
        self.assertEqual(plain.stdout, "made before all, made early\n")
        self.assert_same_behaviour(plain, under)

    def test_counted_when_the_library_has_begun(self):
        self.check()
        profile = self.profile(self.only_dump())
        for function, size in ALWAYS_COUNTED.items():
            with self.subTest(function):
                self.assert_site(profile, function, 1, size, 1, size)
        self.assert_site(profile, "from_quick_churn_after_main", 1000, 3009 * 1000, 0, 0)

    def test_after_the_library_has_ended(self):
        """A library that was there first is also there last: counted, or counted as lost."""
        self.check()
        dump = self.only_dump()
        found = self.profile(dump).below("from_library_destructor")["alloc_objects"]
        self.assertEqual(found + sum(self.info(dump)["lost"].values()), 1)

    def test_allocators(self):
        for allocator, preload in ALLOCATORS.items():
            with self.subTest(allocator):
                self.check(preload)

    def test_other_settings(self):
        for env in ({"MPROF_UNWIND": "dwarf"}, {"MPROF_UNWIND": "fp"}, {"MPROF_MMAP": "1"}):
            with self.subTest(env):
                self.check(env=env)
        self.check(rate=0)
        # Each name is looked up at its first call.
        self.check(env={"LD_BIND_NOW": ""})
        self.check(env={"LD_BIND_NOW": "1"})


if __name__ == "__main__":
    harness.main()
