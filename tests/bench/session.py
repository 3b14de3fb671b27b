# SPDX-License-Identifier: Apache-2.0
"""Runs a workload under a variant, and the interleaved rounds of a whole session."""

import dataclasses
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import suite as suite_module

TIMEOUT_S = 240
GIVE_UP_AFTER = 2  # failures in a row: a variant that cannot run should not cost its time-outs

# Settings of the caller's shell must not reach the baseline.
FOREIGN = ("LD_PRELOAD", "MPROF_", "MALLOC_", "HEAPPROFILE", "TCMALLOC_", "DEBUGINFOD_URLS",
           "WORKLOAD_CPU", "GLIBC_TUNABLES", "PYTHON", "OMP_", "GOMP_")


@dataclasses.dataclass
class Run:
    workload: str
    set_name: str
    variant: str
    round_number: int
    value: float = 0.0  # in the workload's unit
    cpu_s: float = 0.0
    peak_kib: int = 0
    failure: str = ""  # why there is no value


class Failed(Exception):
    pass


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def tail(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except OSError:
        return ""
    return lines[-1][:160] if lines else ""


def why_failed(result, stderr_path):
    if result["timed_out"]:
        return f"stopped after {TIMEOUT_S} s"
    if result["signal"]:
        return f"killed by {signal.Signals(result['signal']).name}; {tail(stderr_path)}"
    if result["exit_code"]:
        return f"exit code {result['exit_code']}; {tail(stderr_path)}"
    return ""


class Launch:
    """One command under measure, its output in the scratch folder."""

    def __init__(self, suite, scratch, settings, command, keep_output):
        self.stdout = os.path.join(scratch, "stdout")
        self.stderr = os.path.join(scratch, "stderr")
        self.result_path = os.path.join(scratch, "result")
        measure = os.path.join(suite.programs, "measure")
        # git prints megabytes, and nobody reads them.
        with open(self.stdout if keep_output else os.devnull, "wb") as out, \
                open(self.stderr, "wb") as err:
            self.process = subprocess.Popen(
                [measure, self.result_path, str(TIMEOUT_S), *settings, "--", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                # What is built for uftrace (-pg) writes a file of its own at its end.
                env={**clean_environment(), "GMON_OUT_PREFIX": os.path.join(scratch, "gmon")})

    def wait(self):
        try:
            self.process.wait()
        except BaseException:
            self.process.terminate()
            self.process.wait()
            raise
        try:
            with open(self.result_path, encoding="ascii") as file:
                result = json.load(file)
        except (OSError, ValueError) as error:
            raise Failed(f"measure wrote no result; {tail(self.stderr)}") from error
        if reason := why_failed(result, self.stderr):
            raise Failed(reason)
        return result


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_listening(port, launch):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and launch.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    launch.process.terminate()
    launch.wait()
    raise Failed(f"redis-server does not listen; {tail(launch.stdout)}")


def load_redis(port, requests, cores):
    """Seconds that redis-benchmark takes; it is not profiled."""
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-n", str(requests),
               "-t", suite_module.REDIS_TESTS, "-c", "20", "-P", "16", "-r", "100000",
               "-d", "100", "-q"]
    start_s = time.monotonic()
    load = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          env=clean_environment(), timeout=TIMEOUT_S, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, cores))
    seconds = time.monotonic() - start_s
    if load.returncode:
        raise Failed(f"redis-benchmark: exit code {load.returncode}; {load.stderr.strip()[-160:]}")
    return seconds


def redis_cores(suite, threaded):
    """Options of the server, cores of the load. Each has its own where there are two; but threads
    of the server need one each, for they wait by spinning."""
    if threaded:
        return [], suite.cores
    return ["--server_cpulist", str(suite.cores[-1])], suite.cores[:1]


