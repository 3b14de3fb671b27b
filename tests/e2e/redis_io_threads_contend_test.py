# SPDX-License-Identifier: Apache-2.0
"""redis-server with I/O threads, which it stops and starts by holding their mutexes."""

import re

import harness
import redis_program
from contended_program import EVERY_WAIT, ContendedProgram, Waits

BLOCK = [Waits("IOThreadMain", "mutex"), Waits("bioProcessBackgroundJobs", "cond")]
MUTEX = [Waits("handleClientsWithPendingWritesUsingThreads", "mutex")]


class RedisIoThreads(redis_program.Redis, ContendedProgram):
    def test_redis(self):
        plain = self.serve_with_io_threads({})
        self.in_each_setting(lambda settings: self.check(plain, settings))

    def check(self, plain, settings):
        self.assertEqual(self.serve_with_io_threads(self.library_env(self.rate, settings)), plain)
        profiles = self.check_contention(self.only_dump(), BLOCK, MUTEX, settings is EVERY_WAIT)
        self.assertIn("aeMain", profiles["mutex"].names())
        # The one of the second thread: the first is the main thread.
        locks = {s.labels["lock"] for s in profiles["block"].samples if s.labels["wait"] == "mutex"}
        self.assertIn("io_threads_mutex+0x28", locks)
        starts = {re.compile("^IOThreadMain$"): 1, re.compile("^bioProcessBackgroundJobs$"): 3}
        self.check_threads(profiles["threadcreate"], starts)


if __name__ == "__main__":
    harness.main()
