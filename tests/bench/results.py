# SPDX-License-Identifier: Apache-2.0
"""What was measured, as numbers to compare. Knows nothing of tables or of how runs are made."""

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Spread:
    """Middle and spread of one value a round."""

    median: float
    low: float  # quartiles
    high: float
    rounds: int

    @classmethod
    def of(cls, values):
        if len(values) < 2:
            return cls(values[0], values[0], values[0], 1)
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high, len(values))


class Results:
    def __init__(self, runs):
        self.runs = list(runs)
        self._by_key = {}
        for run in self.runs:
            key = (run.workload, run.set_name, run.variant)
            self._by_key.setdefault(key, {})[run.round_number] = run

    def workloads(self, *set_names):
        """Those that were part of any of the sets, in the order of the session."""
        return list(dict.fromkeys(run.workload for run in self.runs if run.set_name in set_names))

    def was_run(self, workload, set_name, variant):
        return (workload, set_name, variant) in self._by_key

    def good(self, workload, set_name, variant):
        """Round number -> run, without those that failed."""
        rounds = self._by_key.get((workload, set_name, variant), {})
        return {number: run for number, run in rounds.items() if not run.failure}

    def failure(self, workload, set_name, variant):
        """The reason if no run succeeded, else nothing."""
        rounds = self._by_key.get((workload, set_name, variant), {})
        if not rounds or any(not run.failure for run in rounds.values()):
            return ""
        return next(iter(rounds.values())).failure

    def failures(self):
        """(workload, variant, reason) -> number of runs that failed so."""
        counts = {}
        for run in self.runs:
            if run.failure:
                key = (run.workload, run.variant, run.failure)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def _pairs(self, workload, set_name, variant, baseline):
        mine = self.good(workload, set_name, variant)
        theirs = self.good(workload, set_name, baseline)
        return [(mine[number], theirs[number]) for number in mine if number in theirs]

    def _spread(self, workload, set_name, variant, baseline, compare):
        pairs = self._pairs(workload, set_name, variant, baseline)
        return Spread.of([compare(*pair) for pair in pairs]) if pairs else None

    def value(self, workload, set_name, variant):
        return self._spread(workload, set_name, variant, variant, lambda run, _: run.value)

    def ratio(self, workload, set_name, variant, baseline):
        """Time over the baseline's time in the same round."""
        return self._spread(workload, set_name, variant, baseline,
                            lambda run, base: run.value / base.value)

    def more(self, workload, set_name, variant, baseline):
        """Beyond the baseline's value in the same round."""
        return self._spread(workload, set_name, variant, baseline,
                            lambda run, base: run.value - base.value)

    def cpu_ratio(self, workload, set_name, variant, baseline):
        return self._spread(workload, set_name, variant, baseline,
                            lambda run, base: run.cpu_s / max(base.cpu_s, 1e-6))

    def peak_mib(self, workload, set_name, variant):
        return self._spread(workload, set_name, variant, variant,
                            lambda run, _: run.peak_kib / 1024)

    def more_peak_mib(self, workload, set_name, variant, baseline):
        return self._spread(workload, set_name, variant, baseline,
                            lambda run, base: (run.peak_kib - base.peak_kib) / 1024)

    def over_memory_allowance(self, workload, fixed_mib, fraction):
        """MiB of peak memory beyond the allowance, per round; negative is inside."""
        return self._spread(
            workload, "light", "default", "none",
            lambda run, base: (run.peak_kib - base.peak_kib * (1 + fraction)) / 1024 - fixed_mib)
