# SPDX-License-Identifier: Apache-2.0
"""The targets: which numbers they speak of, whether they are reached, what a miss is made of."""

import dataclasses

PER_CALL = 1.10  # default sampling over the pass-through interposer
PER_PROGRAM = 1.02  # default sampling over no library
MORE_PEAK_MIB = 8
MORE_PEAK_FRACTION = 0.02
SAMPLED_OFTEN = 2.0  # one block in 32 sampled, over no library
FASTER_THAN_HEAPTRACK = 5
PER_LOCK = 1.10  # a lock that is free, over the pass-through interposer
CONTENDED = 1.05  # a lock or a turn that is waited for, over no library
CPU_SAMPLES = 1.01  # 100 CPU samples in a second, over the default without them
LABEL_SWITCH_NS = 20  # beyond what the call costs without the library
RECORD_NS = 60  # of a trace, beyond what the call costs without the library
RECORD_STACK_NS = 300  # with a stack of 30 frames
TRACED_THROUGHPUT = 0.90  # of a program with the library and without a trace

PER_CALL_WORKLOADS = ("pair-1", "pair-8", "fixed-1", "fixed-8", "logmix-1", "logmix-8",
                      "larson-64")
SAMPLED_OFTEN_WORKLOADS = ("depth-30-nofp-16384",)
PER_LOCK_WORKLOADS = ("mutex-1", "mutex-parked", "mutex-own-2", "std-mutex-1", "std-mutex-parked",
                      "rwlock-read-1", "std-shared-1", "semaphore-1")
CONTENDED_WORKLOADS = ("mutex-2", "mutex-4", "mutex-16", "rwlock-mixed-4")
COND_WORKLOADS = ("cond-unpinned", "cond-apart", "cond-together")
HEAP_SETS = ("light", "own", "slow", "slowest")


@dataclasses.dataclass(frozen=True)
class Verdict:
    target: str
    workload: str
    measured: str
    reached: bool | None  # None: nothing was measured
    by: str  # how far inside or outside
    limit: str = ""  # what a miss is made of


def spread_text(spread, digits=2):
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}..{spread.high:.{digits}f})"


def percent(ratio):
    return f"{(ratio - 1) * 100:+.1f} %"


def decomposition(results, workload, set_name):
    """Where the time of default sampling goes: interposition, hooks, sampling, noise."""
    def step(variant, baseline):
        return results.ratio(workload, set_name, variant, baseline)
    parts = [("pass-through over no library", step("empty", "none")),
             ("hooks with sampling off over pass-through", step("off", "empty")),
             ("sampling over sampling off", step("default", "off")),
             ("no library against itself (noise)", step("again", "none"))]
    known = [f"{name} {percent(spread.median)} ({percent(spread.low)}..{percent(spread.high)})"
             for name, spread in parts if spread]
    return "; ".join(known)


def missing(target, workload, results, *variants):
    reasons = [results.failure(workload, set_name, name) for set_name, name in variants]
    reason = next((text for text in reasons if text), "not run")
    return Verdict(target, workload, reason, None, "")


def at_most(results, target, workload, baseline, limit, set_name="light", variant="default"):
    ratio = results.ratio(workload, set_name, variant, baseline)
    if ratio is None:
        return missing(target, workload, results, (set_name, variant), (set_name, baseline))
    reached = ratio.median <= limit
    by = f"{abs(ratio.median - limit) * 100:.1f} points {'inside' if reached else 'outside'}"
    if ratio.low <= limit < ratio.high:
        by += ", less than the spread"
    return Verdict(target, workload, spread_text(ratio, 3), reached, by,
                   "" if reached else decomposition(results, workload, set_name))


def memory(results, workload):
    target = f"at most {MORE_PEAK_MIB} MiB + {MORE_PEAK_FRACTION:.0%} more peak memory"
    over = results.over_memory_allowance(workload, MORE_PEAK_MIB, MORE_PEAK_FRACTION)
    more = results.more_peak_mib(workload, "light", "default", "none")
    if over is None:
        return missing(target, workload, results, ("light", "default"), ("light", "none"))
    reached = over.median <= 0
    by = f"{abs(over.median):.1f} MiB {'inside' if reached else 'outside'}"
    return Verdict(target, workload, f"{spread_text(more, 1)} MiB more", reached, by,
                   "" if reached else memory_limit(results, workload))


def memory_limit(results, workload):
    off = results.more_peak_mib(workload, "light", "off", "none")
    again = results.more_peak_mib(workload, "light", "again", "none")
    known = [("with sampling off", off), ("no library against itself (noise)", again)]
    return "; ".join(f"{name} {spread_text(spread, 1)} MiB" for name, spread in known if spread)


