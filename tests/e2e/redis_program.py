# SPDX-License-Identifier: Apache-2.0
"""redis-server, asked by its own tools."""

import re
import subprocess

import harness


class Redis(harness.Case):
    def client(self, port, *command):
        return self.run_plain("redis-cli", "-p", port, *command)

    def is_up(self, port):
        return self.client(port, "ping").stdout.strip() == "PONG"

    def fill(self, port, commands, *options):
        """The server's own load, and a key."""
        self.wait_for(lambda: self.is_up(port), "redis-server answers")
        load = self.run_plain(
            "redis-benchmark", "-p", port, "-t", commands, "-P", "16", "-r", "10000", "-q", *options
        )
        self.assertEqual(load.returncode, 0, load)
        self.assertNotIn("ERR", load.stdout + load.stderr)
        self.client(port, "set", "key", "value" * 1000)

    def serve_with_io_threads(self, environment):
        """Starts a server, uses it, shuts it down: what its client saw, and its exit code."""
        port = harness.free_port()
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", "."]
            + ["--io-threads", "2", "--io-threads-do-reads", "yes"],
            cwd=self.dir,
            env=harness.clean_environment(environment),
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(self._end, server)
        self.fill(port, "set,get,lpush,lrange_100", "-n", "5000", "-c", "50", "-d", "200")
        seen = [
            self.client(port, "get", "key").stdout,
            self.client(port, "llen", "mylist").stdout,
            self.client(port, "no-such-command").stdout,
            # Its thread has been waiting for such a job.
            self.client(port, "flushall", "async").stdout,
            self.client(port, "dbsize").stdout,
        ]
        has_freed = lambda: re.search(r"lazyfreed_objects:[1-9]", self.client(port, "info", "memory").stdout)
        self.wait_for(has_freed, "the thread has had its job")
        threaded = self.client(port, "info", "stats").stdout
        self.assertRegex(threaded, r"io_threaded_writes_processed:[1-9]")
        self.client(port, "shutdown", "nosave")
        return seen, server.wait(timeout=30)
