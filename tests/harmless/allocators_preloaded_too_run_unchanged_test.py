# SPDX-License-Identifier: Apache-2.0
"""Another allocator is preloaded together with the library, before it or behind it."""

import harmless
import harness
from allocators import ALLOCATORS

PYTHON = """
import json, threading, zlib
def work(n):
    kept = [json.loads(json.dumps({"n": i, "text": "x" * (i % 400)})) for i in range(3000)]
    results[n] = zlib.crc32(repr(kept[::7]).encode())
results = [0] * 4
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(results, bytearray(50 << 20).count(0))
"""

COMPILED = """
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>
int main() {
  std::map<std::string, std::vector<int>> all;
  for (int i = 0; i < 3000; i++) all[std::to_string(i % 97)].push_back(i);
  try { all.at("none"); } catch (const std::exception& error) { std::puts(error.what()); }
  std::printf("%zu %d\\n", all.size(), all["96"].back());
}
"""


class Preloaded(harmless.Case):
    """Both in one list of LD_PRELOAD; without the library the allocator alone."""

    before = False

    def environment_of(self, settings, preload=()):
        environment = super().environment_of(settings, preload)
        if settings is not None and self.before:
            environment["LD_PRELOAD"] = ":".join([*preload, str(harness.LIBRARY)])
        return environment

    def check_with_each(self, *command, status=0, **options):
        for name, preload in ALLOCATORS.items():
            if not preload:
                continue  # glibc's is what all other tests have
            for self.before in (False, True):
                with self.subTest(allocator=name, before=self.before):
                    plain = self.check_unchanged(*command, preload=preload, **options)
                    self.assertEqual(plain.status, status, plain)

    def test_threads(self):
        """The counters in the file are of what each thread did, which is a matter of time."""
        self.check_with_each(harness.target("storm"), "6", "counters", str(0.2 * harmless.LONGER), ignored="counters")

    def test_threads_that_free_each_other_s_blocks(self):
        self.check_with_each(harness.target("malloc_threads"), status=3)

    def test_python_with_all_in_malloc(self):
        self.check_with_each("/usr/bin/python3", "-c", PYTHON, env={"PYTHONMALLOC": "malloc"})

    def test_compiler_and_its_program(self):
        def prepare():
            (self.work / "program.cc").write_text(COMPILED)

        script = "g++ -O1 -o program program.cc && ./program"
        self.check_with_each("/bin/sh", "-c", script, prepare=prepare)


if __name__ == "__main__":
    harmless.main()
