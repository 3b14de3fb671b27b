# SPDX-License-Identifier: Apache-2.0
"""What is measured: the variants (which profiler, set up how) and the workloads (what runs)."""

import dataclasses
import glob
import os
import re
import shutil
import subprocess
import sys

import trace_peers

HERE = os.path.dirname(os.path.abspath(__file__))

# A set is interleaved as a whole and its members are only compared with each other. Slow profilers
# get sets of their own with less work to do, and a baseline run with exactly that work.
LIGHT, OWN, SLOW, SLOWEST, LOCKS = "light", "own", "slow", "slowest", "locks"
# CPU samples on top of the default.
CPU = "cpu"
# Recording a trace, by mprof and by its peers, and what becomes of one afterwards.
TRACE, TRACERS, TRACE_FILES = "trace", "tracers", "trace-files"
TRACES = (TRACE, TRACERS, TRACE_FILES)
SETS = (LIGHT, OWN, SLOW, SLOWEST, LOCKS, CPU, *TRACES)
DIVISOR = {LIGHT: 1, OWN: 4, SLOW: 20, SLOWEST: 200}

# What --smoke runs instead.
SMOKE, SMOKE_LOCKS, SMOKE_TRACE = "smoke", "smoke-locks", "smoke-trace"
SMOKES = (SMOKE, SMOKE_LOCKS, SMOKE_TRACE)

# A workload stresses the heap or the locks, and is part of the sets that speak of these.
HEAP_SETS = (LIGHT, OWN, SLOW, SLOWEST, SMOKE)
LOCK_SETS = (LOCKS, SMOKE_LOCKS)
TRACE_SETS = (TRACE, SMOKE_TRACE)


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    set_name: str
    baseline: str
    preload: str = ""
    settings: tuple = ()  # NAME=VALUE; {scratch} is a folder that is deleted after the run
    prefix: tuple = ()  # command words in front of the program
    missing: str = ""  # why it cannot run here, or nothing
    leaves: str = ""  # files in the scratch folder without which it did not profile


def find_library(name):
    places = ["/usr/lib/*/", "/usr/lib64/", "/usr/lib/", "/usr/local/lib/"]
    for place in places:
        for path in sorted(glob.glob(place + name)):
            return path
    return ""


def preloading(name, set_name, baseline, library, wanted, *settings, leaves=""):
    missing = "" if library and os.path.exists(library) else f"{wanted} not found"
    return Variant(name, set_name, baseline, library, settings, missing=missing, leaves=leaves)


def mprof(name, set_name, library, *settings, leaves="*.mprof"):
    out = "MPROF_OUT={scratch}/%e.%p.mprof"
    return preloading(name, set_name, "none", library, library or "libmprof.so", out, *settings,
                      leaves=leaves)


def lock_variants(set_name, library, passthrough):
    return [
        Variant("none", set_name, "none"),
        preloading("empty", set_name, "none", passthrough, "passthrough_locks.so"),
        mprof("off", set_name, library, "MPROF_BLOCK_RATE=0", "MPROF_MUTEX_FRACTION=0"),
        mprof("default", set_name, library),
        mprof("exact", set_name, library, "MPROF_BLOCK_RATE=1", "MPROF_MUTEX_FRACTION=1"),
    ]


def trace_variants(set_name, library):
    return [
        Variant("none", set_name, "none"),
        mprof("off", set_name, library),
        mprof("trace", set_name, library, "MPROF_TRACE=1", leaves="*.journal"),
    ]