def heaptrack_limit(results, workload):
    heaptrack = results.ratio(workload, "slow", "heaptrack", "none")
    exact = results.ratio(workload, "slow", "exact", "none")
    text = f"exact {exact.median:.2f}, heaptrack {heaptrack.median:.2f} times no library"
    if heaptrack.median < FASTER_THAN_HEAPTRACK:
        text += "; out of reach of any profiler: without one the program is only " \
                f"{heaptrack.median:.2f} times faster than under heaptrack"
    if exact.median > 1.005:
        added = (heaptrack.median - 1) / (exact.median - 1)
        text += f"; heaptrack adds {added:.1f} times the time that exact mode adds"
    return text


def faster_than_heaptrack(results, workload):
    target = f"exact mode {FASTER_THAN_HEAPTRACK} times faster than heaptrack"
    ratio = results.ratio(workload, "slow", "heaptrack", "exact")
    if ratio is None:
        return missing(target, workload, results, ("slow", "exact"), ("slow", "heaptrack"))
    reached = ratio.median >= FASTER_THAN_HEAPTRACK
    by = f"{ratio.median / FASTER_THAN_HEAPTRACK:.2f} of the target"
    return Verdict(target, workload, f"{spread_text(ratio)} times faster", reached, by,
                   "" if reached else heaptrack_limit(results, workload))


def lock_verdicts(results):
    names = results.workloads("locks")
    per_lock = f"free lock: default within {PER_LOCK:.2f} of the pass-through interposer"
    contended = f"contended lock: default within {CONTENDED:.2f} of no library"
    cond = f"cond ping-pong: default within {CONTENDED:.2f} of no library"
    return [at_most(results, target, name, baseline, limit, "locks")
            for target, members, baseline, limit in (
                (per_lock, PER_LOCK_WORKLOADS, "empty", PER_LOCK),
                (contended, CONTENDED_WORKLOADS, "none", CONTENDED),
                (cond, COND_WORKLOADS, "none", CONTENDED))
            for name in names if name in members]


def cpu_verdicts(results, real_names):
    target = f"100 CPU samples in a second: within {CPU_SAMPLES:.2f} of the default without them"
    names = results.workloads("cpu")
    switch = [cost(results, name, LABEL_SWITCH_NS, "a label switch", "cpu", "default")
              for name in names if name == "label-switch"]
    return switch + [at_most(results, target, name, "default", CPU_SAMPLES, "cpu", "cpu")
                     for name in names if name in real_names]


def cost(results, workload, limit_ns, what, set_name="trace", variant="trace"):
    target = f"{what}: at most {limit_ns} ns"
    more = results.more(workload, set_name, variant, "none")
    if more is None:
        return missing(target, workload, results, (set_name, variant), (set_name, "none"))
    by = f"{abs(more.median - limit_ns):.0f} ns"
    reached = more.median <= limit_ns
    return Verdict(target, workload, f"{spread_text(more, 1)} ns", reached,
                   f"{by} {'inside' if reached else 'outside'}")


def traced_throughput(results, workload):
    target = f"throughput with a trace at least {TRACED_THROUGHPUT:.2f} of that without"
    slower = results.ratio(workload, "trace", "trace", "off")
    if slower is None:
        return missing(target, workload, results, ("trace", "trace"), ("trace", "off"))
    reached = 1 / slower.median >= TRACED_THROUGHPUT
    by = f"{abs(1 / slower.median - TRACED_THROUGHPUT) * 100:.1f} points"
    measured = f"{1 / slower.median:.3f} ({1 / slower.high:.3f}..{1 / slower.low:.3f})"
    return Verdict(target, workload, measured, reached,
                   f"{by} {'inside' if reached else 'outside'}")


def trace_verdicts(results):
    names = results.workloads("trace")
    judges = {
        "record": lambda name: cost(results, name, RECORD_NS, "a record"),
        "record-stack-30": lambda name: cost(results, name, RECORD_STACK_NS,
                                             "a record with a stack of 30 frames"),
        "redis-server-traced": lambda name: traced_throughput(results, name),
    }
    return [judges[name](name) for name in names if name in judges]


def verdicts(results, real_names):
    """One verdict for each target and workload that was part of the session."""
    return [*heap_verdicts(results, real_names), *lock_verdicts(results), *cpu_verdicts(results, real_names),
            *trace_verdicts(results)]


def heap_verdicts(results, real_names):
    names = results.workloads(*HEAP_SETS)
    real = [name for name in names if name in real_names]
    per_call = f"default within {PER_CALL:.2f} of the pass-through interposer"
    program = f"default within {PER_PROGRAM:.2f} of no library"
    often = f"one block in 32 sampled: within {SAMPLED_OFTEN:.1f} of no library"
    return [
        *(at_most(results, per_call, name, "empty", PER_CALL)
          for name in names if name in PER_CALL_WORKLOADS),
        *(at_most(results, program, name, "none", PER_PROGRAM) for name in real),
        *(at_most(results, often, name, "none", SAMPLED_OFTEN)
          for name in names if name in SAMPLED_OFTEN_WORKLOADS),
        *(memory(results, name) for name in names),
        *(faster_than_heaptrack(results, name) for name in names),
    ]
