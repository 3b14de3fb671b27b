# SPDX-License-Identifier: Apache-2.0
"""The allocators that a program may have in place of glibc's, to preload after the library."""

ALLOCATORS = {
    "glibc": [],
    "jemalloc": ["libjemalloc.so.2"],
    "tcmalloc": ["libtcmalloc.so.4"],
    "mimalloc": ["libmimalloc.so.2"],
}
