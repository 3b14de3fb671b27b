# SPDX-License-Identifier: Apache-2.0
"""Servers that a test starts, asks and ends: with and without the library the same answers."""

import contextlib
import os
import signal
import socket
import subprocess
import threading

import harmless
import harness


def all_at_once(work, count):
    """work(0) … work(count - 1), each in a thread of its own: what they returned, in that order."""
    results = [None] * count
    errors = []

    def run(number):
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001  whatever it was, the test has to know
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


class Case(harmless.Case):
    def setUp(self):
        super().setUp()
        self.dir.chmod(0o755)  # servers become other users
        self.port = harness.free_port()

    def empty_work(self):
        subprocess.run(["rm", "-rf", self.work], check=True)
        self.work.mkdir()

    def client_environment(self):
        return harness.clean_environment()

    @contextlib.contextmanager
    def server(self, *command, environment, env=None, log="server.log", **options):
        """A server with its output in a file beside its folder; it is killed if it is still there."""
        with open(self.dir / log, "ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=harness.clean_environment({**(env or {}), **environment}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **{"cwd": self.work, **options},
            )
        try:
            yield process
        except BaseException:
            print(harmless.stacks_of_group(process.pid))
            print((self.dir / log).read_bytes()[-3000:].decode(errors="replace"))
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end_of(self, process):
        """The status of a server that was told to end."""
        try:
            return process.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            self.fail(f"{process.args}: did not end\n{harmless.stacks_of_group(process.pid)}")

    def connected(self, process, port=None):
        """A connection, as soon as the server takes one."""

        def connect():
            self.assertIsNone(process.poll(), "the server is gone")
            with contextlib.suppress(ConnectionRefusedError):
                return socket.create_connection(("127.0.0.1", port or self.port), timeout=self.timeout_s)

        return self.wait_for(connect, "the server listens", seconds=self.timeout_s)
