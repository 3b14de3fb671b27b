# SPDX-License-Identifier: Apache-2.0
"""redis, which forks to save while its I/O threads answer, and memcached with its workers."""

import contextlib
import hashlib
import re
import signal

import harmless
import serving_programs

CLIENTS = 4
REQUESTS = 600 * harmless.LONGER

# What differs between any two runs: who, when, how long and how much.
NUMBERS = re.compile(r"\d+:[A-Z] \d+ \w+ \d+ \d+:\d+:\d+\.\d+ |[\d.]+")


class Connection:
    """One client of redis: sends commands, reads their answers whole."""

    def __init__(self, connection):
        self.socket = connection
        self.stream = connection.makefile("rwb")

    def send(self, *words):
        words = [str(word).encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def answer(self):
        self.stream.flush()
        line = self.stream.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"$" and int(rest) >= 0:
            return self.stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return line.strip()

    def ask(self, *words):
        self.send(*words)
        return self.answer()

    def close(self):
        self.stream.close()
        self.socket.close()


def use(connection, client):
    """Every type and many sizes, a batch at a time; a hash of all answers."""
    answers = hashlib.sha256()
    for start in range(0, REQUESTS, 60):
        sent = 0
        for n in range(start, start + 60):
            key = f"{client}:{n % 97}"
            for command in (
                ("set", "s" + key, f"{n}" * (n % 700)),
                ("append", "s" + key, "tail"),
                ("get", "s" + key),
                ("hset", "h" + key, n % 13, "v" * (n % 90)),
                ("hget", "h" + key, n % 7),  # not hgetall: their order is another in each process
                ("rpush", "l" + key, n, "x" * (n % 60)),
                ("lrange", "l" + key, 0, 5),
                ("zadd", "z" + key, n % 31, f"m{n % 50}"),
                ("zrangebyscore", "z" + key, 3, 20),
                ("eval", "return redis.call('strlen', KEYS[1]) + ARGV[1]", 1, "s" + key, n),
                ("del", f"s{client}:{(n * 7) % 97}"),
                ("no-such-command", n),
            ):
                connection.send(*command)
                sent += 1
        for _ in range(sent):
            answers.update(repr(connection.answer()).encode())
    return answers.hexdigest()


class RedisServer(serving_programs.Case):
    @contextlib.contextmanager
    def redis(self, environment, *options, log="redis.log"):
        (self.dir / log).unlink(missing_ok=True)
        command = ["/usr/bin/redis-server", "--port", self.port, "--enable-debug-command", "yes", *options]
        command += ["--io-threads", "3", "--io-threads-do-reads", "yes"]
        with self.server(*command, environment=environment, log=log) as process:
            first = Connection(self.connected(process))
            loaded = lambda: b"\nloading:0" in first.ask("info", "persistence")
            self.wait_for(loaded, "redis has loaded its data", seconds=self.timeout_s)
            try:
                yield process, first
            finally:
                first.close()

    def all_use(self, process):
        def work(client):
            connection = Connection(self.connected(process))
            try:
                return use(connection, client)
            finally:
                connection.close()

        return serving_programs.all_at_once(work, CLIENTS)

    def wait_for_info(self, connection, *words):
        has_all = lambda: all(word in connection.ask("info", "persistence") for word in words)
        self.wait_for(has_all, words, seconds=self.timeout_s)

    def has_said(self, log):
        """Warnings and notices of a log, without what differs by nature; concurrent ones have no order."""
        lines = (self.dir / log).read_text(errors="replace").splitlines()
        # The allocator's own thread and the kernel's settings are no matter of the answers.
        return sorted({NUMBERS.sub("", line) for line in lines if " # " in line or " * " in line})

    def crash(self, environment, *options):
        """Ends by SIGSEGV, of which redis prints a long report: its parts."""
        self.empty_work()
        with self.redis(environment, "--save", "", *options) as (process, first):
            seen = [first.ask("debug", "sleep", "0.6"), first.ask("ping")]
            first.send("debug", "segfault")
            first.stream.flush()
            status = self.end_of(process)
        log = (self.dir / "redis.log").read_text(errors="replace")
        seen += ["WATCHDOG TIMER EXPIRED" in log]
        # How often the watchdog fires is a matter of time.
        parts = [line for line in log.splitlines() if re.match(r"------ |=== ", line) or "crashed by" in line]
        seen += sorted({NUMBERS.sub("", part) for part in parts})
        return harmless.Outcome(status, repr(seen).encode(), b"")


class Redis(RedisServer):
    def test_saves_in_children_while_threads_answer(self):
        """Snapshot and log are rewritten by forked children; what is loaded from either is the same."""
        persistent = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "1 10"]

        def run(environment):
            self.empty_work()
            seen = []
            with self.redis(environment, *persistent) as (process, first):
                seen.append(self.all_use(process))
                self.wait_for_info(first, b"rdb_bgsave_in_progress:0", b"aof_rewrite_in_progress:0")
                for command in ("bgsave", "bgrewriteaof"):
                    self.wait_for_info(first, b"rdb_bgsave_in_progress:0", b"aof_rewrite_in_progress:0")
                    seen.append(first.ask(command))
                    seen.append(self.all_use(process))
                self.wait_for_info(
                    first, b"rdb_bgsave_in_progress:0", b"aof_rewrite_in_progress:0",
                    b"rdb_last_bgsave_status:ok", b"aof_last_bgrewrite_status:ok",
                )  # fmt: skip
                seen.append(first.ask("debug", "digest"))
                process.send_signal(signal.SIGTERM)
                status = self.end_of(process)
            with self.redis(environment, *persistent, log="second.log") as (process, first):
                seen.append(("from the log", first.ask("debug", "digest"), first.ask("dbsize")))
                first.send("shutdown", "save")
                first.stream.flush()
                status = (status, self.end_of(process))
            with self.redis(environment, "--appendonly", "no", "--save", "", log="third.log") as (process, first):
                seen.append(("from the snapshot", first.ask("debug", "digest"), first.ask("dbsize")))
                seen.append((first.ask("flushall", "async"), first.ask("dbsize")))
                first.send("shutdown", "nosave")
                first.stream.flush()
                status = (*status, self.end_of(process))
            said = self.has_said("second.log") + self.has_said("third.log")
            return harmless.Outcome(status, repr(seen).encode(), repr(said).encode())

        plain = self.check_same(run)
        self.assertEqual(plain.status, (0, 0, 0), plain)

    def test_watchdog_and_report_of_a_crash(self):
        """Its watchdog interrupts a slow command by SIGALRM; SIGSEGV makes it end all threads and report."""
        options = ["--watchdog-period", "200", "--crash-memcheck-enabled", "no"]
        plain = self.check_same(lambda environment: self.crash(environment, *options))
        self.assertEqual(plain.status, -signal.SIGSEGV, plain)
        self.assertIn(b"True", plain.out)
        self.assertIn(b"REPORT END", plain.out)


