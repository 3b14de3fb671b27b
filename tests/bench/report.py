# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown: the same text for the terminal and for the files in docs/."""

import os
import platform
import re
import subprocess
import time

import targets
from targets import HEAP_SETS, spread_text

HERE = os.path.dirname(os.path.abspath(__file__))

METHOD = """\
One session, interleaved: in each round every variant runs once, in an order that rotates and is
reversed each second round, and ratios are formed inside the round. A workload runs once uncounted
before its first round. Tables show the median over the rounds and, in parentheses, the quartiles.
`again` is the program without a library once more: its distance from 1 is the noise. Dumps go to
the temporary folder, in a folder that is deleted after each run.

"""

HEAP_METHOD = """\
- Times of the malloc workloads are what the program measures itself, as core time an operation,
  without its start and end. Programs with one thread are pinned to one core. Times of real programs
  are wall time from start to end; of redis-server, the time redis-benchmark takes.
- For these, `pass-through` forwards the malloc family to the next library and does nothing else:
  the floor of any preloaded profiler. `off` is MPROF_HEAP_RATE=0, `default` is 524288 bytes,
  `exact` is 1.
- heaptrack runs through its own command, with its interpreter beside it on the other cores, as its
  users run it; it does not follow child processes, so for git-repack it and exact mode are
  measured on `git pack-objects`, which does repack's work. Writing profiles after the end
  (`mprof pprof`) is not part of any time.
- Slow profilers (heaptrack and exact mode; gperftools' heap profiler) get less work, and are
  compared with no library doing that same work.
- tcmalloc and jemalloc replace the allocator: their samplers (both at 512 KiB) are compared with
  the same allocator without sampling.
- Peak memory is the kernel's count for the process (ru_maxrss of wait4); with children, for the
  largest of them; under heaptrack, the largest of the program and heaptrack's own helper. It
  includes the pages of a mapped dump.
"""

LOCK_METHOD = """\
- For lock workloads `pass-through` forwards every function that mprof takes over for its block,
  mutex and threadcreate profiles, by one jump. `off` is MPROF_BLOCK_RATE=0 MPROF_MUTEX_FRACTION=0,
  `exact` is 1 for both; the heap profile stays at its default in all three.
- A run takes about half a second; of a contended lock a fifth of one, and four runs are a round; of
  a free one in one thread, where the place that chance gives the library decides, a twentieth, and
  twelve. What it prints is the time of the loop alone. Free locks
  (`-1`: one thread; `-parked`: a second one sleeps, so glibc no longer leaves out atomic
  instructions; `-own-2`: a mutex for each of two threads) are processor time of a pair of lock and
  unlock, with an increment between. `create` is a thread created and joined.
- `mutex-2`, `-4`, `-16` and `rwlock-mixed-4` (one write in 16): that many threads on one lock, with
  a critical section and then a pause of 20 dependent multiplications each. The threads share one
  stock of operations, so that the lock is contended to the end. Time is the inverse of throughput.
- `cond` is one hand-over between two threads: `-unpinned` where the kernel puts them, `-apart` on
  two cores, where it is mostly the kernel waking the other one, `-together` on one. `ring` is one
  hand-over by semaphores, on one core, each to the next of so many threads. Threads of the other
  workloads are pinned, over all cores or as said, for the place that the kernel chooses makes more
  difference than any library. Who gets a contended lock is still chance: `again` says what
  difference there means something, and the median of many short runs says more than that of a few
  long ones.
- redis-server with two I/O threads has all cores, shared with redis-benchmark, since these threads
  wait by spinning. The OpenMP program is built with `g++ -fopenmp` and run with
  OMP_WAIT_POLICY=passive; the locks and barriers of that run time ask the kernel directly, so of
  its waiting only that on std::mutex can be seen.
"""

TRACE_METHOD = """\
- Records of a trace are made in bursts of 4096 with a pause of 4 ms after each, which is not timed,
  on one core, with the drainer free to use the others: none is dropped. `record` is the end of a
  task, which has no stack; `record-stack-N` the begin of a region N calls deep; `log` a line of 20
  characters; `system-call` a write of no bytes to a pipe, which is two records, one with a stack.
- redis-server is pinned to one core and redis-benchmark to another, on which the drainer runs too.
- Other tracers, each beside no tracer: an event of LTTng-UST with one number and no stack, its
  consumer beside it; uftrace's entry and exit of an empty function (`-pg`); `perf trace` of system
  calls, which has them from the kernel and without stacks.
- `What becomes of a trace`: a program that does a little of everything, some two million records
  of it; `bytes` is the size of the compressed file. Converting includes names, files and lines.
"""

