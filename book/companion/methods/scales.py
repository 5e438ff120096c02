"""The page on scales: what a smaller recipe needs so that methods can be told apart there."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.claims import evidence, premises
from companion.claims import groups as benchmarks
from companion.claims import table as tidy
from companion.claims.comparison import called
from companion.claims.premises import CARRIED, Premise, premise_of
from companion.claims.reference import Result
from companion.claims.table import Column, frame, values
from posterior_collapse import recipes
from posterior_collapse.recipes import Setup

SWEEPS = {"sweep-yelp": "Short Yelp", "sweep-yahoo": "Yahoo, first 20 words"}


class Cell(NamedTuple):
    """One set-up of a sweep, with what the four models of its premise gave; nan where not run."""

    width: float  # of the uniform first weights; embeddings are ten times as wide
    optimiser: str
    sentences: int
    gain: float  # NLL of the model without latent less the autoencoder's reconstruction, nats
    units: float  # active ones of the autoencoder
    plain: float  # MI of the plain VAE, nats
    control: float  # MI of the beta-VAE, nats
    without: float  # validation loss of the model without latent, nats
    premise: Premise
    results: tuple[Result, ...]


def _best(group: Sequence[Result]) -> float:
    """Lowest validation loss of a run, mean over seeds, nats per sentence."""
    losses = [float(r.history["valid_loss"].min()) for r in group]
    return float(np.mean(losses)) if losses else float("nan")


def _cell(recipe: str, scale: str) -> Cell:
    setup = recipes.get(recipe, scale)
    runs = {m: evidence.results(recipe, m, scale) for m in benchmarks.PREMISE}
    data = frame(runs)

    def mean(method: str, name: str) -> float:
        return float(values(data, method, name).mean())

    coder, model = benchmarks.AUTOENCODER, benchmarks.LANGUAGE_MODEL
    return Cell(
        _width(setup),
        setup.optimisation.optimiser,
        setup.train,
        mean(model, "nll") - mean(coder, "reconstruction"),
        mean(coder, "active_units"),
        mean(benchmarks.VAE, "mutual_information"),
        mean(benchmarks.LOW_BETA, "mutual_information"),
        _best(runs[model]),
        premise_of(runs, recipe, scale),
        tuple(evidence.every(runs)),
    )


def _width(setup: Setup) -> float:
    return float(setup.network.init_parameters[1])  # type: ignore[attr-defined]


def cells(recipe: str) -> list[Cell]:
    """Every set-up of a sweep that was run, at least in part."""
    every = [_cell(recipe, scale) for scale in recipes.scales(recipe) if scale != "smoke"]
    return [cell for cell in every if cell.results]


def finding(sweeps: Mapping[str, Sequence[Cell]]) -> str:
    """What the sweeps show, in one sentence."""
    complete = [
        cell
        for sweep in sweeps.values()
        for cell in sweep
        if all(part.holds is not None for part in cell.premise.parts)
    ]
    if not complete:
        return "No set-up has been run with all four models."
    met = [cell for cell in complete if cell.premise.holds]
    narrow = min(cell.width for cell in complete)
    dead = [cell for cell in complete if cell.width == narrow and not cell.premise.holds]
    of_narrow = sum(cell.width == narrow for cell in complete)
    return (
        f"{len(met)} of {len(complete)} set-ups can tell methods apart; with first weights of "
        f"±{narrow:g} {len(dead)} of {of_narrow} cannot."
    )


# Title and reader of each panel; higher is darker.
_INFORMATION = ("plain", "control")
_PANELS = (
    ("autoencoder: nats saved", "gain"),
    ("VAE: MI (nats)", "plain"),
    ("β-VAE, β = 0.2: MI (nats)", "control"),
    ("no latent: validation NLL (nats)", "without"),
)


def _grid(sweep: Sequence[Cell], name: str) -> tuple[list[str], list[str], NDArray[np.floating]]:
    """Rows (optimiser and sentences), columns (width of first weights) and values."""
    rows = sorted({(c.optimiser, c.sentences) for c in sweep})
    columns = sorted({c.width for c in sweep})
    values = np.full((len(rows), len(columns)), np.nan)
    for c in sweep:
        place = rows.index((c.optimiser, c.sentences)), columns.index(c.width)
        values[place] = getattr(c, name)
    labels = [f"{kind.upper() if kind == 'sgd' else 'Adam'}, {count:,}" for kind, count in rows]
    return labels, [f"±{width:.2g}" for width in columns], values


def figure(sweep: Sequence[Cell]) -> Figure:
    """A sweep over first weights, optimiser and sentences, one panel a measure.

    Args:
        sweep: its cells, at least one.
    """
    rows, columns, _ = _grid(sweep, "gain")
    drawn = Figure(figsize=(8.2, 1.6 + 0.9 * len(rows)), layout="constrained")
    axes = drawn.subplots(2, 2).flatten()
    for (measure, name), panel in zip(_PANELS, axes, strict=True):
        values = _grid(sweep, name)[2]
        low, high = np.nanmin(values), np.nanmax(values)
        if name in _INFORMATION:  # hundredths of a nat are no information, whatever they look like
            low, high = 0.0, max(CARRIED, high)
        panel.imshow(values, cmap="cividis_r", aspect="auto", vmin=low, vmax=high)
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > middle else "black"
                shown = f"{round(float(value), 2) + 0.0:.2f}"  # no minus before 0.00
                panel.text(column, row, shown, ha="center", va="center", color=colour)
        panel.set_xticks(range(len(columns)), columns)
        panel.set_yticks(range(len(rows)), rows)
        panel.set_title(measure, fontsize=9)
        panel.set_xlabel("first weights, uniform", fontsize=8)
    return drawn


def table(sweep: Sequence[Cell]) -> pd.DataFrame:
    """One row a set-up, with the three parts of its premise."""
    rows = [
        {
            "first weights": f"±{c.width:.2g}",
            "optimiser": "SGD" if c.optimiser == "sgd" else "Adam",
            "sentences": f"{c.sentences:,}",
            "autoencoder: nats saved": c.gain,
            "its active units": c.units,
            "MI of the VAE": c.plain,
            "MI of the β-VAE": c.control,
            "premise": "met" if c.premise.holds else "not met",
        }
        for c in sweep
    ]
    return pd.DataFrame(rows)


def recipes_table() -> tuple[pd.DataFrame, list[Result]]:
    """Every recipe on text with reference results: whether its premise is met, and why not."""
    rows, used = [], []
    for name in recipes.names():
        if name.startswith("sweep-") or name == benchmarks.FLOAT32:
            continue
        for scale in recipes.scales(name):
            runs = evidence.stored(name, _used(name, scale), scale)
            if not runs or scale == "smoke":
                continue
            premise = premise_of(runs, name, scale)
            used += evidence.every(runs)
            parts = {p.name: p.numbers for p in premise.parts}
            rows.append({"recipe": name, "scale": scale, **parts, "premise": _word(premise)})
    return pd.DataFrame(rows), used


_BOTH = (Column("NLL", "nll"), Column("MI", "mutual_information"))


def optimisers() -> tuple[pd.DataFrame, list[Result]]:
    """The rows that were trained by SGD as well, beside the same by Adam: NLL, MI and units."""
    rows, used = [], []
    for method in benchmarks.OPTIMISED:
        shown = {"method": called(method)}
        for title, recipe in (("Adam", "text-yelp"), ("SGD", "text-yelp-sgd")):
            group = evidence.results(recipe, method, "medium")
            used += group
            own = tidy.cells(frame(group), _BOTH)
            shown |= {f"{name}, {title}": cell for name, cell in own.items()}
        rows.append(shown)
    return pd.DataFrame(rows), used


def _used(name: str, scale: str) -> list[str]:
    """Methods whose results a premise can use: those planned with the names that it knows."""
    planned = {s.method for s in benchmarks.planned() if (s.recipe, s.scale) == (name, scale)}
    if benchmarks.LANGUAGE_MODEL not in planned:  # no premise is asked of images and of the plane
        return []
    return [m for m in sorted(planned) if m in premises.METHODS or premises.is_control(m)]


def _word(premise: Premise) -> str:
    if premise.holds:
        return "met"
    return "not met" if any(part.holds is False for part in premise.parts) else "not shown"


def sources(sweeps: Mapping[str, Sequence[Cell]]) -> list[dict[str, object]]:
    """Provenance of every run of the sweeps."""
    return [r.provenance for sweep in sweeps.values() for c in sweep for r in c.results]


# --- mixed precision: the same seeds trained in both ---------------------------------------------

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


def precision_pairs(scale: str = "medium") -> list[Pairs]:
    """What was run of every method that is compared; at least two seeds."""
    both = [
        paired(
            method,
            evidence.results(benchmarks.FLOAT32, method, scale),
            evidence.results(benchmarks.BFLOAT16, method, scale),
        )
        for method in benchmarks.PRECISION_METHODS
    ]
    return [one for one in both if len(one.plain) > 1]


def precision_table(both: Sequence[Pairs]) -> pd.DataFrame:
    """One row a method and measure, with the values of every seed."""

    def shown(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.3f}" for value in values)

    rows = []
    for one in both:
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


def precision_finding(both: Sequence[Pairs]) -> str:
    """What the comparison shows, in one sentence."""
    if not both:
        return "No method has been run in both precisions with two seeds."
    agreements = [one.agrees(measure) for one in both for measure in MEASURES]
    seeds = min(len(one.plain) for one in both)
    time = statistics.median(one.time for one in both)
    return (
        f"{sum(agreements)} of {len(agreements)} measures change less with the precision than "
        f"with the seed ({seeds} seeds or more); a run takes {time:.2f} of the time."
    )


def precision_sources(both: Sequence[Pairs]) -> list[dict[str, object]]:
    """Provenance of every run that is compared."""
    return [r.provenance for one in both for group in (one.plain, one.mixed) for r in group]
