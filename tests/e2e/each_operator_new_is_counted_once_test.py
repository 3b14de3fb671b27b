# SPDX-License-Identifier: Apache-2.0
"""Every form of operator new and delete is counted once, whoever defines it."""

import harness
from allocators import ALLOCATORS
from counted_once import CountedOnce


class OperatorNew(CountedOnce):
    def test_allocator_preloaded_after(self):
        for allocator, preload in ALLOCATORS.items():
            with self.subTest(allocator=allocator):
                self.check("new_counts", preload=preload, at_least=20)

    def test_allocator_linked(self):
        for allocator in ("jemalloc", "tcmalloc", "mimalloc"):
            with self.subTest(allocator=allocator):
                self.check(f"new_counts_{allocator}", at_least=20)

    def test_bad_alloc_is_thrown(self):
        """mimalloc as packaged aborts here by itself."""
        for allocator in ("glibc", "jemalloc", "tcmalloc"):
            with self.subTest(allocator=allocator):
                self.check("new_counts", "failing", preload=ALLOCATORS[allocator], at_least=20)


if __name__ == "__main__":
    harness.main()
