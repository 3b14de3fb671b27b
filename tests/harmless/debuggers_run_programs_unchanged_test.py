# SPDX-License-Identifier: Apache-2.0
"""gdb, strace and valgrind show of a program what they show without the library."""

import re

import harmless
import programs

STOPS = """
break inner if number == 20
break on_signal
run
next
backtrace
continue
backtrace
print number
up
finish
delete
break inner if number == 299
catch fork
continue
continue
backtrace
print inner(21)
watch signalled
disable
print signalled = 11
info signals SIGUSR1
continue
"""
ATTACH = r"""
mkfifo said; "$DEBUGGED" waits > said & pid=$!; read -r line < said; echo "$line"
gdb -nx -q -batch -p $pid -ex 'backtrace -5' -ex 'print signalled' -ex 'call inner(4)' -ex detach 2>error |
  sed -n '/main ()/p;/^\$/p'
grep -v -i 'no such file\|debuginfo' error || :; kill -USR1 $pid; wait $pid; echo "ended: $?"; rm error
"""
STRACE = r"""
strace -ff -qq -o calls -e trace=write,dup2,exit_group -e signal='!SIGURG' \
  sh -c '"$DEBUGGED"; echo "$?" | cat' || echo "strace: $?"
cat calls.* | sed 's/si_pid=.*//' | sort; rm calls.*
"""


class Debuggers(programs.Programs):
    def clean(self, text):
        """Processes have numbers, and lie elsewhere each time; gdb counts what it sees of threads."""
        text = re.sub(rb"0x[0-9a-f]+", b"0x", text)
        text = re.sub(rb"((LWP|process|Thread|thread) )\d+(\.\d+)?", rb"\1#", text)
        lines = [line for line in text.splitlines() if not re.match(rb"\[(New )?Thread |warning: |\d+\t\./", line)]
        return b"\n".join(lines)

    def prepare(self):
        (self.work / "stops").write_text(STOPS)

    @staticmethod
    def program():
        return {"DEBUGGED": harmless.harness.target("debugged")}

    def gdb(self, *more):
        return ["gdb", "-nx", "-q", "-batch", *more, "-x", "stops", harmless.harness.target("debugged")]

    def check_stops(self, outcome):
        self.assertEqual(outcome.status, 0, outcome)
        lines = (rb"outer \(depth=", rb"<signal handler called>", rb"= 42\n", rb"\n43 42 11 89700\n", rb"code 07\]")
        for line in lines:
            self.assertRegex(outcome.out, line)

    def test_gdb_and_program(self):
        self.needs("gdb")
        options = {"clean": self.clean, "prepare": self.prepare, "env": programs.SURROUNDINGS}
        self.check_stops(self.check_unchanged(*self.gdb(), **options))

    def test_program_alone(self):
        """With a trace from the start gdb lost the program: of the drainer, which is cloned without an exit signal,
        it heard as of a thread, and when that became `mprof drain`, gdb believed that the program had. The
        drainer is no longer shown to who traces the program."""

        def run(environment):
            self.work.mkdir(exist_ok=True)
            self.prepare()
            wrapper = " ".join(f"{name}={value}" for name, value in environment.items())
            command = self.gdb("-ex", f"set exec-wrapper env {wrapper}" if wrapper else "echo")
            outcome = self.run_watched(*command, env=programs.SURROUNDINGS)
            outcome.out, outcome.err = self.clean(outcome.out), self.clean(outcome.err)
            return outcome

        self.check_stops(self.check_same(run))

    def test_gdb_attaches(self):
        outcome = self.check_script(ATTACH, "gdb", env=self.program(), clean=self.clean)
        self.assertIn(b"$2 = 8", outcome.out)

    def test_strace(self):
        outcome = self.check_script(STRACE, "strace", env=self.program(), clean=self.clean)
        self.assertIn(b"exit_group(7)", outcome.out)

    def test_valgrind(self):
        """Valgrind's own allocator takes the place of all others; nothing of the library's is found fault with."""
        command = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", harmless.harness.target("debugged")]
        outcome = self.check_works(*command, status=7)
        self.assertEqual(outcome.out, b"43 42 10 89700\n")


if __name__ == "__main__":
    programs.main()
