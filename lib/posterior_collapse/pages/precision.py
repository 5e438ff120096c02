"""Whether mixed precision changes what a model learns: the same seeds trained in both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from posterior_collapse import benchmarks
from posterior_collapse.reference import Result, results

__all__ = ["MEASURES", "Pairs", "finding", "pairs", "sources", "table"]

MEASURES = {"nll": "NLL", "kl": "KL", "mutual_information": "MI"}


class Pairs(NamedTuple):
    """Runs of a method in both precisions, seed by seed; all else of them is the same."""

    method: str
    plain: tuple[Result, ...]  # float32
    mixed: tuple[Result, ...]  # bfloat16 products in training

    def values(self, measure: str) -> tuple[list[float], list[float]]:
        """A measure in float32 and with bfloat16 products, in order of the seeds."""
        both = self.plain, self.mixed
        plain, mixed = ([float(r.metrics[measure]) for r in group] for group in both)
        return plain, mixed

    def difference(self, measure: str) -> float:
        """Mean of the paired differences: with bfloat16 products less in float32."""
        plain, mixed = self.values(measure)
        return statistics.mean(b - a for a, b in zip(plain, mixed, strict=True))

    def spread(self, measure: str) -> float:
        """Distance of the largest from the smallest value over the seeds of float32."""
        plain, _ = self.values(measure)
        return max(plain) - min(plain)

    def agrees(self, measure: str) -> bool:
        """Whether the precision changes a measure by no more than another seed does."""
        return abs(self.difference(measure)) <= self.spread(measure)

    @property
    def time(self) -> float:
        """Processor time with bfloat16 products over that in float32, median over the seeds."""
        taken = (
            (m.provenance["cpu_seconds"], p.provenance["cpu_seconds"])
            for p, m in zip(self.plain, self.mixed, strict=True)
        )
        return statistics.median(mixed / plain for mixed, plain in taken)


def paired(method: str, plain: Sequence[Result], mixed: Sequence[Result]) -> Pairs:
    """The runs whose seed is there in both precisions."""
    by_seed = {r.spec.seed: r for r in mixed}
    seeds = sorted(r.spec.seed for r in plain if r.spec.seed in by_seed)
    first = {r.spec.seed: r for r in plain}
    return Pairs(method, tuple(first[s] for s in seeds), tuple(by_seed[s] for s in seeds))


def pairs(scale: str = "medium") -> list[Pairs]:
    """What was run of every method that is compared; at least two seeds."""
    recipe, other = benchmarks.PRECISIONS
    found = [
        paired(method, results(other, method, scale), results(recipe, method, scale))
        for method in benchmarks.PRECISION_METHODS
    ]
    return [one for one in found if len(one.plain) > 1]


def table(found: Sequence[Pairs]) -> pd.DataFrame:
    """One row a method and measure, with the values of every seed."""

    def shown(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.3f}" for value in values)

    rows = []
    for one in found:
        for measure, title in MEASURES.items():
            plain, mixed = one.values(measure)
            rows.append(
                {
                    "method": one.method,
                    "measure": title,
                    "float32, by seed": shown(plain),
                    "bfloat16 products": shown(mixed),
                    "mean difference": f"{one.difference(measure):+.3f}",
                    "seeds differ by": one.spread(measure),
                    "agrees": "yes" if one.agrees(measure) else "no",
                    "time": f"{one.time:.2f}",
                }
            )
    return pd.DataFrame(rows)


def finding(found: Sequence[Pairs]) -> str:
    """What the comparison shows, in one sentence."""
    if not found:
        return "No method has been run in both precisions with two seeds."
    told = [one.agrees(measure) for one in found for measure in MEASURES]
    seeds = min(len(one.plain) for one in found)
    time = statistics.median(one.time for one in found)
    return (
        f"{sum(told)} of {len(told)} measures change less with the precision than with the seed "
        f"({seeds} seeds or more); a run takes {time:.2f} of the time."
    )


def sources(found: Sequence[Pairs]) -> list[dict[str, object]]:
    """Provenance of every run that is compared."""
    return [r.provenance for one in found for group in (one.plain, one.mixed) for r in group]
