# SPDX-License-Identifier: Apache-2.0
"""What each function of the malloc family returns is the same with the library, odd arguments included."""

import harness
from allocators import ALLOCATORS


class Results(harness.Case):
    def check(self, allocator, rate, env=None):
        command, preload = [harness.target("malloc_results")], ALLOCATORS[allocator]
        if allocator == "jemalloc":
            command.append("no-pvalloc")
        plain = self.run_plain(*command, env={"LD_PRELOAD": ":".join(preload)})
        under = self.run_under(*command, rate=rate, env=env, preload=preload)
        self.assertEqual(plain.returncode, 0, plain)
        self.assertGreater(len(plain.stdout.splitlines()), 40)
        self.assert_same_behaviour(plain, under)

    def test_every_block_sampled(self):
        for allocator in ALLOCATORS:
            with self.subTest(allocator):
                self.check(allocator, 1)

    def test_sampled_now_and_then(self):
        for allocator in ALLOCATORS:
            with self.subTest(allocator):
                self.check(allocator, 1000)

    def test_off(self):
        self.check("glibc", 0)

    def test_with_mmap_followed(self):
        self.check("glibc", 1, {"MPROF_MMAP": "1"})


if __name__ == "__main__":
    harness.main()