def all_variants(library, programs):
    passthrough = os.path.join(programs, "passthrough.so")
    passthrough_locks = os.path.join(programs, "passthrough_locks.so")
    tcmalloc = find_library("libtcmalloc.so.4")
    jemalloc = find_library("libjemalloc.so.2")
    exact = "MPROF_HEAP_RATE=1"
    heaptrack = shutil.which("heaptrack")
    return [
        Variant("none", LIGHT, "none"),
        Variant("again", LIGHT, "none"),
        preloading("empty", LIGHT, "none", passthrough, "passthrough.so"),
        mprof("off", LIGHT, library, "MPROF_HEAP_RATE=0", leaves=""),
        mprof("default", LIGHT, library),
        preloading("tcmalloc", OWN, "tcmalloc", tcmalloc, "libtcmalloc.so.4"),
        preloading("tcmalloc-sampler", OWN, "tcmalloc", tcmalloc, "libtcmalloc.so.4",
                   "TCMALLOC_SAMPLE_PARAMETER=524288"),
        preloading("jemalloc", OWN, "jemalloc", jemalloc, "libjemalloc.so.2"),
        preloading("jemalloc-sampler", OWN, "jemalloc", jemalloc, "libjemalloc.so.2",
                   "MALLOC_CONF=prof:true,lg_prof_sample:19,prof_prefix:{scratch}/jeprof"),
        Variant("none", SLOW, "none"),
        mprof("exact", SLOW, library, exact),
        Variant("heaptrack", SLOW, "none", prefix=("heaptrack", "-o", "{scratch}/heaptrack"),
                missing="" if heaptrack else "heaptrack not found", leaves="heaptrack*"),
        Variant("none", SLOWEST, "none"),
        preloading("heap-profiler", SLOWEST, "none", tcmalloc, "libtcmalloc.so.4",
                   "HEAPPROFILE={scratch}/heapprofile", leaves="heapprofile*"),
        Variant("none", SMOKE, "none"),
        mprof("default", SMOKE, library),
        mprof("exact", SMOKE, library, exact),
        Variant("none", CPU, "none"),
        mprof("default", CPU, library),
        mprof("cpu", CPU, library, "MPROF_CPU_HZ=100"),
        *lock_variants(LOCKS, library, passthrough_locks),
        Variant("again", LOCKS, "none"),
        *lock_variants(SMOKE_LOCKS, library, passthrough_locks),
        *trace_variants(TRACE, library),
        Variant("again", TRACE, "none"),
        *trace_variants(SMOKE_TRACE, library),
        Variant("none", TRACERS, "none"),
        mprof("mprof", TRACERS, library, "MPROF_TRACE=1", leaves="*.journal"),
        Variant("perf trace", TRACERS, "none", prefix=trace_peers.UNDER_PERF,
                missing=trace_peers.missing("perf"), leaves="perf.txt"),
        Variant("lttng-ust", TRACERS, "none", prefix=trace_peers.UNDER_LTTNG,
                missing=trace_peers.missing("lttng"), leaves="lttng/ust"),
        Variant("uftrace", TRACERS, "none", prefix=trace_peers.UNDER_UFTRACE,
                missing=trace_peers.missing("uftrace"), leaves="uftrace/*.dat"),
        Variant("mprof", TRACE_FILES, "mprof"),
    ]


