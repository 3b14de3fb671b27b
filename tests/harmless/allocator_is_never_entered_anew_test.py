# SPDX-License-Identifier: Apache-2.0
"""No hook allocates: under an allocator that ends the program when a thread comes into it anew.

strict_malloc also counts its calls from main on, and says the numbers at the end: each hook's own
work would add to them. It takes a mutex, maps memory and reads a file with the mutex in its hands,
so that hooks run inside it: allocating there is the deadlock of mutex profilers. It comes behind the
library, whose malloc hooks then forward to it, and before it, so that only its calls are hooked.
"""

import os
import re
import subprocess

import harmless
import harness

STRICT = str(harness.BUILD / "tests" / "targets" / "strict_malloc.so")
EXPORTS = harmless.Path(os.environ["MPROF_SOURCE"]) / "preload" / "exports.map"
PROGRAMS = [
    "backtraces",
    "call_results",
    "call_results_fortified",
    "dl_errors",
    "fibers",
    "lock_results",
    "malloc_results",
    "maps",
    "new_counts",
    "reads_signals",
    "signal_actions",
    "thread_starts",
    "wait_calls",
]
NOT_CALLED = {
    # Not in libc; a program that looks for them finds them with the library alone.
    "cfree", "free_sized", "free_aligned_sized",
    # Called when the constructor of an over-aligned object throws, by nothing else.
    "_ZdaPvSt11align_val_tRKSt9nothrow_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
}  # fmt: skip


def hooks():
    """What the library exports, but for the functions behind mprof.h."""
    names = re.findall(r"(\w+);", EXPORTS.read_text().partition("global:")[2].partition("local:")[0])
    return {name for name in names if not name.startswith("mprof_library_")}


class Strict(harmless.Case):
    def check(self, words, is_first, programs=PROGRAMS):
        """`is_first`: the library is, and the allocator behind it."""
        for program in programs:
            with self.subTest(program=program):
                self.check_one(program, words, is_first)

    def check_one(self, program, words, is_first):
        self.work.mkdir(exist_ok=True)

        def run(environment):
            libraries = environment["LD_PRELOAD"].split(":")
            order = libraries if is_first else libraries[::-1]
            changed = {**environment, "LD_PRELOAD": ":".join(order), "STRICT_MALLOC": words}
            return self.run_watched(harness.target(program), environment=changed)

        plain = self.check_same(run, preload=[STRICT])
        self.assertIn(b"strict_malloc: malloc ", plain.err)

    def test_behind_the_library(self):
        self.check("locks,looks-up", True)

    def test_before_the_library(self):
        self.settings = {"everything": harmless.EVERYTHING}
        self.check("locks", False, ["call_results", "lock_results", "new_counts", "thread_starts", "wait_calls"])

    def test_contended(self):
        self.settings = {"everything": harmless.EVERYTHING}
        for is_first in (True, False):
            self.check("locks", is_first, ["malloc_threads"])

    def test_all_hooks_are_driven(self):
        called = set(NOT_CALLED)
        for program in PROGRAMS:
            tool = ["nm", "-D", "--undefined-only", harness.target(program)]
            names = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
            called.update(line.split()[-1].partition("@")[0] for line in names.splitlines())
        self.assertEqual(hooks() - called, set())

    def test_it_ends_who_enters_anew(self):
        """What the others stand on: a hook that allocates does not get away."""
        source, library = self.dir / "bad.c", self.dir / "bad.so"
        source.write_text(BAD)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        self.work.mkdir()
        for preload in ([library, STRICT], [STRICT, library]):
            environment = {"LD_PRELOAD": ":".join(map(str, preload)), "STRICT_MALLOC": "locks"}
            bad = self.run_watched(harness.target("malloc_results"), environment=environment)
            self.assertEqual(bad.status, -6, bad)
            self.assertIn(b"strict_malloc: malloc called from inside the allocator", bad.err)


BAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static int (*next)(pthread_mutex_t*);
  if (!next) next = (int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_lock");
  void* volatile kept = malloc(100);
  (void)kept;
  return next(mutex);
}
"""

if __name__ == "__main__":
    harmless.main()
