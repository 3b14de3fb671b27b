# SPDX-License-Identifier: Apache-2.0
"""Programs that leave their threads to libgomp and to oneTBB."""

import re

import harness
from contended_program import ContendedProgram, Waits
from lock_truth import on_stack

TBB = "tbb::detail::r1"


class OpenMp(ContendedProgram):
    def test_openmp(self):
        waits = [Waits("hold_mutex", "mutex", 15)]
        held = [Waits("hold_mutex", "mutex", 5)]
        passive = {"OMP_WAIT_POLICY": "passive"}
        self.contend([harness.target("openmp")], waits, held, self.check_what_can_be_seen, passive)

    def check_what_can_be_seen(self, profiles):
        """libgomp makes its futex calls by itself: of its barriers and locks nothing is seen, of its threads all."""
        for kind in ("block", "mutex"):
            for sample in profiles[kind].samples:
                self.assertEqual(sample.labels["lock"], "g_mutex", sample)
                self.assertTrue(on_stack(sample, "hold_mutex"), sample)
                self.assertTrue(any("libgomp" in f.mapping for f in sample.frames), sample)
        threads = profiles["threadcreate"]
        self.check_threads(threads, {re.compile(r"^libgomp\.so\.1\+0x|^gomp_thread_start"): 3})
        self.assertTrue(any(name.startswith("GOMP_parallel") for name in threads.names()), threads.names())


class Tbb(ContendedProgram):
    def test_tbb(self):
        waits = [
            Waits("sum_up", "futex", 10),
            Waits(f"{TBB}::wait_bounded_queue_monitor", "futex", 10),
        ]
        self.contend([harness.target("tbb_tasks")], waits, [], self.check_profiles)

    def check_profiles(self, profiles):
        # tbb::mutex is made of futexes, which do not say who holds them.
        self.assertEqual(profiles["mutex"].samples, [])
        self.check_workers(profiles["threadcreate"])

    def check_workers(self, threads):
        workers = threads.total()["threadcreate"] - 2
        self.assertIn(workers, (1, 2, 3))
        self.check_threads(
            threads,
            {re.compile(r"^libtbb\.so\.12\+0x"): workers, re.compile(r"pass_through_queue\(\)::\{lambda"): 1},
        )


if __name__ == "__main__":
    harness.main()