class MemoryTest(RedisServer):
    # What the handler of mprof's signal needs is among the memory that is overwritten for a moment: no
    # CPU profile, and no questions.
    settings = {
        name: {key: value for key, value in settings.items() if key != "MPROF_CPU_HZ"}
        for name, settings in harmless.SETTINGS.items()
    }

    def disturbed(self, settings):
        return contextlib.nullcontext()

    def test_report_with_a_test_of_all_memory(self):
        """After a crash redis writes patterns to all of its memory, and puts back what was there."""
        plain = self.check_same(self.crash)
        self.assertIn(b"FAST MEMORY TEST", plain.out)
        self.assertIn(b"REPORT END", plain.out)


class Memcached(serving_programs.Case):
    def test_workers(self):
        """Four workers share few items, evict, grow the table and are dumped at the end."""

        def use(process, client):
            answers = hashlib.sha256()
            connection = self.connected(process)
            stream = connection.makefile("rwb")
            for n in range(REQUESTS):
                value = b"%d," % n * (n % 300)
                stream.write(b"set %d:%d %d 0 %d\r\n%s\r\n" % (client, n, client, len(value), value))
                stream.write(b"get %d:%d\r\nincr %d:%d 7\r\n" % (client, n, client, n))
                stream.write(b"delete %d:%d\r\ntouch none 3\r\nnonsense\r\nmn\r\n" % (client, n - 100))
                stream.flush()
                line = b""
                while not line.startswith(b"MN"):
                    line = stream.readline()
                    self.assertNotEqual(line, b"", "the connection is closed")
                    answers.update(line)
            stream.close()
            connection.close()
            return answers.hexdigest()

        def run(environment):
            self.empty_work()
            command = ["/usr/bin/memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", self.port, "-U", "0", "-t", "4"]
            with self.server(*command, "-o", "hashpower=13", environment=environment) as process:
                answers = serving_programs.all_at_once(lambda client: use(process, client), 8)
                process.send_signal(signal.SIGTERM)
                status = self.end_of(process)
            said = (self.dir / "server.log").read_bytes()
            return harmless.Outcome(status, repr(answers).encode(), said)

        self.check_same(run)


if __name__ == "__main__":
    harmless.main()
