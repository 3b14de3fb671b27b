# SPDX-License-Identifier: Apache-2.0
"""Programs of the distribution with a trace: same behaviour, and Go's tool shows what they do."""

from pathlib import Path

import compiler_compiles_a_large_file_test as compiler
import go_trace
import harness
import python_threads_contend_test as python
import redis_program
import traced


class Real(traced.Traced):
    def check_trace(self, dump, kinds, functions):
        """Accepted with all its pages; event kinds, each with functions of the program in a stack."""
        trace = self.convert(dump)
        go_trace.check_pages(trace, most_of_a_kind=2)
        for kind in go_trace.PROFILES:
            go_trace.profile(trace, kind)
        events = self.accepted_events(trace)
        for kind, function in kinds:
            self.assertGreater(len(events.below(kind, function)), 0, (kind, function))
        named = {frame.function for event in events.events for frame in event.frames}
        self.assertEqual([f for f in functions if f not in named], [], sorted(named)[:200])
        for event in events.events:
            for frame in event.frames:
                self.assertNotIn("mprof::preload", frame.function, event)
        return events

    def run_drained(self, *args, env=None, **options):
        """The library starts the drainer."""
        return self.run_under(*args, rate=None, env={**traced.TRACE, **(env or {})}, **options)


class Redis(redis_program.Redis, Real):
    def test_redis(self):
        plain = self.serve_with_io_threads({})
        self.assertEqual(self.serve_with_io_threads(self.library_env(None, traced.TRACE)), plain)
        events = self.check_trace(
            self.only_dump(),
            [
                ("GoBlockNet", "aeMain"),
                ("GoSysCall", "readQueryFromClient"),
                ("GoSysCall", "_writeToClient"),
                ("GoBlockSync", "IOThreadMain"),
                ("GoBlockCond", "bioProcessBackgroundJobs"),
                ("GoCreate", "bioInit"),
            ],
            ["main", "beforeSleep", "handleClientsWithPendingWritesUsingThreads"],
        )
        # Its thread is woken by the one that gives it a job.
        jobs = [w for w in events.waits() if any(f.function == "bioProcessBackgroundJobs" for f in w.frames)]
        givers = {f.function for wait in jobs for f in wait.waker_frames}
        self.assertIn("bioCreateLazyFreeJob", givers)


class Python(Real):
    def test_python(self):
        (self.dir / "work.py").write_text(python.SCRIPT)
        command, env = ["/usr/bin/python3", "work.py"], {"PYTHONDONTWRITEBYTECODE": "1"}
        plain = self.run_plain(*command, env=env)
        self.assert_same_behaviour(plain, self.run_drained(*command, env=env))
        events = self.check_trace(
            self.only_dump(),
            [("GoBlockCond", "PyThread_acquire_lock_timed"), ("GoCreate", "PyThread_start_new_thread")],
            ["_PyEval_EvalFrameDefault", "Py_BytesMain", "PyEval_SaveThread"],
        )
        # Its locks are semaphores; one acquire() of the script times out.
        waits = [w for w in events.waits() if any(f.function == "PyThread_acquire_lock_timed" for f in w.frames)]
        self.assertGreater(len(waits), 100)
        self.assertGreater(sum(w.waker not in (0, w.g) for w in waits), 0.95 * len(waits))
        # The interpreter's own lock is a mutex and a condition; who gives it up wakes another one.
        waits = [w for w in events.waits() if any(f.function == "PyEval_RestoreThread" for f in w.frames)]
        givers = {f.function for wait in waits for f in wait.waker_frames}
        self.assertIn("PyEval_SaveThread", givers)
        self.assertGreaterEqual(len(events.named("GoEnd")), 18)


class Compiler(Real):
    def test_compiler(self):
        (self.dir / "large.cc").write_text(compiler.SOURCE)
        command = ["g++", "-std=c++17", "-O1", "-Wall", "-c", "large.cc", "-o", "large.o"]
        plain = self.run_plain(*command)
        plain_object = (self.dir / "large.o").read_bytes()
        self.assert_same_behaviour(plain, self.run_drained(*command))
        self.assertEqual((self.dir / "large.o").read_bytes(), plain_object)
        dumps = {dump.name.split(".")[0]: dump for dump in self.dumps()}
        driver = next(dump for name, dump in dumps.items() if "g++" in name)
        # What it does is to wait for those that it started.
        self.check_trace(driver, [("GoSysCall", "wait"), ("GoSysCall", "unlink")], [])
        events = self.check_trace(dumps["cc1plus"], [("GoSysCall", "read")], ["main"])
        self.assertGreater(max(e.values[0] for e in events.named("HeapAlloc")), 5e6)
        self.assertGreater(len(events.named("MarkAssistStart")), 10)




if __name__ == "__main__":
    traced.main()
