# SPDX-License-Identifier: Apache-2.0
"""python3 with threads that contend for the interpreter's lock, and for what `threading` and `queue` have."""

import re

import harness
from contended_program import ContendedProgram, Waits

SCRIPT = """
import queue, sys, threading
# As many switches as this interpreter can do.
sys.setswitchinterval(0.0005)
results = []

def spin(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total

def together(count, work):
    threads = [threading.Thread(target=work, args=(i,), name=f"{work.__name__}-{i}") for i in range(count)]
    for t in threads: t.start()
    for t in threads: t.join()

# GIL
sums = [0] * 4
def count_up(i):
    sums[i] = spin(200_000)
together(4, count_up)
print("gil", sums)

lock = threading.Lock()
counter = 0
def hold(i):
    global counter
    for _ in range(200):
        with lock:
            counter += 1
            spin(200)
together(4, hold)
print("lock", counter)

condition = threading.Condition()
turn = 0
def take_turn(i):
    global turn
    for _ in range(50):
        with condition:
            condition.wait_for(lambda: turn % 4 == i)
            turn += 1
            condition.notify_all()
together(4, take_turn)
print("condition", turn)

q, done = queue.Queue(8), queue.Queue()
def consume(i):
    while (item := q.get()) is not None:
        done.put(item * item)
def produce():
    for n in range(1000): q.put(n)
    for _ in range(3): q.put(None)
consumers = [threading.Thread(target=consume, args=(i,)) for i in range(3)]
for t in consumers: t.start()
produce()
for t in consumers: t.join()
print("queue", sum(done.get() for _ in range(1000)), done.empty())

barrier = threading.Barrier(3)
rounds = []
def meet(i):
    for _ in range(20):
        if barrier.wait() == 0:
            rounds.append(i >= 0)
together(3, meet)
print("barrier", len(rounds))
print("timed out", lock.acquire(), lock.acquire(timeout=0.05))
sys.exit(3)
"""

BLOCK = [
    # One of them times out, after 50 ms.
    Waits("PyThread_acquire_lock_timed", "semaphore", 50),
    # The interpreter's lock is a mutex and a condition.
    Waits("_PyEval_EvalFrameDefault", "cond", 1),
    Waits("PyEval_RestoreThread", "cond"),
]
MUTEX = [Waits("_PyEval_EvalFrameDefault", "cond relock")]


class PythonThreads(ContendedProgram):
    def test_python(self):
        (self.dir / "work.py").write_text(SCRIPT)
        # Not the one that runs this test, which may be any.
        command = ["/usr/bin/python3", "work.py"]
        self.contend(command, BLOCK, MUTEX, self.check_profiles, {"PYTHONDONTWRITEBYTECODE": "1"})

    def check_profiles(self, profiles):
        self.check_lock(profiles["block"])
        threads = profiles["threadcreate"]
        self.check_threads(threads, {re.compile(r"^python3"): 18})
        self.assertIn("PyThread_start_new_thread", threads.names())

    def check_lock(self, block):
        """The interpreter's lock lies in a global of its own."""
        locks = {s.labels["lock"] for s in block.samples if s.labels["wait"] == "cond"}
        self.assertTrue(all(lock.startswith("_PyRuntime+0x") for lock in locks), locks)


if __name__ == "__main__":
    harness.main()
