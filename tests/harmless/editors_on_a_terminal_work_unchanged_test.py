# SPDX-License-Identifier: Apache-2.0
"""vim on a terminal: what is typed, what is on the screen, what is in the file."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import harmless
import harness

ROWS, COLUMNS = 24, 80


class Screen:
    """As much of a terminal as vim needs for TERM=vt100: text at places."""

    SEQUENCE = re.compile(
        rb"\x1b\[(?P<private>[?>]?)(?P<numbers>[\d;]*)(?P<other>[ -/]*)(?P<kind>[@-~])"
        rb"|\x1b[()].|\x1b[=>78MDEHc]|\x1bP[^\x1b]*\x1b\\|\x1b\][^\x07]*\x07",
        re.DOTALL,
    )

    def __init__(self):
        self.rows = [[" "] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.top, self.bottom = 0, ROWS - 1
        self.rest = b""

    def feed(self, data):
        data = self.rest + data
        self.rest = b""
        at = 0
        while at < len(data):
            byte = data[at : at + 1]
            if byte == b"\x1b":
                match = self.SEQUENCE.match(data, at)
                if not match:  # the rest of it is still to come
                    self.rest = data[at:]
                    return
                self._obey(match, data)
                at = match.end()
                continue
            self._put(byte)
            at += 1

    def _put(self, byte):
        if byte == b"\r":
            self.column = 0
        elif byte == b"\n":
            self._line_feed()
        elif byte == b"\b":
            self.column = max(self.column - 1, 0)
        elif byte >= b" ":
            if self.column == COLUMNS:
                self.column = 0
                self._line_feed()
            self.rows[self.row][self.column] = byte.decode("latin-1")
            self.column += 1

    def _line_feed(self):
        if self.row == self.bottom:
            del self.rows[self.top]
            self.rows.insert(self.bottom, [" "] * COLUMNS)
        else:
            self.row = min(self.row + 1, ROWS - 1)

    def _obey(self, match, data):
        kind = (match["kind"] or b"").decode()
        if data[match.start() : match.end()] == b"\x1bM":
            if self.row == self.top:
                del self.rows[self.bottom]
                self.rows.insert(self.top, [" "] * COLUMNS)
            else:
                self.row -= 1
        if not kind or match["private"] or match["other"]:
            return
        numbers = [int(n or 0) for n in match["numbers"].split(b";")]
        count = max(numbers[0], 1)
        if kind in "Hf":
            self.row = min(count, ROWS) - 1
            self.column = min(max(numbers[1] if len(numbers) > 1 else 1, 1), COLUMNS) - 1
        elif kind == "A":
            self.row = max(self.row - count, 0)
        elif kind == "B":
            self.row = min(self.row + count, ROWS - 1)
        elif kind == "C":
            self.column = min(self.column + count, COLUMNS - 1)
        elif kind == "D":
            self.column = max(self.column - count, 0)
        elif kind == "r":
            self.top = count - 1
            self.bottom = (numbers[1] if len(numbers) > 1 and numbers[1] else ROWS) - 1
            self.row = self.column = 0
        elif kind == "K":
            self.rows[self.row][self.column :] = [" "] * (COLUMNS - self.column)
        elif kind == "J":
            if numbers[0] == 2:
                self.rows = [[" "] * COLUMNS for _ in range(ROWS)]
            else:
                self.rows[self.row][self.column :] = [" "] * (COLUMNS - self.column)
                self.rows[self.row + 1 :] = [[" "] * COLUMNS for _ in range(ROWS - self.row - 1)]

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.rows).rstrip()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment, folder):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command,
            env=harness.clean_environment({"TERM": "vt100", "HOME": str(folder), **environment}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.screen = Screen()

    def read(self, seconds):
        """False: nothing came, or never will."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.screen.feed(data)
        return bool(data)

    def wait_for(self, pattern, seconds):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.screen.text(), re.MULTILINE):
            if time.monotonic() > end:
                raise AssertionError(f"{pattern!r} is not on the screen:\n{self.screen.text()}")
            self.read(0.2)

    def type(self, keys):
        os.write(self.master, keys)

    def end(self, seconds):
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        while self.read(0):
            pass
        return self.process.poll()

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


class Vim(harmless.Case):
    def edit(self, environment):
        """Types a while; what is on the screen is looked at when vim has said that it is done."""
        self.work.mkdir(exist_ok=True)
        for file in self.work.iterdir():
            file.unlink()
        (self.work / "text").write_text("".join(f"line {n} of the text\n" for n in range(1, 200)))
        command = ["/usr/bin/vim.basic", "-u", "NONE", "-i", "NONE", "-N", "-n", "text"]
        terminal = Terminal(command, environment, self.work)
        seen = []

        def shown(keys, number):
            # Said when all keys before were obeyed and all that they changed is drawn.
            terminal.type(keys + b"\x1b:redraw | echo 'step' . ' %d'\r" % number)
            terminal.wait_for(rf"^step {number}\b", self.timeout_s)
            seen.append(terminal.screen.text())

        try:
            terminal.wait_for("line 1 of", self.timeout_s)
            shown(b":set nomore noshowcmd noruler laststatus=0\r", 0)
            shown(b"ggOTyped text, \x08.\nsecond line\x1b", 1)
            shown(b"100Gdd5j3ddp:s/text/words/g\r", 2)
            shown(b":%s/line \\(\\d*\\) of/\\=submatch(1)*2/\r", 3)
            shown(b"qaA!\x1bjq20@a", 4)
            shown(b"u\x12gg/198\rzz", 5)
            shown(b":split\r:new\r:r !echo from a shell; echo error >&2; exit 3\r", 6)
            shown(b":call setline(1, reverse(range(1, 50)))\r:sort n\r:only!\r", 7)
            shown(b":let j = job_start(['/bin/cat'])\r:call ch_sendraw(j, \"word\\n\")\r:$put =ch_read(j)\r", 8)
            shown(b":w! other\r:b1\r", 9)
            terminal.type(b"\x1b:w\r:qa!\r")
            status = terminal.end(self.timeout_s)
            self.assertIsNotNone(status, harmless.stacks_of_group(terminal.process.pid))
        finally:
            terminal.close()
        return harmless.Outcome(status, "\n\n".join(seen).encode(), b"", harmless.files_below(self.work))

    def test_edits(self):
        plain = self.check_same(self.edit)
        self.assertEqual(plain.status, 0, plain)
        self.assertIn(b"from a shell", plain.out)
        self.assertIn(b"Typed text,.", plain.files["text"][1])


if __name__ == "__main__":
    harmless.main()
