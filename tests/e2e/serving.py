# SPDX-License-Identifier: Apache-2.0
"""`mprof serve` beside a program that does what it is told, and a client that asks it anything."""

import contextlib
import http.client
import socket
import subprocess
from collections import namedtuple

import harness
from pprof import Profile

Answer = namedtuple("Answer", "status headers body")

EXACT = {"MPROF_BLOCK_RATE": "1", "MPROF_MUTEX_FRACTION": "1"}


class Obedient:
    """tests/targets/obedient.c, running."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.lines = 0

    def obey(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n", line
        self.lines += 1

    def end(self):
        """(exit code, what it says that it did)"""
        self.process.stdin.close()
        said = self.process.stdout.read()
        return self.process.wait(), said


class Case(harness.Case):
    def start_obedient(self, env=None, rate=1, dump_dir=None):
        env = {**EXACT, **(env or {})}
        if dump_dir:
            dump_dir.mkdir(exist_ok=True)
            env["MPROF_OUT"] = f"{dump_dir}/%e.%p.mprof"
        process = self.start_under(
            harness.target("obedient"), rate=rate, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        program = Obedient(process)
        program.obey("keep 1")
        return program

    def assert_unharmed(self, program):
        lines = program.lines
        code, said = program.end()
        self.assertEqual(code, 0)
        self.assertRegex(said, rf"^did {lines}, kept \d+\n$")

    def serve(self, *args, env=None, listen="127.0.0.1:0"):
        """Starts a server; from then on ask() asks it."""
        process = subprocess.Popen(
            [str(harness.MPROF), "serve", "--listen", listen, *[str(arg) for arg in args]],
            cwd=self.dir,
            env=harness.clean_environment(env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self._end, process)
        line = process.stdout.readline()
        self.assertRegex(line, r"^serving http://\S+:\d+/\n$", process.stderr.read() if not line else "")
        self.url = line.split()[1].rstrip("/")
        self.port = int(self.url.rpartition(":")[2])
        self.server = process
        return process

    def ask(self, path, method="GET", headers=None, body=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def ask_raw(self, data, timeout=60):
        """Bytes as they are, and whatever comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    def ask_profile(self, path):
        answer = self.ask(path)
        self.assertEqual(answer.status, 200, answer.body)
        file = self.dir / "asked.pb.gz"
        file.write_bytes(answer.body)
        return Profile(file)

    def assert_refused(self, answer, status, *words):
        """Refused in one line of text that says why."""
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers["Content-Type"], "text/plain; charset=utf-8")
        text = answer.body.decode()
        self.assertRegex(text, r"\A[^\n]+\n\Z")
        for word in words:
            self.assertIn(word, text)