def run_redis(suite, scratch, settings, prefix, requests, more):
    port = free_port()
    pinned, load_cores = redis_cores(suite, "--io-threads" in more)
    server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
              "--appendonly", "no", "--dir", scratch, *pinned, *more]
    launch = Launch(suite, scratch, settings, [*prefix, *server], keep_output=True)
    try:
        wait_until_listening(port, launch)
        seconds = load_redis(port, requests, load_cores)
        subprocess.run(["redis-cli", "-p", str(port), "shutdown", "nosave"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except BaseException as error:
        launch.process.terminate()
        launch.process.wait()
        if isinstance(error, Failed):
            raise Failed(f"{error}; server: {tail(launch.stderr)}") from error
        raise
    return {**launch.wait(), "value": seconds}


def printed_ns(path):
    # A profiler may print around it: the program's own line is the one that is JSON.
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if line.startswith('{"ns_per_op"')]
    if not lines:
        raise Failed("the program printed no result")
    return json.loads(lines[-1])["ns_per_op"]


def run_command(suite, scratch, settings, command, prints_time):
    launch = Launch(suite, scratch, settings, command, keep_output=prints_time)
    result = launch.wait()
    return {**result, "value": printed_ns(launch.stdout) if prints_time else result["wall_s"]}


def run_in(suite, scratch, workload, variant):
    if variant.missing:
        raise Failed(variant.missing)
    fill = [text.replace("{scratch}", scratch) for text in variant.settings]
    preload = [f"LD_PRELOAD={variant.preload}"] if variant.preload else []
    settings = [*workload.settings(suite), *fill, *preload]
    prefix = [text.replace("{scratch}", scratch) for text in variant.prefix]
    command = workload.command(suite, variant.set_name)
    if command[0] == "redis-server":
        result = run_redis(suite, scratch, settings, prefix, int(command[1]), command[2:])
    else:
        result = run_command(suite, scratch, settings, [*prefix, *command], workload.unit == "ns")
    if hasattr(workload, "value"):
        result["value"] = workload.value(suite, result)
    # A profiler that quietly did nothing would look very fast.
    if variant.leaves and not glob.glob(os.path.join(scratch, variant.leaves)):
        raise Failed(f"left no {variant.leaves}")
    return result


def run_once(suite, workload, variant, round_number):
    run = Run(workload.name, variant.set_name, variant.name, round_number)
    scratch = tempfile.mkdtemp(prefix="mprof-bench-")
    try:
        result = run_in(suite, scratch, workload, variant)
        run.value, run.cpu_s, run.peak_kib = result["value"], result["cpu_s"], result["peak_kib"]
    except (Failed, OSError, subprocess.SubprocessError) as error:
        run.failure = str(error).strip("; ")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return run


def order_of(variants, round_number):
    """Rotated each round, and reversed each second one, so that nobody always follows the same."""
    shift = round_number % len(variants)
    rotated = variants[shift:] + variants[:shift]
    return rotated[::-1] if round_number % 2 else rotated


def members_of(set_name, variants, workload):
    return [variant for variant in variants if variant.set_name == set_name
            and (not workload.takes or variant.name in workload.takes)]


def warm_up(suite, workload, variants, set_names):
    """Not counted: files get into the page cache, git's repository into its repacked state, and
    programs that are built first into the data folder."""
    for set_name in set_names:
        run_once(suite, workload, members_of(set_name, variants, workload)[0], 0)


def run_session(suite, workloads, variants, rounds_of, on_run):
    """rounds_of: set name -> number of rounds. Calls on_run(run) after each run."""
    for workload in workloads:
        mine = {name: rounds * workload.rounds_factor for name, rounds in rounds_of.items()
                if name in workload.sets}
        warm_up(suite, workload, variants, mine)
        failures = {}
        for round_number in range(max(mine.values(), default=0)):
            for set_name, rounds in mine.items():
                members = members_of(set_name, variants, workload)
                if round_number >= rounds:
                    continue
                for variant in order_of(members, round_number):
                    key = (set_name, variant.name)
                    if failures.get(key, 0) >= GIVE_UP_AFTER:
                        continue
                    run = run_once(suite, workload, variant, round_number)
                    failures[key] = failures.get(key, 0) + 1 if run.failure else 0
                    on_run(run)
        print(f"  {workload.name} done", file=sys.stderr, flush=True)