@dataclasses.dataclass(frozen=True)
class Micro:
    """A program of this folder; the result is nanoseconds of core time an operation."""

    name: str
    program: str
    arguments: tuple
    operations: int
    threads: int = 1
    sets: tuple = HEAP_SETS
    rounds_factor: int = 1  # more rounds where equal runs differ much
    takes = ()
    unit = "ns"

    def command(self, suite, set_name):
        operations = self.operations // DIVISOR.get(set_name, 1) // suite.shrink
        if set_name in SMOKES:
            operations = min(20000, self.operations // 20)
        return [os.path.join(suite.programs, self.program), *self.arguments,
                "--ops", str(max(operations, 1000))]

    def settings(self, suite):
        # With one thread the core is chosen, so that no migration falls into the time.
        return [f"WORKLOAD_CPU={suite.cores[-1]}"] if self.threads == 1 else []


@dataclasses.dataclass(frozen=True)
class Asked:
    """Threads that compute and are asked for their stacks; nanoseconds of a thread and question."""

    name: str
    threads: int
    stacks: str  # as the option of stacks_micro
    sets = (CPU,)
    rounds_factor = 1
    takes = ("none", "default")
    unit = "ns"

    def command(self, suite, _set_name):
        return [os.path.join(suite.programs, "stacks_micro"), "--threads", str(self.threads),
                "--stacks", self.stacks, "--ops", str(max(20 // suite.shrink, 1)),
                "--mprof", suite.mprof]

    def settings(self, _suite):
        return []


@dataclasses.dataclass(frozen=True)
class Real:
    """A program of the machine; the result is seconds. `sizes` is the work of each set."""

    name: str
    needs: str
    sizes: dict
    make_command: object
    environment: tuple = ()
    takes: tuple = ()  # variants; none named: all
    rounds_factor = 1
    unit = "s"

    @property
    def sets(self):
        return tuple(self.sizes)

    def command(self, suite, set_name):
        if shutil.which(self.needs) is None:
            raise FileNotFoundError(f"{self.needs} not found")
        size = self.sizes[set_name]
        if isinstance(size, int) and set_name not in SMOKES:
            size = max(size // suite.shrink, 1)
        return self.make_command(suite, set_name, size)

    def settings(self, suite):
        return list(self.environment)


@dataclasses.dataclass(frozen=True)
class Compared:
    """One event of a tracer, by its own program where that must be built for it."""

    name: str
    test: str  # of trace_micro
    takes: tuple
    make_command: object = None
    operations: int = 400000
    sets = (TRACERS,)
    rounds_factor = 1
    unit = "ns"

    def command(self, suite, set_name):
        operations = self.operations // suite.shrink
        if self.make_command:
            return self.make_command(suite, set_name, operations)
        return [os.path.join(suite.programs, "trace_micro"), "--test", self.test,
                "--ops", str(operations)]

    def settings(self, suite):
        return [f"WORKLOAD_CPU={suite.cores[-1]}"]


class TraceFile:
    """Makes of a trace what is read of it; the result is nanoseconds, or bytes, for each record."""

    sets = (TRACE_FILES,)
    rounds_factor = 1
    takes = ()
    unit = "of a record"

    def __init__(self, name, *arguments):
        self.name = name
        self.arguments = arguments  # of `mprof trace`; none: only look at its size

    def command(self, suite, _set_name):
        dump = traced_dump(suite)
        if not self.arguments:
            return ["true"]
        return [suite.mprof, "trace", dump, *self.arguments, os.path.join(suite.data, "converted")]

    def settings(self, _suite):
        return []

    def value(self, suite, result):
        if not self.arguments:
            return os.path.getsize(f"{traced_dump(suite)}.trace") / suite.records
        return result["wall_s"] * 1e9 / suite.records


@dataclasses.dataclass
class Suite:
    programs: str  # folder of the built programs
    data: str  # folder for inputs, made once
    library: str  # the libmprof.so that is measured; mprof lies beside it
    shrink: int = 1  # --quick: that many times less work
    records: int = 0  # of traced_dump()

    def __post_init__(self):
        self.cores = sorted(os.sched_getaffinity(0))
        self.mprof = os.path.join(os.path.dirname(self.library), "..", "dumper", "mprof")


def sizes(light, own, slow, slowest, smoke):
    return {LIGHT: light, OWN: own, SLOW: slow, SLOWEST: slowest, CPU: light, SMOKE: smoke}


def lock_sizes(locks, smoke):
    return {LOCKS: locks, SMOKE_LOCKS: smoke}


SQL = """
CREATE TABLE a(id INTEGER PRIMARY KEY, k INT, s TEXT);
CREATE TABLE b(id INTEGER PRIMARY KEY, a_id INT, v REAL, t TEXT);
BEGIN;
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < {rows})
  INSERT INTO a SELECT i, (i*7919)%1000, printf('name-%08d-%s', (i*104729)%{rows}, hex(i*i)) FROM c;
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 2*{rows})
  INSERT INTO b SELECT i, (i*31)%{rows}+1, i*0.5, 'tag' || (i%97) FROM c;
COMMIT;
CREATE INDEX a_k ON a(k); CREATE INDEX a_s ON a(s);
CREATE INDEX b_a ON b(a_id); CREATE INDEX b_t ON b(t, v);
SELECT a.k, count(*), sum(b.v), max(a.s) FROM a JOIN b ON b.a_id = a.id
  GROUP BY a.k ORDER BY 3 DESC LIMIT 5;
SELECT t, group_concat(substr(s, 1, 12)) IS NOT NULL FROM b JOIN a ON a.id = b.a_id
  GROUP BY t LIMIT 3;
SELECT count(DISTINCT upper(s) || t) FROM a JOIN b ON b.a_id = a.id;
UPDATE a SET s = s || '-x' WHERE k < 300;
SELECT count(*) FROM a WHERE s LIKE '%7%x';
"""


def sqlite_command(suite, _set_name, rows):
    script = os.path.join(suite.data, f"rows-{rows}.sql")
    if not os.path.exists(script):
        with open(script, "w", encoding="ascii") as file:
            file.write(SQL.format(rows=rows))
    return ["sqlite3", "-init", "/dev/null", ":memory:", f".read {script}"]


def python_command(script, size):
    # The distribution's interpreter itself: a version manager's wrapper would be profiled instead.
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    return [python, os.path.join(HERE, script), str(size)]


def allocate_much_command(_suite, _set_name, rounds):
    return python_command("allocate_much.py", rounds)


def lock_much_command(_suite, _set_name, tasks):
    return python_command("lock_much.py", tasks)


def ask_gxx(question):
    return subprocess.run(["g++", question], capture_output=True, text=True,
                          check=True).stdout.strip()


def cc1plus_command(suite, _set_name, arguments):
    multiarch = ask_gxx("-print-multiarch")
    return [ask_gxx("-print-prog-name=cc1plus"), "-quiet",
            *(["-imultiarch", multiarch] if multiarch else []),
            "-D_GNU_SOURCE", "-std=gnu++20", *arguments.split(),
            os.path.join(HERE, "compile_me.cc"), "-o", os.path.join(suite.data, "compile_me.s")]


def openmp_command(suite, _set_name, steps):
    # Built here and not by the build system: only g++ brings OpenMP's run time with it.
    program = os.path.join(suite.data, "openmp_work")
    if not os.path.exists(program):
        subprocess.run(["g++", "-std=c++20", "-O2", "-fopenmp",
                        os.path.join(HERE, "openmp_work.cc"), "-o", program], check=True)
    return [program, str(steps)]


def write_history(out, commits):
    """A history of changes to 200 text files, the same on every machine, for git fast-import."""
    import random
    rng = random.Random(1)
    files = {f"d{i % 17}/f{i}.txt": [f"line {j} {rng.random()}" for j in range(120)]
             for i in range(200)}
    names = sorted(files)
    for number in range(commits):
        message = f"commit {number}"
        out.write(f"commit refs/heads/master\nmark :{number + 1}\n"
                  f"committer A <a@example.org> {1600000000 + number * 60} +0000\n"
                  f"data {len(message)}\n{message}\n")
        if number:
            out.write(f"from :{number}\n")
        for name in names if number == 0 else rng.sample(names, 6):
            lines = files[name]
            for _ in range(5):
                lines[rng.randrange(len(lines))] = f"line {rng.random()} of {number}"
            body = "\n".join(lines) + "\n"
            out.write(f"M 644 inline {name}\ndata {len(body)}\n{body}\n")


def git_repository(suite, commits):
    path = os.path.join(suite.data, f"git-{commits}")
    if not os.path.exists(path):
        quiet = dict(check=True, env={**os.environ, **dict(GIT_ENVIRONMENT)})
        subprocess.run(["git", "init", "-q", "--bare", path], **quiet)
        history = os.path.join(suite.data, "history")
        with open(history, "w", encoding="ascii") as file:
            write_history(file, commits)
        with open(history, encoding="ascii") as file:
            subprocess.run(["git", f"--git-dir={path}", "fast-import", "--quiet"], stdin=file,
                           **quiet)
        os.remove(history)
    return path


def git_log_command(suite, _set_name, commits):
    return ["git", f"--git-dir={git_repository(suite, commits)}", "log", "-p", "--stat",
            "--find-renames", "master"]


def git_repack_command(suite, set_name, commits):
    repository = git_repository(suite, commits)
    git = ["git", f"--git-dir={repository}", "-c", "pack.threads=1"]
    if set_name == SLOW:
        # The process that does repack's work: heaptrack does not follow children.
        return [*git, "pack-objects", "--all", "--no-reuse-delta", "--no-reuse-object", "-q",
                os.path.join(suite.data, "packed")]
    return [*git, "repack", "-adfq"]


# A trace of a program that does a little of everything; some records of it are several events.
def traced_dump(suite):
    path = os.path.join(suite.data, "traced.mprof")
    if not os.path.exists(path):
        rounds = 400000 // suite.shrink
        command = [suite.mprof, "run", "-p", "heap", "--trace", "--out", path, "--",
                   os.path.join(suite.programs, "trace_micro"), "--test", "mix", "--ops", str(rounds)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, "MPROF_LIB": suite.library})
        said = subprocess.run([suite.mprof, "trace", path, "-o", os.path.join(suite.data, "first")],
                              check=True, capture_output=True, text=True).stdout
        suite.records = int(re.search(r": (\d+) events of ", said)[1])
    return path


GIT_ENVIRONMENT = (("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_PAGER", "cat"), ("HOME", "/nonexistent"))
GIT_SETTINGS = tuple(f"{name}={value}" for name, value in GIT_ENVIRONMENT)
REDIS_TESTS = "set,get,incr,lpush,lrange_100,hset,sadd,zadd"


# session.py adds the port, chooses the cores and drives the load.
def redis_command(_suite, _set_name, requests):
    return ["redis-server", str(requests)]


def redis_io_threads_command(_suite, _set_name, requests):
    return ["redis-server", str(requests), "--io-threads", "2", "--io-threads-do-reads", "yes"]


def micro(name, test, operations, threads=1, program="malloc_micro"):
    arguments = ("--test", test, "--threads", str(threads))
    return Micro(f"{name}-{threads}", program, arguments, operations, threads)


def deep(depth, frame_pointers, size_bytes, operations):
    label = f"depth-{depth}-{'fp' if frame_pointers else 'nofp'}-{size_bytes}"
    program = "deep_stack_fp" if frame_pointers else "deep_stack_nofp"
    return Micro(label, program, ("--depth", str(depth), "--size", str(size_bytes)), operations)


def trace_micro(name, test, depth=1, operations=400000):
    return Micro(name, "trace_micro", ("--test", test, "--depth", str(depth)), operations,
                 sets=TRACE_SETS)


def trace_workloads():
    return [
        trace_micro("record", "plain"),
        trace_micro("record-stack-1", "region"),
        trace_micro("record-stack-30", "region", 30),
        trace_micro("record-stack-100", "region", 100),
        trace_micro("log-30", "log", 30),
        trace_micro("system-call-1", "call"),
        trace_micro("system-call-30", "call", 30),
        Real("redis-server-traced", "redis-server", {TRACE: 200000, SMOKE_TRACE: 200},
             redis_command),
        Compared("user-event", "plain", ("none", "mprof")),
        Compared("lttng-event", "", ("none", "lttng-ust"), trace_peers.lttng_command),
        Compared("function", "function", ("none", "uftrace"), trace_peers.uftrace_command),
        Compared("call", "call", ("none", "mprof", "perf trace")),
        Real("redis-server-peers", "redis-server", {TRACERS: 100000}, redis_command,
             takes=("none", "mprof", "perf trace")),
        TraceFile("bytes"),
        TraceFile("to-go", "--format", "go", "-o"),
        TraceFile("to-perfetto", "--format", "perfetto", "-o"),
        TraceFile("to-json-summary", "--format", "json-summary", "-o"),
    ]


EVERY_CORE = 1024  # or as many as there are
UNPINNED = 0


def lock_micro(name, test, operations, threads=1, parked=0, cores=EVERY_CORE, rounds_factor=1):
    arguments = ["--test", test, "--threads", str(threads)]
    if parked:
        arguments += ["--parked", str(parked)]
    if threads > 1 and cores != UNPINNED:
        arguments += ["--cores", str(cores)]
    return Micro(name, "lock_micro", tuple(arguments), operations, threads, LOCK_SETS,
                 rounds_factor)


def contended(name, test, operations, threads, cores=EVERY_CORE):
    # Who gets the lock is chance: equal runs differ by a tenth.
    return lock_micro(name, test, operations, threads, cores=cores, rounds_factor=4)


def lock_workloads():
    million = 1000000
    return [
        # Where the loader puts the library is chance, and moves so short a loop by a tenth.
        lock_micro("mutex-1", "mutex", 10 * million, rounds_factor=12),
        lock_micro("mutex-parked", "mutex", 40 * million, parked=1),
        lock_micro("mutex-own-2", "mutex-own", 50 * million, 2),
        lock_micro("std-mutex-1", "std-mutex", 10 * million, rounds_factor=12),
        lock_micro("std-mutex-parked", "std-mutex", 40 * million, parked=1),
        lock_micro("rwlock-read-1", "rwlock-read", 40 * million),
        lock_micro("std-shared-1", "std-shared", 20 * million),
        lock_micro("semaphore-1", "semaphore", 40 * million),
        contended("mutex-2", "mutex", 2 * million, 2),
        contended("mutex-4", "mutex", 2 * million, 4),
        contended("mutex-16", "mutex", 2 * million, 16),
        contended("rwlock-mixed-4", "rwlock-mixed", 2 * million, 4),
        contended("cond-unpinned", "cond", 20000, 2, cores=UNPINNED),
        contended("cond-apart", "cond", 16000, 2),
        contended("cond-together", "cond", 80000, 2, cores=1),
        contended("ring-64", "ring", 80000, 64, cores=1),
        lock_micro("create-1", "create", 20000),
        Real("redis-io-threads", "redis-server", lock_sizes(12000, 200), redis_io_threads_command),
        Real("python3-threads", "python3", lock_sizes(150000, 200), lock_much_command,
             ("PYTHONHASHSEED=0",)),
        # Spinning at a barrier would take a whole slice of time whenever a core is shared.
        Real("openmp", "g++", lock_sizes(2000, 20), openmp_command, ("OMP_WAIT_POLICY=passive",)),
    ]


def all_workloads():
    return [*heap_workloads(), *lock_workloads(), *trace_workloads()]


def heap_workloads():
    million = 1000000
    threaded = "malloc_threads"
    return [
        micro("pair", "pair", 60 * million),
        micro("pair", "pair", 80 * million, 8),
        micro("fixed", "fixed", 30 * million),
        micro("fixed", "fixed", 50 * million, 8),
        micro("logmix", "logmix", 6 * million),
        micro("logmix", "logmix", 7 * million, 8),
        micro("realloc", "realloc", 50 * million),
        micro("realloc", "realloc", 80 * million, 8),
        micro("larson", "larson", 60 * million, 8, threaded),
        micro("larson", "larson", 50 * million, 64, threaded),
        micro("xmalloc", "xmalloc", 12 * million, 8, threaded),
        micro("xfree", "xfree", 12 * million, 2),
        micro("xfree", "xfree", 15 * million, 8),
        *(deep(depth, frame_pointers, size, operations)
          for depth, operations in ((30, 20 * million), (100, 8 * million))
          for frame_pointers in (True, False)
          for size in (256, 16384)),
        Micro("label-switch", "trace_micro", ("--test", "label", "--depth", "1"), 400000,
              sets=(CPU,)),
        Asked("stacks-1", 1, "one-by-one"),
        Asked("stacks-8", 8, "one-by-one"),
        Asked("stacks-8-at-one-moment", 8, "at-one-moment"),
        Real("sqlite3", "sqlite3", sizes(120000, 120000, 60000, 15000, 300), sqlite_command),
        Real("redis-server", "redis-server", sizes(100000, 100000, 50000, 8000, 200),
             redis_command),
        Real("python3", "python3", sizes(100, 100, 30, 2, 1), allocate_much_command,
             ("PYTHONMALLOC=malloc", "PYTHONHASHSEED=0")),
        Real("cc1plus", "g++", sizes("-O0 -DBENCH_TAGS=2", "-O0 -DBENCH_TAGS=2",
                                     "-fsyntax-only -DBENCH_TAGS=0",
                                     "-fsyntax-only -DBENCH_TAGS=0",
                                     "-fsyntax-only -DBENCH_TAGS=0"), cc1plus_command),
        Real("git-log", "git", sizes(1500, 1500, 500, 100, 5), git_log_command, GIT_SETTINGS),
        Real("git-repack", "git", sizes(1500, 1500, 500, 100, 5), git_repack_command,
             GIT_SETTINGS),
    ]
