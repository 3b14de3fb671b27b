# SPDX-License-Identifier: Apache-2.0
"""A trace that is turned on and off while the program runs: by `mprof ctl`, over HTTP, by itself."""

import fcntl
import json
import socket
import threading

import go_trace
import harness
import serving
import steered_program
import traced


class Steered(serving.Case, traced.Traced):
    """tests/targets/obedient.c; each contention is a wait of 20 ms in wait_for_lock()."""

    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()
        self.dump = self.only_dump()

    def is_drained(self):
        """A drainer holds its journal's lock."""
        journal = self.dump.with_name(self.dump.name + ".journal")
        if not journal.exists():
            return False
        with open(journal, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def is_on(self):
        return json.loads(self.mprof_ok("ps", "--json", self.dir).stdout)[0]["trace"]

    def contended(self, trace):
        events = self.accepted_events(trace)
        waits = [w for w in events.waits() if any(f.function == "wait_for_lock" for f in w.frames)]
        return [w for w in waits if w.end - w.begin > 1e7]

    def end(self):
        self.assert_unharmed(self.program)
        self.wait_for(lambda: not self.is_drained(), "the drainer has ended")


class Control(Steered):
    def ctl(self, *args):
        return self.mprof_ok("ctl", self.program.pid, *args).stdout

    def test_ten_times(self):
        for number in range(10):
            self.program.obey("contend 1")
            how = (("--trace", "on"), ("--trace", "off")) if number % 2 else (("trace", "start"), ("trace", "stop"))
            self.assertRegex(self.ctl(*how[0]), "in force after .*, trace on\n")
            self.program.obey("contend 2")
            self.assertRegex(self.ctl(*how[1]), "in force after .*, trace off\n")
        self.program.obey("contend 1")
        self.end()
        self.assertEqual(len(self.contended(self.convert(self.dump))), 20)

    def test_what_is_on_is_shown(self):
        self.assertFalse(self.is_on())
        self.assertTrue(self.ctl().endswith(", trace off\n"))
        self.ctl("--trace", "on")
        self.assertTrue(self.is_on())
        self.assertTrue(self.ctl().endswith(", trace on\n"))
        self.assertRegex(self.mprof_ok("ps", self.dir).stdout, rf"(?m)^ +{self.program.pid} .* on  {self.dump}$")
        self.ctl("--trace", "off")
        self.assertFalse(self.is_on())
        self.end()

    def test_a_drainer_is_started_once(self):
        self.assertFalse(self.is_drained())
        for _ in range(3):
            self.ctl("--trace", "on")
            self.assertTrue(self.is_drained())
        self.program.obey("contend 3")
        self.end()
        self.assertEqual(len(self.contended(self.convert(self.dump))), 3)

    def test_a_trace_that_nobody_could_drain_is_not_begun(self):
        journal = self.dump.with_name(self.dump.name + ".journal")
        journal.write_text("something else")
        run = self.mprof("ctl", self.program.pid, "--trace", "on")
        self.assertEqual((run.returncode, run.stdout), (1, ""), run)
        self.assertRegex(run.stderr, r"\Amprof: .*nothing drains it.*left alone\n\Z")
        self.assertFalse(self.is_on())
        self.assertEqual(journal.read_text(), "something else")
        self.assert_unharmed(self.program)

    def test_a_program_that_has_ended(self):
        self.assert_unharmed(self.program)
        run = self.mprof("ctl", self.dump, "--trace", "on")
        self.assertEqual((run.returncode, run.stdout), (1, ""), run)
        self.assertRegex(run.stderr, r"\Amprof: .*has ended.*\n\Z")
        self.assertFalse(self.is_drained())

    def test_while_it_runs(self):
        """The trace so far; what comes later is in the next one."""
        self.ctl("--trace", "on")
        self.program.obey("contend 2")
        self.assertEqual(len(self.contended(self.convert(self.dump))), 2)
        self.program.obey("contend 2")
        self.assertEqual(len(self.contended(self.convert(self.program.pid))), 4)
        self.end()


class Asleep(steered_program.Steered, traced.Traced):
    """tests/targets/steered.c, all of whose threads wait where nobody may signal them."""

    def test_it_begins_when_the_program_wakes(self):
        self.start("poll", rate=None)
        self.tell("w")
        self.assertIsNone(self.change("--trace", "on"))
        self.assertEqual(self.ctl().split()[-1], "off")
        self.tell("ww")
        self.assertEqual(self.ctl().split()[-1], "on")
        self.assertIsNone(self.change("--trace", "off"))
        self.tell("w")
        self.assertEqual(self.ctl().split()[-1], "off")
        self.finish()
        events = self.accepted_events(self.convert(self.dump))
        waits = [w for w in events.waits() if any(f.function == "wait_for_mutex" for f in w.frames)]
        self.assertEqual(len(waits), 2)
        self.assertTrue(all(any(f.function == "keep_waiting" for f in w.waker_frames) for w in waits), waits)


class Http(Steered):
    def setUp(self):
        super().setUp()
        self.serve(self.program.pid)

    def fetch(self, seconds, during):
        """The trace of a request within which the program obeys."""
        answers = []
        asking = threading.Thread(target=lambda: answers.append(self.ask(f"/debug/pprof/trace?seconds={seconds}")))
        asking.start()
        self.wait_for(self.is_on, "the trace is on")
        for line in during:
            self.program.obey(line)
        asking.join()
        return self.saved(answers[0])

    def saved(self, answer):
        self.assertEqual(answer.status, 200, answer.body[:500])
        self.assertEqual(answer.headers["Content-Type"], "application/octet-stream")
        self.assertEqual(answer.headers["Content-Disposition"], 'attachment; filename="trace"')
        self.assertEqual(int(answer.headers["Content-Length"]), len(answer.body))
        path = self.dir / "served.trace"
        path.write_bytes(answer.body)
        return path

    def test_only_its_seconds(self):
        self.program.obey("contend 3")
        trace = self.fetch(2, ["contend 4"])
        self.assertFalse(self.is_on())
        self.program.obey("contend 2")
        self.assertEqual(len(self.contended(trace)), 4)
        go_trace.check(trace)
        self.assertGreater(go_trace.profile(trace, "sync").below("wait_for_lock")["delay"], 4 * 20e6)
        self.end()

    def test_a_trace_that_is_on_stays_on(self):
        self.mprof_ok("ctl", self.program.pid, "--trace", "on")
        self.program.obey("contend 3")
        trace = self.fetch(2, ["contend 2"])
        self.assertTrue(self.is_on())
        self.assertEqual(len(self.contended(trace)), 2)
        self.program.obey("contend 1")
        self.end()
        self.assertEqual(len(self.contended(self.convert(self.dump))), 6)

    def test_several_at_a_time(self):
        answers = []
        asking = [
            threading.Thread(target=lambda n=n: answers.append((n, self.ask(f"/debug/pprof/trace?seconds={n}"))))
            for n in (1, 3)
        ]
        for thread in asking:
            thread.start()
        asking[0].join()
        self.assertTrue(self.is_on(), "the longer one goes on")
        asking[1].join()
        self.assertFalse(self.is_on())
        for _, answer in answers:
            go_trace.check(self.saved(answer))
        self.end()

    def test_a_client_that_leaves_ends_its_trace(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /debug/pprof/trace?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wait_for(self.is_on, "the trace is on")
        self.wait_for(lambda: not self.is_on(), "the trace is off")
        self.end()

    def test_a_server_that_ends_ends_its_trace(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /debug/pprof/trace?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wait_for(self.is_on, "the trace is on")
            self.server.terminate()
            self.assertEqual(self.server.wait(timeout=10), 0)
        self.assertFalse(self.is_on())
        self.end()

    def test_refusals(self):
        for seconds in ("0", "-1", "3601", "x", "1.5", ""):
            answer = self.ask(f"/debug/pprof/trace?seconds={seconds}")
            self.assert_refused(answer, 400, '"seconds"', "1 to 3600")
        self.assertFalse(self.is_on())
        self.end()
        self.assert_refused(self.ask("/debug/pprof/trace?seconds=1"), 400, "has ended")


class Program(traced.Traced):
    def test_ten_sessions_of_its_own(self):
        run = self.run_under(harness.target("trace_sessions"), 10)
        self.assertEqual((run.returncode, run.stdout), (0, ""), run)
        events = self.accepted_events(self.convert(self.only_dump()))
        regions = [event for event in events.named("UserRegion") if event.values[1] == 0]
        names = [events.strings[event.values[2]] for event in sorted(regions, key=lambda e: e.ns)]
        self.assertEqual(names, [f"session {n}" for n in range(10)])
        self.assertEqual(len(events.named("UserRegion")), 20, "each region ends")


if __name__ == "__main__":
    traced.main()
