#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Other tracers beside mprof's: their programs, and how one runs under them.

As a program: trace_peers.py SCRATCH COMMAND...  runs a command within a session of LTTng.
"""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

UNDER_LTTNG = (sys.executable, "-B", os.path.join(HERE, "trace_peers.py"), "{scratch}")
UNDER_UFTRACE = ("uftrace", "record", "--no-libcall", "-d", "{scratch}/uftrace")
UNDER_PERF = ("perf", "trace", "-o", "{scratch}/perf.txt", "--")


def missing(command):
    return "" if shutil.which(command) else f"{command} not found"


def built(suite, name, source, *arguments):
    """Here and not by the build system: the tracer's headers may be missing."""
    program = os.path.join(suite.data, name)
    if not os.path.exists(program):
        subprocess.run(["g++", "-std=c++20", "-O2", "-g", "-I", os.path.join(HERE, "..", ".."),
                        *arguments[:-1], os.path.join(HERE, source), "-o", program,
                        *arguments[-1]], check=True, capture_output=True)
    return program


def lttng_command(suite, _set_name, operations):
    program = built(suite, "lttng_micro", "lttng_micro.cc", ["-llttng-ust", "-ldl"])
    return [program, "--ops", str(operations)]


def uftrace_command(suite, _set_name, operations):
    program = built(suite, "trace_micro_pg", "trace_micro.cc", "-pg", [])
    return [program, "--test", "function", "--ops", str(operations)]


def run_quietly(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def begin_session(scratch):
    daemon = os.path.join(scratch, "sessiond.pid")
    run_quietly("lttng-sessiond", "--daemonize", "--no-kernel", "--pidfile", daemon)
    run_quietly("lttng", "create", "bench", "--output", os.path.join(scratch, "lttng"))
    # As much as a ring of mprof's, twice: what does not fit is dropped, as there.
    run_quietly("lttng", "enable-channel", "--userspace", "--subbuf-size=256K", "--num-subbuf=4",
                "channel")
    run_quietly("lttng", "enable-event", "--userspace", "--channel=channel", "mprof_bench:event")
    run_quietly("lttng", "start")
    return daemon


def run_under_lttng(scratch, command):
    os.environ["LTTNG_HOME"] = scratch
    os.environ["LTTNG_UST_REGISTER_TIMEOUT"] = "-1"  # the first event is not missed
    daemon = begin_session(scratch)
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        run_quietly("lttng", "destroy", "bench")
        with open(daemon, encoding="ascii") as file:
            os.kill(int(file.read()), 15)


if __name__ == "__main__":
    sys.exit(run_under_lttng(sys.argv[1], sys.argv[2:]))
