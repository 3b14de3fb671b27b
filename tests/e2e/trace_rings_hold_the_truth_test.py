# SPDX-License-Identifier: Apache-2.0
"""What the library writes into the trace rings, read from the dump alone: no drainer runs."""

import fcntl
import itertools
import struct
import subprocess
from collections import Counter

import harness
import trace_rings
from trace_rings import WAITS

ENV = {"MPROF_TRACE": "1", "MPROF_DRAIN": "0", "MPROF_CPU_HZ": "100"}
GOT_IT, AT_ONCE, GAVE_UP = range(3)

# Who waits, for what; and which function ends that, as what.
WAKE_UPS = [
    ("want_mutex", "Mutex", "free_mutex", "Mutex"),
    ("want_to_read", "RwlockRead", "free_rwlock", "RwlockWrite"),
    ("want_spinlock", "Spin", "free_spinlock", "Spin"),
    ("want_signal", "Cond", "send_signal", "Cond"),
    ("want_post", "Semaphore", "post", "Semaphore"),
    ("want_wake", "Futex", "wake", "Futex"),
]


class Trace(harness.Case):
    def record(self, env=ENV):
        program = harness.target("trace_waits")
        run = self.run_under(program, rate=4096, env=env)
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "done\n", ""), run)
        path = self.only_dump()
        dump = trace_rings.Dump(path)
        for ring in trace_rings.rings_of(dump):
            self.assertEqual((ring.dropped, ring.released), (0, 0))
        self.assertEqual(self.info(path)["lost"], {})
        self.functions = trace_rings.Functions(dump, program)
        self.records = trace_rings.records_of(path)
        return path

    def at(self, function, kind):
        """The records of a kind that were made in a function."""
        return [r for r in self.records if r.kind == kind and function in self.functions.on(r.stack)[:1]]

    def only(self, function, kind):
        found = self.at(function, kind)
        self.assertEqual(len(found), 1, f"{kind} in {function}: {found}")
        return found[0]

    def after(self, record, kind):
        """The next one of that kind by the same thread."""
        of_thread = [r for r in self.records if r.thread == record.thread]
        return next(r for r in of_thread[of_thread.index(record) + 1 :] if r.kind == kind)

    def test_the_truth(self):
        self.record()
        for check in (
            self.check_threads,
            self.check_wake_ups,
            self.check_condition,
            self.check_barrier,
            self.check_ends_of_waits,
            self.check_calls_of_the_kernel,
            self.check_heap,
            self.check_cpu,
        ):
            with self.subTest(check.__name__):
                check()

    def check_threads(self):
        start, first = self.records[:2]
        self.assertEqual((start.kind, start.arguments), ("Start", [1]))
        self.assertEqual((first.kind, first.arguments), ("Thread", [start.thread, 0, 0, 0]))
        create = self.only("make_waiter", "Create")
        self.assertEqual(create.thread, start.thread)
        (waiter,) = create.arguments
        of_waiter = [r for r in self.records if r.thread == waiter]
        self.assertEqual((of_waiter[0].kind, of_waiter[-1].kind), ("Begin", "Exit"))
        self.assertLessEqual(create.ticks, of_waiter[0].ticks)
        join = self.only("join_waiter", "Wait")
        self.assertEqual(join.arguments, [WAITS.index("Join"), of_waiter[-1].arguments[0]])
        end = self.after(join, "WaitEnd")
        self.assertEqual(end.arguments, [GOT_IT])
        self.assertLess(of_waiter[-1].ticks, end.ticks)

    def check_wake_ups(self):
        for waits, kind, releases, held in WAKE_UPS:
            with self.subTest(waits):
                release = self.at(releases, "Release")[0]
                wait = self.at(waits, "Wait")[0]
                end = self.after(wait, "WaitEnd")
                self.assertEqual(wait.arguments[0], WAITS.index(kind))
                self.assertEqual(release.arguments, [WAITS.index(held), wait.arguments[1]])
                self.assertNotEqual(release.thread, wait.thread)
                self.assertEqual(end.arguments, [GOT_IT])
                self.assertTrue(wait.ticks < release.ticks <= end.ticks, (wait, release, end))

    def check_condition(self):
        """After the signal it waits for the mutex, until that is free."""
        wait = self.only("want_signal", "Wait")
        relock, end = self.after(wait, "Relock"), self.after(wait, "WaitEnd")
        signal = self.only("send_signal", "Release")
        release = self.only("free_condition_mutex", "Release")
        self.assertEqual(relock.ticks, end.ticks)
        self.assertEqual(relock.ticks - relock.arguments[1], signal.ticks)
        self.assertEqual(release.arguments, [WAITS.index("Mutex"), relock.arguments[0]])
        self.assertTrue(signal.ticks < release.ticks <= end.ticks)

    def check_barrier(self):
        first, last = self.only("want_others", "Wait"), self.only("come_last", "Wait")
        self.assertEqual(first.arguments, last.arguments)
        self.assertEqual(self.after(first, "WaitEnd").arguments, [GOT_IT])
        self.assertEqual(self.after(last, "WaitEnd").arguments, [AT_ONCE])

    def check_ends_of_waits(self):
        for function, end in (("want_post_in_vain", GAVE_UP), ("want_post_wrongly", AT_ONCE)):
            wait = self.only(function, "Wait")
            self.assertEqual(self.after(wait, "WaitEnd").arguments, [end], function)

    def check_calls_of_the_kernel(self):
        for function, kind in (("want_byte", "Poll"), ("nap", "Sleep")):
            wait = self.only(function, "Wait")
            self.assertEqual(wait.arguments, [WAITS.index(kind), 0])
            self.assertEqual(self.after(wait, "WaitEnd").arguments, [GOT_IT])
        yields = self.at("give_way", "Yield")
        self.assertEqual(sum(r.arguments[0] for r in yields), 1001)

    def check_heap(self):
        levels = [r.arguments for r in self.records if r.kind == "Heap"]
        grown = [r for r in self.records if r.kind == "Grow" and "grow_heap" in self.functions.on(r.stack)]
        self.assertGreaterEqual(sum(r.arguments[0] for r in grown), 100000)
        self.assertTrue(any(live >= 1 << 20 for live, _ in levels), levels)
        self.assertTrue(all(live <= mapped for live, mapped in levels), levels)
        self.assertLess(levels[-1][0], 1 << 20)

    def check_cpu(self):
        """100 ms of work, and the labels that it had."""
        samples = [r for r in self.records if r.kind == "Cpu" and "burn" in self.functions.on(r.stack)]
        self.assertGreaterEqual(len(samples), 3)
        labels = [r for r in self.records if r.kind == "Labels"]
        self.assertEqual([r.arguments[0] != 0 for r in labels], [True, False])
        for sample in samples:
            self.assertTrue(labels[0].ticks < sample.ticks <= labels[1].ticks)

    def test_waits_are_there_when_their_profiles_are_off(self):
        self.record({**ENV, "MPROF_MUTEX_FRACTION": "0", "MPROF_BLOCK_RATE": "0"})
        self.check_wake_ups()
        self.check_condition()

    def test_a_forked_child_has_a_trace_of_its_own(self):
        self.run_under(harness.target("children"), "fork", rate=None, env=ENV)
        dumps = self.dumps()
        self.assertEqual(len(dumps), 2)
        for dump in dumps:
            records = trace_rings.records_of(dump)
            self.assertEqual((records[0].kind, records[0].arguments), ("Start", [1]), dump)
            self.assertEqual([r.kind for r in records].count("Start"), 1, dump)
            self.assertEqual({r.thread for r in records}, {records[0].thread}, dump)


    def waits_shown(self, dump):
        """{thread row: (wait kind + 1, object, start)} of the threads that wait, from their rows."""
        dump = trace_rings.Dump(dump)
        rows = {n: struct.unpack_from("<IIQQ", dump.row("Threads", n), 128) for n in range(dump.used("Threads"))}
        return {n: (kind, object_, start) for n, (kind, _, object_, start) in rows.items() if kind != 0}

    def kinds_shown(self, dump):
        return Counter(WAITS[kind - 1] for kind, _, _ in self.waits_shown(dump).values())

    def test_a_trace_begins_with_who_is_there_and_waits_for_what(self):
        """Ten times in one run; the journal is locked, so no drainer takes anything."""
        target = self.start_under(
            harness.target("thread_states"), "kinds", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.assertEqual(target.stdout.readline(), "ready\n")
        (dump,) = self.dumps()
        kinds = Counter(Mutex=2, RwlockRead=1, Cond=1, Semaphore=1, Poll=3, Sleep=1)
        self.wait_for(lambda: kinds <= self.kinds_shown(dump), "every thread waits")
        with open(f"{dump}.journal", "a") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            before = self.waits_shown(dump)
            for _ in range(10):
                self.mprof_ok("ctl", target.pid, "trace", "start")
                self.mprof_ok("ctl", target.pid, "trace", "stop")
            after = self.waits_shown(dump)
            target.stdin.close()
            self.assertEqual(target.wait(), 0)
        records = trace_rings.records_of(dump)
        starts = [i for i, r in enumerate(records) if r.kind == "Start"]
        self.assertEqual([records[i].arguments for i in starts], [[session] for session in range(1, 11)])
        stops = [r.arguments for r in records if r.kind == "Stop"]
        self.assertEqual(stops, [[session] for session in range(1, 11)])
        lasting = {thread: wait for thread, wait in before.items() if after.get(thread) == wait}
        self.assertGreaterEqual(len(lasting), 8)
        for start in starts:
            self.check_declared(records[start:], lasting)

    def check_declared(self, records, waits):
        session = itertools.takewhile(lambda r: r.kind != "Stop", records)
        declared = {r.arguments[0]: r for r in session if r.kind == "Thread"}
        for thread, (kind, object_, start) in waits.items():
            record = declared[thread]
            self.assertEqual(record.arguments, [thread, kind, record.ticks - start, object_])
        self.assertGreater(len(declared), len(waits))

    def test_no_trace_no_ring(self):
        self.run_under(harness.target("trace_waits"), env={"MPROF_TRACE": "0"})
        dump = trace_rings.Dump(self.only_dump())
        self.assertEqual([dump.used(table) for table in ("TraceRings", "TraceData")], [0, 0])


if __name__ == "__main__":
    harness.main()
