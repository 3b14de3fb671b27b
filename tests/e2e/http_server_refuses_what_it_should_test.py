# SPDX-License-Identifier: Apache-2.0
"""Bad, slow, large and many requests, strangers and liars: each gets its status and a line that says why; the
server serves on and the program never notices."""

import concurrent.futures
import http.client
import json
import os
import socket
import subprocess
import time

import harness
import serving

HEAP = "/debug/pprof/heap"
TOKEN = "0123456789abcdef0123456789abcdef"


def status_of(raw):
    """Of an answer as bytes; 0 for none."""
    return int(raw.split()[1]) if raw.startswith(b"HTTP/1.1 ") else 0


class Refusals(serving.Case):
    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()

    def serve_it(self, *args, **options):
        return self.serve(self.program.pid, *args, **options)

    def assert_serves_on(self):
        self.assertEqual(self.ask(HEAP).status, 200)
        self.assert_unharmed(self.program)

    # Requests

    def test_seconds_out_of_range(self):
        self.serve_it()
        for path in (HEAP, "/debug/pprof/allocs", "/debug/pprof/block", "/debug/pprof/mutex", "/debug/pprof/profile",
                     "/debug/pprof/trace"):
            for value in ("-1", "0", "3601", "1e9", "abc", "", "1.5", "%201", "99999999999999999999", "0x10"):
                with self.subTest(path, seconds=value):
                    answer = self.ask(f"{path}?seconds={value}")
                    self.assert_refused(answer, 400, '"seconds"', "from 1 to 3600")
        self.assert_serves_on()

    def test_debug_out_of_range(self):
        self.serve_it()
        for value in ("-1", "3", "abc", ""):
            with self.subTest(debug=value):
                self.assert_refused(self.ask(f"{HEAP}?debug={value}"), 400, '"debug"', "from 0 to 2")
        self.assert_serves_on()

    def test_seconds_of_a_peak(self):
        self.serve_it()
        self.assert_refused(self.ask("/debug/pprof/peak?seconds=1"), 400, "not supported")

    def test_methods(self):
        self.serve_it()
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            with self.subTest(method):
                answer = self.ask(HEAP, method)
                self.assert_refused(answer, 405, method)
                self.assertEqual(answer.headers["Allow"], "GET, HEAD")
        answer = self.ask("/debug/pprof/symbol", "PUT")
        self.assert_refused(answer, 405)
        self.assertEqual(answer.headers["Allow"], "GET, HEAD, POST")
        self.assert_serves_on()

    def test_unknown_profiles(self):
        self.serve_it()
        for name in ("nothing", "delta_heap", "heap.pb.gz", "heap/x", "%00", "<script>", "a%0d%0aX:%20y", "x" * 5000):
            with self.subTest(name):
                answer = self.ask(f"/debug/pprof/{name}")
                self.assert_refused(answer, 404, "Unknown profile", "there are allocs, block, cmdline, goroutine, heap")
                self.assertNotIn("X", answer.headers)
                self.assertLess(len(answer.body), 1000)
        self.assert_serves_on()

    def test_no_path_of_the_host(self):
        secret = self.dir / "secret"
        secret.write_text("the secret")
        os.symlink("/etc", self.dir / "etc")
        self.serve(self.dir)
        pid = self.program.pid
        for path in (
            "/etc/passwd",
            f"/{secret}",
            f"//{secret}",
            "/../../../../etc/passwd",
            f"/{pid}/debug/pprof/../../../etc/passwd",
            f"/{pid}/debug/pprof/..%2f..%2f..%2fetc%2fpasswd",
            f"/{pid}/../../etc/passwd",
            f"/{pid}/root/etc/passwd",
            f"/{pid}%2fcmdline",
            f"/{pid}%00/debug/pprof/heap",
            "/self/debug/pprof/heap",
            "/thread-self/debug/pprof/heap",
            "/1/debug/pprof/heap",
            "/../proc/1/debug/pprof/heap",
            "/etc/debug/pprof/heap",
            "/./debug/pprof/heap",
            f"/+{pid}/debug/pprof/heap",
            f"/-{pid}/debug/pprof/heap",
            f"/{secret}/debug/pprof/heap",
        ):
            with self.subTest(path):
                raw = self.ask_raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                self.assertEqual(status_of(raw), 404, raw)
                for word in (b"root:", b"the secret"):
                    self.assertNotIn(word, raw)
        self.assertEqual(self.ask(f"/{pid}{HEAP}").status, 200)
        self.assert_unharmed(self.program)

    def test_what_is_not_http(self):
        self.serve_it()
        for data in (b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n",
                     b"GET heap HTTP/1.1\r\n\r\n", b"\0" * 100 + b"\r\n\r\n", b"GET /?a?b HTTP/1.1\r\n\r\n"):
            with self.subTest(data):
                self.assertEqual(status_of(self.ask_raw(data)), 400)
        self.assert_serves_on()

    # Sizes

    def test_large_heads(self):
        self.serve_it()
        start = b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n"
        for data in (
            start + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
            start + b"X: y\r\n" * 20_000 + b"\r\n",
            b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"x" * 10_000_000,
        ):
            with self.subTest(data[:60]):
                raw = self.ask_raw(data)
                self.assertIn(status_of(raw), (0, 431), raw[:200])
        raw = self.ask_raw(start + b"X: " + b"x" * 9000 + b"\r\n\r\n")
        self.assertEqual(status_of(raw), 431)
        self.assertIn(b"larger than 8192 bytes", raw)
        self.assert_serves_on()

    def test_large_bodies(self):
        self.serve_it()
        answer = self.ask("/debug/pprof/symbol", "POST", headers={"Content-Length": str(1 << 40)})
        self.assert_refused(answer, 413, "larger than 1048576 bytes")
        raw = self.ask_raw(b"POST /debug/pprof/symbol HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
        self.assertEqual(status_of(raw), 411)
        self.assertEqual(self.ask("/debug/pprof/symbol", "POST", body="0x1+" * 200_000).status, 200)
        self.assert_serves_on()

    # Time and number

    def test_slow_clients(self):
        self.serve_it()
        start = time.monotonic()
        slow = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"GET /debug/pprof/heap HTTP/1.1\r\n")
        answered = {}
        while len(answered) < len(slow) and time.monotonic() - start < 60:
            for number, connection in enumerate(slow):
                connection.settimeout(0.01)
                try:
                    answered.setdefault(number, connection.recv(1000))
                except TimeoutError:
                    with self.quiet():
                        connection.sendall(b"X")
            self.assertEqual(self.ask(HEAP).status, 200)  # others do not wait for them
        self.assertEqual({status_of(raw) for raw in answered.values()}, {408})
        self.assertEqual(len(answered), len(slow))
        self.assertGreater(time.monotonic() - start, 9)
        for connection in slow:
            connection.close()
        self.assert_serves_on()

    @staticmethod
    def quiet():
        import contextlib

        return contextlib.suppress(OSError)

    def test_200_clients_at_a_time(self):
        self.serve_it()
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(lambda _: self.ask(f"{HEAP}?seconds=5"), range(200)))
        statuses = [answer.status for answer in answers]
        self.assertEqual(set(statuses), {200, 503})
        # 64 are worked on, 64 wait for their turn.
        self.assertGreaterEqual(statuses.count(200), 128)
        for answer in answers:
            if answer.status == 503:
                self.assert_refused(answer, 503, "64 requests are being served and 64 wait")
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            self.assertEqual({a.status for a in pool.map(lambda _: self.ask(f"{HEAP}"), range(100))}, {200})
        self.assert_serves_on()

    def test_clients_that_leave(self):
        """Nobody waits on behalf of one who has gone: all places are free again at once."""
        self.serve_it()
        for _ in range(3):
            gone = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(100)]
            for connection in gone:
                connection.sendall(b"GET /debug/pprof/heap?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            for connection in gone:
                connection.close()
        self.wait_for(lambda: self.ask(HEAP).status == 200, "a free place")
        self.assert_serves_on()

    def test_it_stops_when_asked(self):
        server = self.serve_it()
        with socket.create_connection(("127.0.0.1", self.port)) as waiting:
            waiting.sendall(b"GET /debug/pprof/heap?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            server.terminate()
            self.assertEqual(server.wait(timeout=10), 0)
            self.assertEqual(status_of(waiting.recv(1000)), 503)
        self.assertEqual(server.stderr.read(), "")
        self.assert_unharmed(self.program)

    # Who may ask

    def test_names_of_other_machines(self):
        """What a page from elsewhere could ask, whose name was made to point here."""
        self.serve_it()
        for name in ("evil.com", f"evil.com:{self.port}", "localhost.evil.com", "127.0.0.1.evil.com", "10.0.0.1"):
            with self.subTest(name):
                self.assert_refused(self.ask(HEAP, headers={"Host": name}), 403, "localhost")
        for name in ("localhost", f"localhost:{self.port}", f"127.0.0.1:{self.port}", f"[::1]:{self.port}"):
            with self.subTest(name):
                self.assertEqual(self.ask(HEAP, headers={"Host": name}).status, 200)
        self.assert_serves_on()

    def test_a_token_is_asked_for(self):
        file = self.dir / "token"
        file.write_text(TOKEN + "\n")
        for args, env in ((("--token", file), {}), (("--token-env", "THE_TOKEN"), {"THE_TOKEN": TOKEN})):
            server = self.serve_it(*args, env=env)
            for path in ("/", "/targets", "/debug/pprof/", HEAP, "/nothing"):
                for header in (None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", "Bearer x"):
                    with self.subTest(path, header=header):
                        answer = self.ask(path, headers={"Authorization": header} if header is not None else None)
                        self.assert_refused(answer, 401, "Authorization: Bearer")
                        self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
            self.assertEqual(self.ask(HEAP, headers={"Authorization": f"Bearer {TOKEN}"}).status, 200)
            server.terminate()
            self.assertEqual(server.wait(), 0)
        self.assert_unharmed(self.program)

    def test_other_addresses_need_a_word(self):
        refused = self.mprof("serve", self.program.pid, "--listen", "0.0.0.0:0")
        self.assertEqual(refused.returncode, 1, refused)
        self.assertIn("--allow-remote", refused.stderr)
        self.assertEqual(refused.stdout, "")
        server = self.serve_it("--allow-remote", listen="0.0.0.0:0")
        self.assertEqual(self.ask(HEAP, headers={"Host": "any.name"}).status, 200)
        server.terminate()
        self.assertRegex(server.stderr.read(), r"\Amprof: warning: everybody who can connect to 0\.0\.0\.0 can read[^\n]+\n\Z")
        self.assert_unharmed(self.program)

    def test_only_this_machine_can_connect(self):
        self.serve_it()
        listening = self.run_plain("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
        addresses = [line.split()[1] for line in listening.splitlines() if line.split()[3] == "0A"]
        self.assertEqual([a for a in addresses if a.endswith(f":{self.port:04X}")], [f"0100007F:{self.port:04X}"])

    def test_what_cannot_be_served(self):
        self.serve_it()
        taken = f"127.0.0.1:{self.port}"
        for args, word in (
            ((self.program.pid, "--listen", taken), "Address already in use"),
            ((2**31 - 1, "--listen", "127.0.0.1:0"), "no such process"),
            ((os.getpid(), "--listen", "127.0.0.1:0"), "not running under mprof"),
            ((self.dir / "absent", "--listen", "127.0.0.1:0"), "absent"),
            ((self.program.pid, "--token", self.dir / "absent"), "absent"),
            ((self.program.pid, "--listen", "nonsense"), "ADDRESS:PORT"),
            ((self.program.pid, self.program.pid), "no such directory"),
        ):
            with self.subTest(args):
                run = self.mprof("serve", *args)
                self.assertIn(run.returncode, (1, 2), run)
                self.assertRegex(run.stderr, rf"\Amprof: [^\n]*{word}[^\n]*\n\Z")
                self.assertEqual(run.stdout, "")
        self.assert_serves_on()


if __name__ == "__main__":
    harness.main()
