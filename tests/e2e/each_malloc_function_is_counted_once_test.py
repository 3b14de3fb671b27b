# SPDX-License-Identifier: Apache-2.0
"""Every function of the malloc family is counted, once, with the bytes that were asked for."""

import subprocess

import harness
from allocators import ALLOCATORS
from counted_once import CountedOnce


class MallocFamily(CountedOnce):
    def test_allocator_preloaded_after(self):
        for allocator, preload in ALLOCATORS.items():
            with self.subTest(allocator=allocator):
                self.check("malloc_counts", preload=preload)

    def test_allocator_linked(self):
        for allocator in ("jemalloc", "tcmalloc", "mimalloc"):
            with self.subTest(allocator=allocator):
                self.check(f"malloc_counts_{allocator}")

    def test_sized_frees_that_the_library_has(self):
        """Where the C library has no free_sized, a program that looks for it may find the library's."""
        exported = subprocess.run(
            ["nm", "-D", "--defined-only", harness.LIBRARY], capture_output=True, text=True, check=True
        ).stdout
        functions = self.check("malloc_counts")
        for name in ("free_sized", "free_aligned_sized"):
            with self.subTest(name):
                self.assertIn(f" {name}", exported)
                self.assertIn(f"via_{name}", functions)


if __name__ == "__main__":
    harness.main()
