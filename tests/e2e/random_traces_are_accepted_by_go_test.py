# SPDX-License-Identifier: Apache-2.0
"""Whatever records there are, Go's parser takes what is made of them, and its viewer lives.

A unit test makes the traces, of random records with losses, sessions and rows out of nowhere: half
obey the rules of those who write records. Its own checks are not asked here.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import go_trace
import harness

MAKER = harness.BUILD / "tests" / "go_trace_unit_test"
TEST = "go trace: random records make traces that are whole"


class RandomTraces(harness.Case):
    def setUp(self):
        super().setUp()
        environment = harness.clean_environment({"MPROF_TRACES": str(self.dir)})
        run = subprocess.run([str(MAKER), TEST], env=environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout)
        self.traces = sorted(self.dir.glob("*.go.trace"))
        self.assertEqual(len(self.traces), 60)

    def test_parser_and_profiles(self):
        def check(trace):
            for kind in go_trace.PROFILES:
                go_trace.profile(trace, kind)
            return go_trace.count(trace)

        with ThreadPoolExecutor(2) as pool:
            counts = list(pool.map(check, self.traces))
        # All that there is was in some of them.
        seen = {kind for count in counts for kind in count}
        for kind in (
            "Gomaxprocs ProcStart ProcStop GCStart GCDone GCSweepStart GCSweepDone GoCreate GoStart GoEnd GoSched"
            " GoPreempt GoSleep GoBlock GoUnblock GoBlockSync GoBlockCond GoBlockNet GoSysCall GoSysExit GoSysBlock"
            " GoWaiting HeapAlloc HeapGoal GCMarkAssistStart GCMarkAssistDone UserTaskCreate UserTaskEnd UserRegion"
            " UserLog CPUSample GoStartLabel"
        ).split():
            self.assertIn(kind, seen)

    def test_pages(self):
        with ThreadPoolExecutor(2) as pool:
            for pages in pool.map(go_trace.check_pages, self.traces[::10]):
                self.assertGreater(pages, 40)

    def test_a_broken_trace_is_not_accepted(self):
        """The judge does see what is wrong."""
        whole = self.traces[0].read_bytes()
        broken = self.dir / "broken"
        broken.write_bytes(whole[:-1])
        with self.assertRaises(go_trace.Refused):
            go_trace.events(broken)

    def test_a_trace_that_kills_the_viewer_is_not_accepted(self):
        """A thread that still runs at the end: the parser takes that."""
        deadly = self.dir / "deadly"
        deadly.write_bytes(
            b"go 1.19 trace\0\0\0"
            + bytes.fromhex("4100e807 cd0400010100 8e050101 4100b009 028094ebdc03 2501046d61696e 250204612e6363")
            + bytes.fromhex("c30701018120010207")
        )
        self.assertEqual(go_trace.count(deadly)["GoStart"], 1)
        with self.assertRaises(go_trace.Refused):
            go_trace.check_pages(deadly)


if __name__ == "__main__":
    harness.main()
