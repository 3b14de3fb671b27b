# SPDX-License-Identifier: Apache-2.0
"""Programs that run with a trace, and that trace in Go's form."""

import go_trace
import harness
from go_events import GoEvents

TRACE = {"MPROF_TRACE": "1"}


class Traced(harness.Case):
    def run_traced(self, *args, options=(), **more):
        """`mprof run --trace`; its folder has the dump and the trace."""
        return self.mprof("run", "--trace", *options, "--", *args, **more)

    def convert(self, dump, *options, form="go"):
        """The trace of a dump, or of a process by its pid, as a file for a viewer."""
        out = self.dir / f"{form}.trace"
        self.mprof_ok("trace", dump, "--format", form, "-o", out, *options)
        return out

    def accepted_events(self, trace):
        """Those of a file that Go's parser takes."""
        go_trace.run(trace, "-d")
        return GoEvents(trace)

    def info_of_trace(self, dump):
        return self.info(dump)["trace"]


main = harness.main
