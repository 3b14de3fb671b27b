# SPDX-License-Identifier: Apache-2.0
"""`go tool trace` as the judge of a trace: its parser, its four profiles, every page of its server.

The server trusts its file: what the parser accepts may still kill it, or a page.
"""

import contextlib
import html
import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections import Counter, namedtuple
from functools import lru_cache
from pathlib import Path

from pprof import Profile

PROFILES = ("net", "sync", "syscall", "sched")
TIMEOUT_S = 300

Event = namedtuple("Event", "ns kind proc thread values")


class Refused(AssertionError):
    """What Go does not take."""


@lru_cache(maxsize=None)
def tool():
    """The program itself: its pid is that of the server."""
    return subprocess.run(["go", "tool", "-n", "trace"], capture_output=True, text=True, check=True).stdout.strip()


def run(trace, *options):
    environment = {**os.environ, "BROWSER": "/bin/true"}
    done = subprocess.run([tool(), *options, str(trace)], capture_output=True, env=environment, timeout=TIMEOUT_S)
    if done.returncode != 0 or b"panic" in done.stderr:
        raise Refused(f"{trace} {options}: {done.returncode} {done.stderr[-1000:].decode(errors='replace')}")
    return done.stdout


def events(trace):
    """What the parser printed, in its order."""
    line = re.compile(r"(\d+) (\w+) p=(-?\d+) g=(\d+) off=\d+(.*)")
    found = []
    for text in run(trace, "-d").decode(errors="replace").splitlines():
        match = line.match(text)
        if match:
            values = dict(re.findall(r"(\w+)=(\S*)", match[5]))
            found.append(Event(int(match[1]), match[2], int(match[3]), int(match[4]), values))
    return found


def count(trace):
    return Counter(event.kind for event in events(trace))


def profile(trace, kind):
    """One of PROFILES, as pprof.Profile."""
    with tempfile.NamedTemporaryFile(suffix=".pb.gz") as file:
        file.write(run(trace, f"-pprof={kind}"))
        file.flush()
        return Profile(file.name)


class Viewer:
    """The server of one trace, on a port of its own."""

    def __init__(self, trace):
        self.trace = trace
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [tool(), "-http=127.0.0.1:0", str(trace)],
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "BROWSER": "/bin/true"},
        )

    def address(self):
        """Waits until it listens; the parser runs before that."""
        while True:
            code = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.05)
            match = re.search(r"listening on http://(\S+)|listening on (\S+)", self.said())
            if match:
                return match[1] or match[2]
            if code is not None:
                raise Refused(f"{self.trace}: the server ended: {self.said()[-1000:]}")

    def said(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.address()}{path}", timeout=TIMEOUT_S) as answer:
                body = answer.read().decode(errors="replace")
                status = answer.status
        except (urllib.error.URLError, OSError) as error:
            raise Refused(f"{self.trace}: {path}: {error}: {self.said()[-2000:]}") from error
        if status != 200:
            raise Refused(f"{self.trace}: {path}: {status}")
        return body

    def end(self):
        self.process.kill()
        self.process.wait()
        said = self.said()
        self.log.close()
        broken = re.search(r".*(panic|failed to (parse|generate|execute|serialize)).*", said)
        if broken:
            raise Refused(f"{self.trace}: {broken[0]}")


def links(body):
    return [html.unescape(link) for link in re.findall(r"href=[\"']?(/[^\"'> ]+)", body)]


def raw(path):
    """A graph needs a program that draws; what it is drawn from does not."""
    is_graph = re.match(r"/(region)?(io|block|syscall|sched)(\?|$)", path)
    if not is_graph or "raw=1" in path:
        return path
    return path + ("&" if "?" in path else "?") + "raw=1"


def check_pages(trace, most_of_a_kind=4):
    """Loads every page of the server, of pages of one kind the first few; gives how many."""
    viewer = Viewer(trace)
    try:
        waiting = ["/", "/trace", "/jsontrace", "/goroutines", "/usertasks", "/userregions", "/mmu"]
        flags = ("stw|sweep", "assist|sweep|background", "perProc|assist|sweep")
        waiting += [f"/mmuPlot?flags={f}" for f in flags]
        waiting += [f"/mmuDetails?window={w}&flags={f}" for f in flags for w in (1, 1000, 10**12)]
        waiting += [f"/{p}?raw=1" for p in ("io", "block", "syscall", "sched")]
        seen, kinds = set(), Counter()
        while waiting:
            path = raw(waiting.pop(0).partition("#")[0].replace(" ", "%20"))
            kind = re.sub(r"=[^&]*", "=", path)
            is_given = kinds[kind] < (10 if kind.startswith("/mmu") else most_of_a_kind)
            if path in seen or not is_given or path.startswith(("/static", "/sche?")):
                continue
            seen.add(path)
            kinds[kind] += 1
            waiting += links(viewer.get(path))
            if path.startswith("/trace?"):
                waiting.append("/json" + path[1:])
    finally:
        viewer.end()
    return len(seen)


def check(trace):
    """All of it. Gives the events."""
    trace = Path(trace)
    found = events(trace)
    for kind in PROFILES:
        profile(trace, kind)
    check_pages(trace)
    return found
