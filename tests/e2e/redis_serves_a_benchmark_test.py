# SPDX-License-Identifier: Apache-2.0
"""redis-server (jemalloc, threads, shutdown by command) under redis-benchmark."""

import subprocess

import harness
import redis_program
from real_program import RealProgram


class Redis(redis_program.Redis, RealProgram):
    def serve(self, start):
        """Starts a server, uses it, shuts it down: what its client saw, and its exit code."""
        port = harness.free_port()
        server = start("redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", ".")
        self.fill(port, "set,get,lpush,lrange_100,hset,sadd,zadd", "-n", "8000", "-c", "20", "-d", "1000")
        seen = [
            self.client(port, "get", "key").stdout,
            self.client(port, "no-such-command").stdout,
            self.client(port, "config", "get", "maxmemory-policy").stdout,
        ]
        self.client(port, "shutdown", "nosave")
        return seen, server.wait(timeout=30)

    def start_plain(self, *args):
        process = subprocess.Popen(
            args, cwd=self.dir, env=harness.clean_environment(), stdout=subprocess.DEVNULL
        )
        self.addCleanup(self._end, process)
        return process

    def test_redis(self):
        plain = self.serve(self.start_plain)
        under = self.serve(lambda *args: self.start_under(*args, rate=self.rate))
        self.assertEqual(under, plain)
        self.check_profile(self.only_dump(), ["aeMain", "processCommand", "readQueryFromClient", "main"])


if __name__ == "__main__":
    harness.main()