TRACES = ("trace", "tracers", "trace-files")
TRACERS = ("mprof", "lttng-ust", "uftrace", "perf trace")

PACKAGES = ("heaptrack", "libgoogle-perftools4", "libgoogle-perftools4t64", "libjemalloc2",
            "redis-server", "sqlite3", "git", "python3", "libunwind8", "libgomp1", "lttng-tools",
            "liblttng-ust-dev", "uftrace", "linux-perf")


def table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        return "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths)) + " |"
    return "\n".join([line(header), "|" + "|".join("-" * (w + 2) for w in widths) + "|",
                      *map(line, rows)])


def first_line(*command):
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return text.splitlines()[0] if text else "unknown"


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def distribution():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown"


def package_versions():
    found = []
    for name in PACKAGES:
        version = first_line("dpkg-query", "-W", "-f=${Version}", name)
        if version != "unknown":
            found.append(f"{name} {version}")
    return ", ".join(found)


def describe_machine():
    """Taken when a session starts and kept with its runs."""
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read()).group(1))
    return {
        "Date": time.strftime("%Y-%m-%d"),
        "Machine": f"{len(os.sched_getaffinity(0))} cores, {cpu_model()}, "
                   f"{memory_kib / 1048576:.0f} GiB",
        "System": f"{distribution()}, Linux {platform.release()}, "
                  f"{' '.join(platform.libc_ver())}",
        "Compiler": first_line("g++", "--version"),
        "Packages": package_versions(),
        "Load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


class Cells:
    """Cells of one results table: a number, or why there is none."""

    def __init__(self, results):
        self.results = results

    def _or_reason(self, spread, workload, set_name, variant, digits=2):
        if spread is not None:
            return spread_text(spread, digits)
        return "failed" if self.results.failure(workload, set_name, variant) else "-"

    def ratio(self, workload, set_name, variant, baseline="none", digits=2):
        spread = self.results.ratio(workload, set_name, variant, baseline)
        return self._or_reason(spread, workload, set_name, variant, digits)

    def cpu_ratio(self, workload, set_name, variant):
        spread = self.results.cpu_ratio(workload, set_name, variant, "none")
        return self._or_reason(spread, workload, set_name, variant, 3)

    def ratios(self, workload, set_name, *variants):
        return [self.ratio(workload, set_name, variant, digits=3) for variant in variants]

    def value(self, workload, set_name, variant):
        spread = self.results.value(workload, set_name, variant)
        return f"{spread.median:.4g}" if spread else "-"

    def value_and_spread(self, workload, set_name, variant):
        spread = self.results.value(workload, set_name, variant)
        return f"{spread.median:.4g} ({spread.low:.4g}..{spread.high:.4g})" if spread else "-"

    def peak(self, workload, set_name, variant):
        spread = self.results.peak_mib(workload, set_name, variant)
        return f"{spread.median:.1f}" if spread else "-"

    def more(self, workload, set_name, variant, baseline="none"):
        spread = self.results.more(workload, set_name, variant, baseline)
        return self._or_reason(spread, workload, set_name, variant, 1)

    def more_peak(self, workload, set_name, variant, baseline="none"):
        spread = self.results.more_peak_mib(workload, set_name, variant, baseline)
        return self._or_reason(spread, workload, set_name, variant, 1)


def sampling_table(cells, names, unit, real):
    digits = 3 if real else 2
    header = ["workload", f"no library, {unit}", "again", "pass-through", "off", "default"]
    header += ["default, CPU time"] if real else ["default / pass-through"]

    def row(name):
        ratios = [cells.ratio(name, "light", variant, digits=digits)
                  for variant in ("again", "empty", "off", "default")]
        last = cells.cpu_ratio(name, "light", "default") if real else \
            cells.ratio(name, "light", "default", "empty")
        return [name, cells.value(name, "light", "none"), *ratios, last]
    return table(header, [row(name) for name in names])


def lock_table(cells, names):
    header = ["workload", "no library, ns", "again", "pass-through", "off", "default", "exact",
              "default / pass-through"]
    return table(header, [[name,
                           cells.value_and_spread(name, "locks", "none"),
                           *cells.ratios(name, "locks", "again", "empty", "off", "default",
                                         "exact"),
                           cells.ratio(name, "locks", "default", "empty", digits=3)]
                          for name in names])


def lock_program_table(cells, names):
    header = ["program", "no library, s", "again", "pass-through", "off", "default", "exact",
              "default, CPU time"]
    return table(header, [[name,
                           cells.value_and_spread(name, "locks", "none"),
                           *cells.ratios(name, "locks", "again", "empty", "off", "default",
                                         "exact"),
                           cells.cpu_ratio(name, "locks", "default")]
                          for name in names])


def slow_table(cells, names):
    header = ["workload", "exact", "heaptrack", "heaptrack / exact", "gperftools' heap profiler"]
    return table(header, [[name,
                           cells.ratio(name, "slow", "exact"),
                           cells.ratio(name, "slow", "heaptrack"),
                           cells.ratio(name, "slow", "heaptrack", "exact"),
                           cells.ratio(name, "slowest", "heap-profiler")] for name in names])


def sampler_table(cells, names):
    header = ["workload", "mprof default / no library", "tcmalloc's sampler / tcmalloc",
              "jemalloc's sampler / jemalloc"]
    return table(header, [[name,
                           cells.ratio(name, "light", "default"),
                           cells.ratio(name, "own", "tcmalloc-sampler", "tcmalloc"),
                           cells.ratio(name, "own", "jemalloc-sampler", "jemalloc")]
                          for name in names])


def memory_table(cells, names):
    header = ["workload", "no library", "again", "off", "default", "no library, less work",
              "exact", "heaptrack", "tcmalloc's sampler", "jemalloc's sampler"]
    return table(header, [[name,
                           cells.peak(name, "light", "none"),
                           cells.more_peak(name, "light", "again"),
                           cells.more_peak(name, "light", "off"),
                           cells.more_peak(name, "light", "default"),
                           cells.peak(name, "slow", "none"),
                           cells.more_peak(name, "slow", "exact"),
                           cells.more_peak(name, "slow", "heaptrack"),
                           cells.more_peak(name, "own", "tcmalloc-sampler", "tcmalloc"),
                           cells.more_peak(name, "own", "jemalloc-sampler", "jemalloc")]
                          for name in names])


def target_table(verdicts):
    word = {True: "yes", False: "**no**", None: "not measured"}
    return table(["target", "workload", "measured", "reached", "by"],
                 [[v.target, v.workload, v.measured, word[v.reached], v.by] for v in verdicts])


def summary(verdicts):
    """One line a target: how many of its workloads reach it."""
    by_target = {}
    for verdict in verdicts:
        by_target.setdefault(verdict.target, []).append(verdict)
    lines = []
    for target, members in by_target.items():
        reached = sum(1 for verdict in members if verdict.reached)
        lines.append(f"- {target}: {reached} of {len(members)} workloads")
    return "\n".join(lines)


def limits(verdicts):
    lines = [f"- {v.workload}, {v.target}: {v.by}. {v.limit}" for v in verdicts
             if v.reached is False]
    return "\n".join(lines) or "Every measured target is reached."


def failures(results):
    lines = [f"- {workload}, {variant}: {count} runs: {reason}"
             for (workload, variant, reason), count in results.failures().items()]
    return "\n".join(lines) or "None."


def notes(results):
    """Remarks written by hand, kept beside the driver so that a new session does not lose them."""
    parts = []
    for name, sets in (("notes.md", HEAP_SETS), ("notes-locks.md", ("locks",)),
                       ("notes-trace.md", TRACES)):
        if results.workloads(*sets):
            with open(os.path.join(HERE, name), encoding="utf-8") as file:
                parts.append(file.read().strip())
    return "\n\n".join(parts)


def heap_sections(results, cells, real_names):
    names = results.workloads(*HEAP_SETS)
    if not names:
        return []
    real = [name for name in names if name in real_names]
    micro = [name for name in names if name not in real_names]
    return [
        ("Cost of sampling: malloc workloads, times no library",
         sampling_table(cells, micro, "ns", False) if micro else ""),
        ("Cost of sampling: real programs, times no library",
         sampling_table(cells, real, "s", True) if real else ""),
        ("Every allocation: times no library", slow_table(cells, names)),
        ("Samplers inside allocators: times the allocator without", sampler_table(cells, names)),
        ("Peak memory, MiB more than the baseline", memory_table(cells, names)),
    ]


def split(names, real_names):
    """(those of this folder, programs)"""
    return ([name for name in names if name not in real_names],
            [name for name in names if name in real_names])


def lock_sections(results, cells, real_names):
    micro, real = split(results.workloads("locks"), real_names)
    return [
        ("Locks: times no library, median and quartiles",
         lock_table(cells, micro) if micro else ""),
        ("Programs whose threads wait: times no library, median and quartiles",
         lock_program_table(cells, real) if real else ""),
    ]


def record_table(cells, names):
    header = ["workload", "no library, ns", "again", "library, no trace, ns more",
              "trace, ns more"]
    return table(header, [[name,
                           cells.value_and_spread(name, "trace", "none"),
                           cells.ratio(name, "trace", "again", digits=3),
                           cells.more(name, "trace", "off"),
                           cells.more(name, "trace", "trace")] for name in names])


def traced_program_table(cells, names):
    header = ["program", "no library, s", "again", "library, no trace", "trace",
              "trace / library, no trace", "trace, CPU time"]
    return table(header, [[name,
                           cells.value_and_spread(name, "trace", "none"),
                           *cells.ratios(name, "trace", "again", "off", "trace"),
                           cells.ratio(name, "trace", "trace", "off", digits=3),
                           cells.cpu_ratio(name, "trace", "trace")] for name in names])


def tracer_table(results, cells, real_names):
    header = ["workload", "no tracer", "tracer", "its cost"]
    rows = []
    for name in results.workloads("tracers"):
        for tracer in TRACERS:
            if not results.was_run(name, "tracers", tracer):
                continue
            is_real = name in real_names
            rows.append([name, cells.value(name, "tracers", "none") + (" s" if is_real else " ns"),
                         tracer,
                         "times " + cells.ratio(name, "tracers", tracer, digits=3) if is_real else
                         "+ " + cells.more(name, "tracers", tracer) + " ns"])
    return table(header, rows)


def trace_file_table(results, cells):
    header = ["what", "a record", "records a second", "peak memory, MiB"]
    rows = []
    for name in results.workloads("trace-files"):
        spread = results.value(name, "trace-files", "mprof")
        if spread is None:
            rows.append([name, "failed", "-", "-"])
        elif name == "bytes":
            rows.append([name, f"{spread.median:.2f} bytes", "-", "-"])
        else:
            rows.append([name, f"{spread_text(spread, 0)} ns", f"{1e9 / spread.median:,.0f}",
                         cells.peak(name, "trace-files", "mprof")])
    return table(header, rows)


def cpu_sections(results, cells, real_names):
    micro, names = split(results.workloads("cpu"), real_names)
    asked = [name for name in micro if name.startswith("stacks")]
    switches = [name for name in micro if name not in asked]
    header = ["program", "no library, s", "default", "and 100 CPU samples in a second",
              "these / default"]
    rows = [[name, cells.value_and_spread(name, "cpu", "none"),
             *cells.ratios(name, "cpu", "default", "cpu"),
             cells.ratio(name, "cpu", "cpu", "default", digits=3)] for name in names]
    return [("CPU samples: times no library", table(header, rows) if rows else ""),
            ("Labels: nanoseconds beyond no library", cost_table(cells, "operation", switches)),
            ("A question for all stacks (`mprof threads`): nanoseconds of processor time of each "
             "thread that computes, 31 frames deep", cost_table(cells, "threads", asked))]


def cost_table(cells, what, names):
    if not names:
        return ""
    return table([what, "no library, ns", "default, ns more"],
                 [[name, cells.value_and_spread(name, "cpu", "none"),
                   cells.more(name, "cpu", "default")] for name in names])


def trace_sections(results, cells, real_names):
    micro, real = split(results.workloads("trace"), real_names)
    return [
        ("Recording: nanoseconds of an operation beyond no library",
         record_table(cells, micro) if micro else ""),
        ("A program that is traced: times no library",
         traced_program_table(cells, real) if real else ""),
        ("Other tracers",
         tracer_table(results, cells, real_names) if results.workloads("tracers") else ""),
        ("What becomes of a trace",
         trace_file_table(results, cells) if results.workloads("trace-files") else ""),
    ]


def method(results):
    parts = [METHOD]
    if results.workloads(*HEAP_SETS):
        parts.append(HEAP_METHOD)
    if results.workloads("locks"):
        parts.append(LOCK_METHOD)
    if results.workloads(*TRACES):
        parts.append(TRACE_METHOD)
    return "".join(parts).strip()


def render(results, machine, rounds, real_names):
    cells = Cells(results)
    judged = targets.verdicts(results, real_names)
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    counts = ", ".join(f"{set_name} {count}" for set_name, count in rounds.items())
    sections = [
        ("Targets", f"{summary(judged)}\n\n{target_table(judged)}"),
        ("What limits the rest", limits(judged)),
        ("Notes", notes(results)),
        *heap_sections(results, cells, real_names),
        *lock_sections(results, cells, real_names),
        *cpu_sections(results, cells, real_names),
        *trace_sections(results, cells, real_names),
        ("Failed runs", failures(results)),
        ("Method", method(results)),
    ]
    head = "# Benchmarks\n\nWritten by `scripts/bench.sh`; run it again rather than edit this.\n\n"
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections if text)
    return f"{head}{facts}\n- Rounds: {counts}\n\n{body}\n"
