# SPDX-License-Identifier: Apache-2.0
"""`mprof serve` answers /debug/pprof/ as a Go program does, and with what really happened.

A Go program with net/http/pprof is asked the same questions: status and headers must be the same.
"""

import json
import re
import socket
import threading
import time
import unittest.mock

import harness
import serving

GO_PROGRAM = """package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, nil))
}
"""

PROFILES = ("heap", "allocs", "block", "mutex", "threadcreate")
# What decides what a client does with an answer.
HEADERS = ("Content-Type", "Content-Disposition", "X-Content-Type-Options", "X-Go-Pprof", "Location")


class Alike(serving.Case):
    """The same requests, to both."""

    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()
        self.serve(self.program.pid)
        self.go_port = self.start_go()

    def start_go(self):
        source = self.dir / "main.go"
        source.write_text(GO_PROGRAM)
        env = {"GOFLAGS": "", "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
        built = self.run_plain("go", "build", "-o", self.dir / "go_server", source, env=env)
        self.assertEqual(built.returncode, 0, built)
        process = self.start_under(self.dir / "go_server", env={"LD_PRELOAD": ""}, stdout=-1, text=True)
        return int(process.stdout.readline())

    def assert_alike(self, path, method="GET", body=None):
        ours = self.ask(path, method, body=body)
        with unittest.mock.patch.object(self, "port", self.go_port):
            theirs = self.ask(path, method, body=body)
        self.assertEqual(ours.status, theirs.status, (path, ours.body[:200], theirs.body[:200]))
        for name in HEADERS:
            if ours.status == 301 and name == "X-Content-Type-Options":
                continue  # Go's mux redirects, without it
            self.assertEqual(ours.headers[name], theirs.headers[name], (path, name))
        return ours, theirs

    def test_status_and_headers(self):
        paths = ["/debug/pprof/", "/debug/pprof", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/elsewhere"]
        paths += ["/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=1"]
        for name in (*PROFILES, "goroutine"):
            paths += [f"/debug/pprof/{name}{query}" for query in ("", "?debug=0", "?debug=1", "?debug=2", "?gc=1")]
            paths += [
                f"/debug/pprof/{name}?{query}"
                for query in ("seconds=-1", "seconds=0", "seconds=abc", "seconds=1&debug=1", "unknown=1", "seconds=1")
            ]
        paths += ["/debug/pprof/delta_heap", "/debug/pprof/nothing", "/debug/pprof/heap/", "/debug/pprof/HEAP"]
        for path in paths:
            with self.subTest(path):
                if path == "/elsewhere":  # Go's mux answers there, not net/http/pprof
                    self.assertEqual(self.ask(path).status, 404)
                    continue
                self.assert_alike(path)
        self.assert_unharmed(self.program)

    def test_head_is_get_without_a_body(self):
        for path in ("/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/", "/debug/pprof/cmdline"):
            with self.subTest(path):
                ours, _ = self.assert_alike(path, "HEAD")
                self.assertEqual(ours.body, b"")

    def test_index_has_the_same_profiles(self):
        ours, theirs = self.assert_alike("/debug/pprof/")
        row = re.compile(r"<tr><td>(\d+)</td><td><a href='([^']+)'>([^<]+)</a></td></tr>")
        ours, theirs = (row.findall(answer.body.decode()) for answer in (ours, theirs))
        names = [name for _, _, name in ours]
        self.assertEqual(names, sorted(names))
        self.assertLessEqual({name for _, _, name in theirs}, set(names))
        links = {name: link for _, link, name in ours}
        self.assertEqual({name: links[name] for _, _, name in theirs}, {name: link for _, link, name in theirs})
        counts = {name: int(count) for count, _, name in ours}
        self.assertEqual(counts["heap"], len(self.ask_profile("/debug/pprof/heap").samples))

    def test_text_has_the_same_shape(self):
        for name in PROFILES:
            with self.subTest(name):
                ours, theirs = self.assert_alike(f"/debug/pprof/{name}?debug=1")
                first = [re.sub(r"\d+", "N", a.body.decode().split("\n")[0]) for a in (ours, theirs)]
                self.assertEqual(*first)

    def test_symbol_is_asked_in_both_ways(self):
        for method, path, body in (("GET", "/debug/pprof/symbol?0x1+0x2", None), ("POST", "/debug/pprof/symbol", "0x1+0x2")):
            ours, theirs = self.assert_alike(path, method, body)
            self.assertEqual(ours.body, theirs.body)


class Truth(serving.Case):
    """What it answers with is what happened."""

    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()
        self.serve(self.program.pid)

    def during(self, path, *lines):
        """The profile of a path with seconds=, while the program does this."""

        def act():
            time.sleep(1)
            for line in lines:
                self.program.obey(line)

        actor = threading.Thread(target=act)
        actor.start()
        profile = self.ask_profile(path)
        actor.join()
        return profile

    def message_number(self, profile, field):
        return next((value for number, value in profile.message if number == field), 0)

    def test_profiles_at_once(self):
        for line in ("keep 6", "churn 5", "contend 3", "thread"):
            self.program.obey(line)
        for path in ("/debug/pprof/heap", "/debug/pprof/allocs", "/debug/pprof/heap?gc=1"):
            profile = self.ask_profile(path)
            self.assert_site(profile, "kept_block", 7, 7000, 7, 7000)
            self.assert_site(profile, "churned_block", 5, 2500, 0, 0)
        self.assertEqual(self.ask_profile("/debug/pprof/block").below("wait_for_lock")["contentions"], 3)
        self.assertEqual(self.ask_profile("/debug/pprof/mutex").below("hold_lock")["contentions"], 3)
        self.assertEqual(self.ask_profile("/debug/pprof/threadcreate").below("make_thread")["threadcreate"], 1)
        self.assert_unharmed(self.program)

    def test_heap_of_seconds_is_a_difference(self):
        self.program.obey("keep 9")
        profile = self.during("/debug/pprof/heap?seconds=3", "drop", "keep 4", "churn 5")
        # As with Go's: 10 blocks that were there went, 4 came.
        self.assert_site(profile, "kept_block", 4, 4000, -6, -6000)
        self.assert_site(profile, "churned_block", 5, 2500, 0, 0)

    def test_what_did_not_change_is_not_in_a_difference(self):
        self.program.obey("churn 1")
        profile = self.during("/debug/pprof/allocs?seconds=2")
        self.assertEqual(profile.samples, [])

    def test_what_did_not_change_is_not_rounded_anew(self):
        """Estimates are rounded along their sum, so a row could change by one when one before it does."""
        for seed in ("5", "7", "8"):
            with self.subTest(seed):
                self.program = self.start_obedient(rate=3000, env={"MPROF_SEED": seed})
                self.serve(self.program.pid)
                for line in ("churn 100", "keep 200"):
                    self.program.obey(line)
                profile = self.during("/debug/pprof/allocs?seconds=2", "churn 333")
                self.assertGreater(profile.below("churned_block")["alloc_objects"], 0)
                self.assertEqual(profile.below("kept_block")["alloc_objects"], 0)

    def test_waits_of_seconds_are_a_difference(self):
        self.program.obey("contend 2")
        profile = self.during("/debug/pprof/block?seconds=3", "contend 5")
        self.assertEqual(profile.below("wait_for_lock")["contentions"], 5)
        delay = profile.below("wait_for_lock")["delay"]
        self.assertGreater(delay, 5 * 0.9 * 20e6)
        profile = self.during("/debug/pprof/mutex?seconds=3", "contend 4")
        self.assertEqual(profile.below("hold_lock")["contentions"], 4)
        profile = self.during("/debug/pprof/threadcreate?seconds=3", "thread", "thread")
        self.assertEqual(profile.total()["threadcreate"], 2)
        self.assert_unharmed(self.program)

    def test_time_and_duration(self):
        """Those who store profiles take time_nanos for the time of what they see."""
        before = time.time_ns()
        profile = self.ask_profile("/debug/pprof/heap")
        self.assertGreaterEqual(self.message_number(profile, 9), before)
        self.assertLessEqual(self.message_number(profile, 9), time.time_ns())
        self.assertEqual(self.message_number(profile, 10), 0)
        profile = self.ask_profile("/debug/pprof/heap?seconds=2")
        self.assertGreaterEqual(self.message_number(profile, 9), before + 2e9)
        self.assertGreaterEqual(self.message_number(profile, 10), 2e9)
        self.assertLess(self.message_number(profile, 10), 60e9)

    def test_names_of_addresses(self):
        profile = self.ask_profile("/debug/pprof/heap")
        addresses = {f.address for s in profile.samples for f in s.frames if f.function == "kept_block"}
        self.assertTrue(addresses)
        words = [hex(address) for address in addresses]
        answer = self.ask("/debug/pprof/symbol", "POST", body="+".join(["0x1", "x", *words]))
        self.assertEqual(
            answer.body.decode().split("\n"), ["num_symbols: 1", *[f"{word} kept_block" for word in words], ""]
        )
        many = "+".join(words * 2000)
        self.assertEqual(self.ask("/debug/pprof/symbol", "POST", body=many).body.count(b"kept_block"), 2000 * len(words))

    def test_command_line(self):
        self.assertEqual(self.ask("/debug/pprof/cmdline").body.decode(), harness.target("obedient"))

    def test_what_was_not_recorded_is_empty_and_says_so(self):
        program = self.start_obedient(env={"MPROF_BLOCK_RATE": "0"})
        self.serve(program.pid)
        profile = self.ask_profile("/debug/pprof/block")
        self.assertEqual(profile.samples, [])
        self.assertIn("MPROF_BLOCK_RATE=0", "\n".join(profile.comments))

    def test_the_dump_of_a_program_that_ended(self):
        self.program.obey("keep 2")
        dump = self.only_dump()
        self.assert_unharmed(self.program)
        self.serve(dump)
        self.assert_site(self.ask_profile("/debug/pprof/heap"), "kept_block", 3, 3000, 3, 3000)
        self.assert_refused(self.ask("/debug/pprof/heap?seconds=1"), 400, "has ended")

    def test_a_program_may_end_meanwhile(self):
        self.program.obey("keep 2")
        done = {}
        asking = threading.Thread(target=lambda: done.update(profile=self.ask_profile("/debug/pprof/heap?seconds=3")))
        asking.start()
        time.sleep(1)
        self.program.obey("keep 5")
        self.assert_unharmed(self.program)
        asking.join()
        self.assert_site(done["profile"], "kept_block", 5, 5000, 5, 5000)
        # The path that it was found at is still served.
        self.assert_site(self.ask_profile("/debug/pprof/heap"), "kept_block", 8, 8000, 8, 8000)

    def cpu_hz(self):
        (process,) = json.loads(self.mprof_ok("ps", "--json", self.dir).stdout)
        return process["cpu_hz"]

    def test_processor_time_of_seconds(self):
        self.program.obey("burn 300")
        before = time.time_ns()
        profile = self.during("/debug/pprof/profile?seconds=8", "burn 2000")
        self.assertEqual(profile.sample_types, [("samples", "count"), ("cpu", "nanoseconds")])
        self.assertLess(abs(profile.below("burn")["cpu"] - 2e9), 0.3e9)
        self.assertLess(self.message_number(profile, 9) - before, 4e9)
        self.assertGreaterEqual(self.message_number(profile, 10), 8e9)
        self.assertEqual(self.cpu_hz(), 0)
        self.assert_unharmed(self.program)

    def test_cpu_is_on_as_long_as_somebody_asks(self):
        asked = [threading.Thread(target=self.ask, args=[f"/debug/pprof/profile?seconds={s}"]) for s in (2, 6)]
        for one in asked:
            one.start()
        self.wait_for(lambda: self.cpu_hz() == 100, "CPU on")
        asked[0].join()
        self.assertEqual(self.cpu_hz(), 100)
        asked[1].join()
        self.assertEqual(self.cpu_hz(), 0)

    def test_cpu_goes_off_when_the_client_leaves(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /debug/pprof/profile?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wait_for(lambda: self.cpu_hz() == 100, "CPU on")
        self.wait_for(lambda: self.cpu_hz() == 0, "CPU off")

    def test_cpu_goes_off_when_the_server_stops(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /debug/pprof/profile?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wait_for(lambda: self.cpu_hz() == 100, "CPU on")
            self.server.terminate()
            self.assertEqual(self.server.wait(timeout=10), 0)
        self.assertEqual(self.cpu_hz(), 0)

    def test_cpu_that_was_on_stays_on(self):
        self.assert_unharmed(self.program)
        self.program = self.start_obedient(env={"MPROF_CPU_HZ": "250"})
        self.serve(self.program.pid)
        self.program.obey("burn 500")
        profile = self.during("/debug/pprof/profile?seconds=5", "burn 1000")
        self.assertLess(abs(profile.below("burn")["cpu"] - 1e9), 0.2e9)
        self.assertEqual(self.cpu_hz(), 250)

    def test_threads(self):
        profile = self.ask_profile("/debug/pprof/goroutine")
        self.assertEqual(len(profile.samples), 1)
        self.assertEqual(sum(profile.below("main").values()), 1)
        self.assertRegex(self.ask("/debug/pprof/goroutine?debug=1").body.decode(), r"\Athread profile: total 1\n1 @ 0x")
        self.assertIn(f'thread {self.program.pid} "obedient" [', self.ask("/debug/pprof/goroutine?debug=2").body.decode())
        self.assertEqual(self.ask_profile("/debug/pprof/goroutine?seconds=1").samples, [])
        self.assert_unharmed(self.program)


class GoTool(serving.Case):
    """`go tool pprof` with an address, as with a Go program."""

    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()
        self.serve(self.program.pid)
        self.program.obey("keep 3")
        self.program.obey("contend 1")

    def fetch(self, *args):
        env = {"PPROF_TMPDIR": str(self.dir), "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        run = self.run_plain("go", "tool", "pprof", "-top", "-nodefraction=0", *args, env=env)
        self.assertEqual(run.returncode, 0, run)
        lines = [line for line in run.stderr.splitlines() if line and not line.startswith("Please wait")]
        self.assertRegex(lines[0], "^Fetching profile over HTTP from http://")
        self.assertRegex(lines[-1], "^Saved profile in ")
        self.assertEqual(len(lines), 2, run.stderr)
        return run.stdout

    def test_each_profile(self):
        for name, function in (
            ("heap", "kept_block"),
            ("allocs", "kept_block"),
            ("block", "wait_for_lock"),
            ("mutex", "hold_lock"),
            ("threadcreate", "contend"),
        ):
            with self.subTest(name):
                self.assertIn(function, self.fetch(f"{self.url}/debug/pprof/{name}"))

    def test_seconds(self):
        done = threading.Timer(1, self.program.obey, ["keep 2"])
        done.start()
        text = self.fetch("-sample_index=alloc_objects", "-seconds=3", f"{self.url}/debug/pprof/heap")
        done.join()
        self.assertRegex(text, r"(?m)^ +2 +100% +100% +2 +100% +kept_block$")

    def test_text_form(self):
        self.assertIn("obedient", self.fetch(f"{self.url}/debug/pprof/heap?debug=1"))

    def test_an_error_is_shown(self):
        run = self.run_plain("go", "tool", "pprof", "-top", f"{self.url}/debug/pprof/nothing", env={"PPROF_TMPDIR": str(self.dir)})
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("Unknown profile 'nothing'; there are allocs, block", run.stderr)


if __name__ == "__main__":
    harness.main()
