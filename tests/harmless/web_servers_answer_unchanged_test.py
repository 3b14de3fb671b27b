# SPDX-License-Identifier: Apache-2.0
"""nginx: a master, workers that are another user, a pool of threads, and every signal it knows."""

import hashlib
import http.client
import os
import re
import signal
from pathlib import Path

import harmless
import serving_programs

EPOLL_WAIT = "232"  # on x86-64
CLIENTS = 6
ROUNDS = 8 * harmless.LONGER

CONFIGURATION = """
user www-data;
daemon off;
pid nginx.pid;
worker_processes 2;
error_log error.log notice;
thread_pool default threads=3;
events {{ worker_connections 128; }}
http {{
  include /etc/nginx/mime.types;
  log_format plain '$request $status $body_bytes_sent $http_range';
  access_log access.log plain;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi;
  scgi_temp_path {work}/scgi;
  aio threads;
  directio 64k;
  output_buffers 2 64k;
  gzip on;
  gzip_min_length 100;
  gzip_types *;
  server {{
    listen 127.0.0.1:{port};
    root {work}/root;
    location = /text {{ return 200 "generation {generation}\\n"; }}
    location /put/ {{ dav_methods PUT DELETE MKCOL; create_full_put_path on; dav_access all:rw; }}
    location /again/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_buffers 4 8k; }}
    location /list/ {{ autoindex on; autoindex_format json; }}
    location /limited/ {{ return 403; }}
    location /slow/ {{ alias {work}/root/; limit_rate 2m; }}
  }}
}}
"""


class Nginx(serving_programs.Case):
    def fill(self):
        self.empty_work()
        root = self.work / "root"
        (root / "put").mkdir(parents=True)
        (root / "put").chmod(0o777)
        (root / "list").mkdir()
        (root / "index.html").write_bytes(b"<p>word</p>" * 300)
        (root / "small.txt").write_bytes(b"small")
        (root / "large.bin").write_bytes(bytes(range(256)) * 12000)
        self.configure(1)

    def configure(self, generation):
        text = CONFIGURATION.format(work=self.work, port=self.port, generation=generation)
        (self.work / "nginx.conf").write_text(text)

    def request(self, connection, method, path, body=None, headers=None):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k not in ("Date", "Last-Modified", "ETag", "Connection")}
        return method, path, answer.status, kept, len(content), hashlib.sha256(content).hexdigest()

    def client(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        seen = []
        for turn in range(ROUNDS):
            put = f"/put/{number}/file{turn}"
            for request in (
                ("GET", "/"),
                ("GET", "/", None, {"Accept-Encoding": "gzip"}),
                ("GET", "/small.txt"),
                ("GET", "/large.bin"),
                ("GET", "/large.bin", None, {"Range": f"bytes={turn * 1000}-{turn * 90000 + 5000}"}),
                ("GET", "/large.bin", None, {"Range": "bytes=0-9,100000-200000"}),
                ("HEAD", "/index.html"),
                ("GET", "/none"),
                ("GET", "/limited/x"),
                ("PUT", put, b"body of %d" % number * 5000),
                ("GET", put),
                ("GET", "/again/index.html"),
                ("DELETE", put),
                ("POST", "/small.txt", b"x" * 100),
            ):
                answer = self.request(connection, *request)
                if "multipart" in answer[3].get("Content-Type", ""):
                    answer = (*answer[:3], answer[4])  # its boundary is a number of that answer's own
                seen.append(answer)
        connection.close()
        return seen

    def read_slowly(self, started):
        """One large file over a connection that outlives the workers that began it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        connection.request("GET", "/slow/large.bin")
        answer = connection.getresponse()
        content = answer.read(1000)
        started()
        content += answer.read()
        connection.close()
        return answer.status, hashlib.sha256(content).hexdigest()

    def reload(self, process):
        def is_new():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
            connection.request("GET", "/text")
            text = connection.getresponse().read()
            connection.close()
            return text == b"generation 2\n"

        self.configure(2)
        process.send_signal(signal.SIGHUP)
        self.wait_for(is_new, "new workers answer", seconds=self.timeout_s)

    def reopen(self, process):
        (self.work / "access.log").rename(self.work / "access.log.1")
        process.send_signal(signal.SIGUSR1)
        # Its owner is the workers' as soon as all is done by the master.
        is_there = lambda: (self.work / "access.log").exists() and (self.work / "access.log").stat().st_uid != 0
        self.wait_for(is_there, "logs are opened again", seconds=self.timeout_s)

    def said(self):
        """What was logged, without processes and times; of concurrent processes, in no order."""
        requests = (self.work / "access.log.1").read_text() + (self.work / "access.log").read_text()
        requests = [line for line in requests.splitlines() if "/text" not in line]
        lines = (self.work / "error.log").read_text().splitlines()
        # A signal that is sent once more before it was handled is one; the master's children, too.
        lines = {re.sub(r"^\S+ \S+|\d+#\d+:|\*\d+|(?<=process )\d+|(?<=from )\d+", "", line) for line in lines}
        lines = [line for line in lines if "SIGCHLD" not in line and "SIGIO" not in line]
        return "\n".join(sorted(requests) + sorted(lines)).encode()

    def test_workers_threads_reload_and_graceful_end(self):
        def run(environment):
            self.fill()
            (self.dir / "server.log").unlink(missing_ok=True)
            command = ["/usr/sbin/nginx", "-p", self.work, "-c", "nginx.conf", "-e", "error.log"]
            with self.server(*command, environment=environment) as process:
                self.connected(process).close()
                seen = serving_programs.all_at_once(self.client, CLIENTS)
                slow = self.read_slowly(lambda: self.reload(process))
                self.reopen(process)
                seen += serving_programs.all_at_once(self.client, CLIENTS)
                slow = (slow, self.read_slowly(lambda: process.send_signal(signal.SIGQUIT)))
                status = self.end_of(process)
            out = repr([seen, slow, os.path.exists(self.work / "nginx.pid")]).encode()
            files = harmless.files_below(self.work, "log")
            return harmless.Outcome(status, out + self.said(), (self.dir / "server.log").read_bytes(), files)

        plain = self.check_same(run)
        self.assertEqual(plain.status, 0, plain)
        self.assertIn(b"gracefully shutting down", plain.out)

    def test_killed_worker_is_replaced(self):
        def run(environment):
            self.fill()
            command = ["/usr/sbin/nginx", "-p", self.work, "-c", "nginx.conf", "-e", "error.log"]
            with self.server(*command, environment=environment) as process:
                self.connected(process).close()
                list_of_children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
                children = lambda: list_of_children.read_text().split()
                self.wait_for(lambda: len(children()) == 2, "two workers")
                for pid in children():
                    system_call = Path(f"/proc/{pid}/syscall")
                    waits = lambda: system_call.read_text().split()[0] == EPOLL_WAIT
                    self.wait_for(waits, "a worker waits for requests", seconds=self.timeout_s)
                    os.kill(int(pid), signal.SIGKILL)
                    are_two = lambda: len(children()) == 2 and pid not in children()
                    self.wait_for(are_two, "a new worker", seconds=self.timeout_s)
                seen = self.client(1)
                process.send_signal(signal.SIGTERM)
                status = self.end_of(process)
            lines = set(re.sub(r"\d+", "", (self.work / "error.log").read_text()).splitlines())
            seen += sorted(line for line in lines if "exited on signal" in line)
            return harmless.Outcome(status, repr(seen).encode(), b"")

        self.assertEqual(self.check_same(run).status, 0)


if __name__ == "__main__":
    harmless.main()
