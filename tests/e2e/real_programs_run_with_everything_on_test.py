# SPDX-License-Identifier: Apache-2.0
"""redis-server, python3 and g++ with every profile on at high rates, looked at and steered meanwhile."""

import re
import threading

import compiler_compiles_a_large_file_test as compiler
import harness
import python_runs_with_its_objects_in_malloc_test as python
import redis_serves_a_benchmark_test as redis
from pprof import Profile
from real_program import RealProgram

EVERYTHING = {
    "MPROF_HEAP_RATE": "16384",
    "MPROF_BLOCK_RATE": "1",
    "MPROF_MUTEX_FRACTION": "1",
    "MPROF_CPU_HZ": "1000",
    "MPROF_MMAP": "1",
    "MPROF_DRAIN": "1",
}
VIEWS = ("heap", "allocs", "peak", "block", "mutex", "threadcreate", "cpu")


class Everything(RealProgram):
    def start_everything(self, *args, **options):
        return self.start_under(*args, rate=None, env=EVERYTHING, **options)

    def bother(self, process, done):
        """Asks for stacks, rates, snapshots and profiles until the program has ended."""
        round_number = 0
        while not done.wait(0.05):
            round_number += 1
            commands = (
                ("threads", process.pid),
                ("ctl", process.pid, "--heap-rate", ("64k", "16k")[round_number % 2], "--cpu", "500"),
                ("ctl", process.pid, "--snapshot", f"s{round_number}", "--reset"),
                ("pprof", "-p", "heap,cpu", "-o", self.dir / "live", process.pid),
            )
            run = self.mprof(*commands[round_number % len(commands)])
            if process.poll() is None and run.returncode == 0:
                self.answered += 1

    def bothered(self, process):
        done = threading.Event()
        helper = threading.Thread(target=self.bother, args=(process, done))
        helper.start()
        self.addCleanup(helper.join)
        self.addCleanup(done.set)

    def setUp(self):
        super().setUp()
        self.answered = 0
        (self.dir / "live").mkdir()

    def check_everything(self, dump, function):
        for kind in VIEWS:
            file = self.profile_file(dump, kind)
            self.assertIn("flat%", self.go_pprof("-top", file), kind)
        profile = Profile(self.profile_file(dump, "cpu"))
        self.assert_no_own_frames(profile)
        self.assertIn(function, profile.names())
        self.assertGreater(self.answered, 0)

    def dump_of(self, pattern):
        """Of a process, not one of its snapshots."""
        return next(d for d in self.dumps() if re.fullmatch(pattern + r"\.\d+\.mprof", d.name))

    def run_bothered(self, *command, env=None):
        with (self.dir / "out").open("w+") as out, (self.dir / "err").open("w+") as err:
            process = self.start_under(
                *command, rate=None, env={**EVERYTHING, **(env or {})}, stdout=out, stderr=err
            )
            self.bothered(process)
            code = process.wait(timeout=harness.TIMEOUT_S)
            out.seek(0)
            err.seek(0)
            return code, out.read(), err.read()

    def test_redis(self):
        server = redis.Redis()
        server.dir = self.dir

        def start(*args):
            process = self.start_everything(*args)
            self.bothered(process)
            return process

        plain = server.serve(server.start_plain)
        self.assertEqual(server.serve(start), plain)
        server.doCleanups()
        self.check_everything(self.dump_of("redis-.*"), "aeMain")

    def test_python(self):
        (self.dir / "work.py").write_text(python.SCRIPT.replace("Node(8)", "Node(10)"))
        env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        command = ["/usr/bin/python3", "work.py"]
        plain = self.run_plain(*command, env=env)
        under = self.run_bothered(*command, env=env)
        self.assertEqual(under, (plain.returncode, plain.stdout, plain.stderr))
        self.check_everything(self.dump_of(r"python3[\d.]*"), "_PyEval_EvalFrameDefault")

    def test_compiler(self):
        (self.dir / "large.cc").write_text(compiler.SOURCE)
        command = ["g++", "-std=c++17", "-O1", "-Wall", "-c", "large.cc", "-o", "large.o"]
        plain = self.run_plain(*command)
        plain_object = (self.dir / "large.o").read_bytes()
        under = self.run_bothered(*command)
        self.assertEqual(under, (plain.returncode, plain.stdout, plain.stderr))
        self.assertEqual((self.dir / "large.o").read_bytes(), plain_object)
        self.check_everything(self.dump_of("cc1plus"), "main")


if __name__ == "__main__":
    harness.main()
