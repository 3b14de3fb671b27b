# SPDX-License-Identifier: Apache-2.0
"""memcached with four workers, all of which want the same items."""

import json
import re
import socket
import subprocess
import threading

import harness
from contended_program import EVERY_WAIT, ContendedProgram, Waits

CLIENTS, BATCHES, BATCH = 8, 10, 500

# Its own functions have no names: it comes without any symbol. libevent calls them.
BLOCK = [Waits("event_base_loop", "mutex")]
MUTEX = [Waits("event_base_loop", "mutex")]


def ask(connection, request, lines):
    """Sends while it receives: neither side may stop because the other's buffers are full."""
    sender = threading.Thread(target=connection.sendall, args=(request,))
    sender.start()
    answer = b""
    while answer.count(b"\r\n") < lines:
        part = connection.recv(1 << 16)
        if not part:
            break
        answer += part
    sender.join()
    return answer


class Memcached(ContendedProgram):
    def connect(self, port):
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            return None
        self.addCleanup(connection.close)
        return connection

    def load(self, port):
        """Every client counts one counter up and writes the same few values: how often it was answered."""
        stored = []

        def work():
            request = b"".join(
                b"incr counter 1\r\nset key%d 0 0 10\r\n0123456789\r\n" % (n % 7) for n in range(BATCH)
            )
            connection = self.connect(port)
            for _ in range(BATCHES):
                stored.append(ask(connection, request, 2 * BATCH).count(b"STORED"))

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(stored)

    def serve(self, environment, is_enough):
        """Loads a server until it is enough, and ends it: what it answered, in one round, and its exit code."""
        port = harness.free_port()
        server = subprocess.Popen(
            # As root it wants to be told so.
            ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4"],
            cwd=self.dir,
            env=harness.clean_environment(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(self._end, server)
        connection = self.wait_for(lambda: self.connect(port), "memcached answers")
        seen = self.wait_for(lambda: self.one_round(connection, port, lambda: is_enough(server.pid)), "contention", 60)
        server.terminate()
        return seen, server.wait(timeout=30)

    def one_round(self, connection, port, is_enough):
        seen = [ask(connection, b"set counter 0 0 1\r\n0\r\n", 1), self.load(port)]
        seen.append(ask(connection, b"get counter\r\n", 3))
        seen.append(ask(connection, b"no-such-command\r\n", 1))
        return is_enough() and seen

    def has_contention(self, pid):
        """Whether the workers have met at an item: not sure where they do not run side by side."""
        report = json.loads(self.mprof_ok("locks", "--json", pid).stdout)
        return all(report[kind]["count"]["value"] >= 100 for kind in ("contended", "waited"))

    def test_memcached(self):
        plain = self.serve({}, lambda pid: True)
        self.assertIn(b"%d" % (CLIENTS * BATCHES * BATCH), plain[0][2])
        self.in_each_setting(lambda settings: self.check(plain, settings))

    def check(self, plain, settings):
        self.assertEqual(self.serve(self.library_env(self.rate, settings), self.has_contention), plain)
        profiles = self.check_contention(self.only_dump(), BLOCK, MUTEX, settings is EVERY_WAIT)
        for sample in profiles["mutex"].samples:
            self.assertIn("/memcached", sample.frames[0].mapping, sample)
            self.assertRegex(sample.labels["victim"], r"^memcached\+0x[0-9a-f]+$")
        self.check_workers(profiles["threadcreate"])

    def check_workers(self, threads):
        """Four of one start function, and one of each other."""
        self.check_threads(threads, {re.compile(r"^memcached\+0x"): threads.total()["threadcreate"] - 1})
        counts = {}
        for sample in threads.samples:  # one for each name, too
            start = sample.labels.get("start")
            counts[start] = counts.get(start, 0) + sample.values["threadcreate"]
        self.assertEqual(sorted(counts.values()), [1] * (len(counts) - 1) + [4], threads.samples)


if __name__ == "__main__":
    harness.main()
