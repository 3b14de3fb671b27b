# SPDX-License-Identifier: Apache-2.0
"""`mprof ps` lists the profiled processes; `mprof serve` without a dump, or with directories, serves each of them
below /PID/."""

import json
import os
import subprocess
import sys
import time

import harness
import serving


class Listed(serving.Case):
    def setUp(self):
        super().setUp()
        self.one = self.start_obedient(rate=4096, env={"MPROF_BLOCK_RATE": "0"}, dump_dir=self.dir / "one")
        self.two = self.start_obedient(dump_dir=self.dir / "two")

    def listed(self, *args):
        return {process["pid"]: process for process in json.loads(self.mprof_ok("ps", "--json", *args).stdout)}

    # ps

    def test_json(self):
        listed = self.listed()
        one, two = listed[self.one.pid], listed[self.two.pid]
        self.assertEqual(one["command_line"], [harness.target("obedient")])
        self.assertEqual(one["executable"], os.path.realpath(harness.target("obedient")))
        self.assertEqual(one["dump"], str(self.only_dump(self.dir / "one")))
        self.assertLess(abs(one["started_realtime_ns"] / 1e9 - time.time()), 100)
        rates = ("heap_rate_bytes", "block_rate_ns", "mutex_fraction", "cpu_hz")
        self.assertEqual([one[rate] for rate in rates], [4096, 0, 1, 0])
        self.assertEqual([two[rate] for rate in rates], [1, 1, 1, 0])
        self.assertNotIn(os.getpid(), listed)
        self.assertEqual(list(listed), sorted(listed))

    def test_table(self):
        text = self.mprof_ok("ps").stdout
        self.assertRegex(text.splitlines()[0], r"^ +pid +since +heap +block +mutex +cpu +trace +dump, command$")
        dump = self.only_dump(self.dir / "one")
        self.assertRegex(text, rf"(?m)^ +{self.one.pid} +\d{{4}}-\S+ \S+ UTC +4096 B +off +1 +off +off +{dump}\n +{harness.target('obedient')}$")

    def test_directories(self):
        self.assertEqual(set(self.listed(self.dir / "one")), {self.one.pid})
        self.assertEqual(set(self.listed(self.dir)), {self.one.pid, self.two.pid})
        self.assertEqual(set(self.listed(self.dir / "one", self.dir / "two")), {self.one.pid, self.two.pid})
        (self.dir / "three").mkdir()
        self.assertEqual(self.listed(self.dir / "three"), {})
        run = self.mprof("ps", self.dir / "three")
        self.assertEqual((run.returncode, run.stdout), (0, ""))
        self.assertIn("no profiled process", run.stderr)
        run = self.mprof("ps", self.dir / "absent")
        self.assertEqual(run.returncode, 1)
        self.assertIn("absent: no such directory", run.stderr)

    def test_ended_processes_are_not_listed(self):
        self.assert_unharmed(self.one)
        self.two.process.kill()
        self.two.process.wait()
        self.assertEqual(self.listed(self.dir), {})

    def test_a_deleted_dump_is_still_found(self):
        self.only_dump(self.dir / "two").unlink()
        listed = self.listed()
        self.assertIn(self.two.pid, listed)
        self.assertTrue(listed[self.two.pid]["dump"].startswith("/proc/"), listed)

    def test_children_are_listed_for_themselves(self):
        code = "import os, time; p = os.fork(); print(p, flush=True) if p else None; time.sleep(100)"
        parent = self.start_under(sys.executable, "-c", code, text=True, stdout=subprocess.PIPE)
        child = int(parent.stdout.readline())
        self.addCleanup(os.kill, child, 9)
        listed = self.wait_for(lambda: {parent.pid, child} <= set(found := self.listed(self.dir)) and found, "both")
        self.assertNotEqual(listed[parent.pid]["dump"], listed[child]["dump"])

    def test_it_is_fast(self):
        start = time.monotonic()
        self.mprof_ok("ps")
        self.assertLess(time.monotonic() - start, 5)

    # serve

    def test_each_below_its_pid(self):
        self.two.obey("keep 4")
        self.serve(self.dir)
        profile = self.ask_profile(f"/{self.two.pid}/debug/pprof/heap")
        self.assert_site(profile, "kept_block", 5, 5000, 5, 5000)
        self.assertEqual(self.ask_profile(f"/{self.one.pid}/debug/pprof/heap").period, 4096)
        page = self.ask("/").body.decode()
        for program in (self.one, self.two):
            self.assertIn(f"<a href='{program.pid}/debug/pprof/'>{program.pid}</a>", page)
            for path in (f"/{program.pid}", f"/{program.pid}/", f"/{program.pid}/debug/pprof"):
                answer = self.ask(path)
                self.assertEqual((answer.status, answer.headers["Location"]), (301, f"/{program.pid}/debug/pprof/"))
            self.assertEqual(self.ask(f"/{program.pid}/debug/pprof/").status, 200)
            self.assertEqual(self.ask(f"/{program.pid}/debug/pprof/cmdline").status, 200)
        self.assert_unharmed(self.one)
        self.assert_unharmed(self.two)

    def test_go_tool_takes_such_a_path(self):
        self.serve(self.dir)
        env = {"PPROF_TMPDIR": str(self.dir), "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        run = self.run_plain("go", "tool", "pprof", "-top", f"{self.url}/{self.two.pid}/debug/pprof/heap", env=env)
        self.assertEqual(run.returncode, 0, run)
        self.assertIn("kept_block", run.stdout)

    def test_without_arguments_all_of_this_user(self):
        self.serve()
        for program in (self.one, self.two):
            self.assertEqual(self.ask(f"/{program.pid}/debug/pprof/heap").status, 200)

    def test_unknown_processes(self):
        self.serve(self.dir / "one")
        for pid in (self.two.pid, os.getpid(), 1, 0, 2**31 - 1, 2**32 + self.one.pid, "x", "99999999999999999999"):
            with self.subTest(pid):
                self.assert_refused(self.ask(f"/{pid}/debug/pprof/heap"), 404, f"there are: {self.one.pid}\n")
        for path in ("/debug/pprof/heap", "/nothing", f"/{self.one.pid}/nothing"):
            with self.subTest(path):
                self.assertEqual(self.ask(path).status, 404)

    def test_processes_come_and_go(self):
        self.serve(self.dir)
        three = self.start_obedient(dump_dir=self.dir / "three")
        self.assertEqual(self.ask(f"/{three.pid}/debug/pprof/heap").status, 200)
        self.assert_unharmed(three)
        self.assert_refused(self.ask(f"/{three.pid}/debug/pprof/heap"), 404, "no profiled process")
        self.assert_unharmed(self.one)
        self.assert_unharmed(self.two)
        self.assert_refused(self.ask(f"/{three.pid}/debug/pprof/heap"), 404, "there are: none")
        self.assertIn("No profiled processes", self.ask("/").body.decode())

    def test_a_broken_dump_is_an_answer_too(self):
        """What is mapped shared need not be a dump that can be read."""
        dump = self.only_dump(self.dir / "two")
        self.serve(self.dir)
        self.two.process.send_signal(19)
        with open(dump, "r+b") as file:
            file.seek(8)
            file.write(b"\xff" * 8)
        self.assert_refused(self.ask(f"/{self.two.pid}/debug/pprof/heap"), 404, f"there are: {self.one.pid}\n")
        self.assertEqual(self.ask(f"/{self.one.pid}/debug/pprof/heap").status, 200)


if __name__ == "__main__":
    harness.main()
