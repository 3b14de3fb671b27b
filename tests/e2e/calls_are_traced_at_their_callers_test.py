# SPDX-License-Identifier: Apache-2.0
"""Each call that may block is in the trace, by its name, with the stack of its caller; so is what malloc_trim gave back."""

import bisect
import os
import re
from pathlib import Path

import harness
import traced_program

SOURCE = Path(os.environ["MPROF_SOURCE"])
CALLS = re.findall(r'X\((k\w+), "([^"]+)", (?:true|false)\)', (SOURCE / "format/call_names.h").read_text())
NAME_OF = dict(CALLS)
HOOKS = {
    function: NAME_OF[enumerator]
    for enumerator, function in re.findall(
        r"<CallName::(\w+), &RealCalls::(\w+)>", (SOURCE / "preload/hooks_calls.cc").read_text()
    )
}
TRIMMED = 32 << 20


def function_at(sites, address):
    starts = sorted(sites)
    return starts[bisect.bisect([start for start, _ in starts], address) - 1][1]


class Calls(traced_program.Case):
    def test_each_call_at_its_site(self):
        printed, trace = self.trace_of(harness.target("call_sites"))
        sites = [(int(at, 16), function) for at, function in re.findall(r"(0x\w+) (\w+)", printed)]
        self.assertEqual({function for _, function in sites}, set(HOOKS))
        calls = trace.of("Call", "CallEnd")
        found = [(r.kind, CALLS[r.arguments[0]][1], function_at(sites, trace.caller(r))) for r in calls[::2]]
        self.assertEqual(found, [("Call", HOOKS[function], function) for _, function in sites])
        self.assertEqual([(r.kind, r.stack) for r in calls[1::2]], [("CallEnd", None)] * len(sites))
        self.assertEqual(len({r.thread for r in calls}), 1)

    def test_what_malloc_trim_gave_back(self):
        printed, trace = self.trace_of(harness.target("trims"))
        self.assertEqual(printed, "011\n")
        trims = trace.of("Trim")
        nothing, within, end = [r.arguments[0] for r in trims]
        self.assertEqual(nothing, 0)
        for given_back in (within, end):
            self.assertGreater(given_back, TRIMMED * 0.95)
            self.assertLess(given_back, TRIMMED * 1.05)
        for trim in trims:
            self.assertIsNotNone(trim.stack)
            self.assertGreater(trim.arguments[1], 0)


if __name__ == "__main__":
    harness.main()
