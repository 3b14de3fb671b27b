# SPDX-License-Identifier: Apache-2.0
"""Python threads that wait for each other: queues, a lock, a barrier, and the interpreter's own."""

import queue
import sys
import threading

THREADS = 4


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.count = {}

    def add(self, key):
        with self.lock:
            self.count[key] = self.count.get(key, 0) + 1


def work(tasks, results, tally, barrier):
    while (task := tasks.get()) is not None:
        text = "-".join(str(task * factor) for factor in range(20))
        tally.add(len(text) % 7)
        results.put(hash(text) & 1)
    barrier.wait()


def main(count):
    tasks, results = queue.Queue(maxsize=64), queue.SimpleQueue()
    tally, barrier = Tally(), threading.Barrier(THREADS)
    threads = [threading.Thread(target=work, args=(tasks, results, tally, barrier))
               for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for task in range(count):
        tasks.put(task)
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        thread.join()
    if sum(tally.count.values()) != count or results.qsize() != count:
        sys.exit("lost a task")


main(int(sys.argv[1]))
