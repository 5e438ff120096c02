"""The page on scales: what a smaller recipe needs so that methods can be told apart there."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.claims import evidence, premises
from companion.claims import groups as benchmarks
from companion.claims import table as tidy
from companion.claims.comparison import called
from companion.claims.premises import CARRIED, Premise, premise_of
from companion.claims.reference import Result
from companion.claims.table import Column, frame, values
from companion.show.figures import canvas, heat
from posterior_collapse import recipes

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

    @property
    def trained(self) -> str:
        """The optimiser's name for readers."""
        return "SGD" if self.optimiser == "sgd" else "Adam"


def _best(result: Result) -> float:
    """Lowest validation loss of a run, nats per sentence."""
    return float(result.history["valid_loss"].min())


def _cell(recipe: str, scale: str) -> Cell:
    setup = recipes.get(recipe, scale)
    runs = {m: evidence.results(recipe, m, scale) for m in benchmarks.PREMISE}
    data, (model, coder, plain, control) = frame(runs, {"best": _best}), benchmarks.PREMISE

    def mean(method: str, name: str) -> float:
        return float(values(data, method, name).mean())

    return Cell(
        float(setup.network.init_parameters[1]),  # type: ignore[attr-defined]
        setup.optimisation.optimiser,
        setup.train,
        mean(model, "nll") - mean(coder, "reconstruction"),
        mean(coder, "active_units"),
        mean(plain, "mutual_information"),
        mean(control, "mutual_information"),
        mean(model, "best"),
        premise_of(runs, recipe, scale),
        tuple(evidence.every(runs)),
    )


def cells(recipe: str) -> list[Cell]:
    """Every set-up of a sweep that was run, at least in part."""
    every = [_cell(recipe, scale) for scale in recipes.scales(recipe) if scale != "smoke"]
    return [cell for cell in every if cell.results]


def finding(sweeps: Mapping[str, Sequence[Cell]]) -> str:
    """What the sweeps show, in one sentence."""
    every = [cell for sweep in sweeps.values() for cell in sweep]
    complete = [c for c in every if all(part.holds is not None for part in c.premise.parts)]
    if not complete:
        return "No set-up has been run with all four models."
    least = min(cell.width for cell in complete)
    narrow = [cell.premise.holds for cell in complete if cell.width == least]
    return (
        f"{sum(cell.premise.holds for cell in complete)} of {len(complete)} set-ups can tell "
        f"methods apart. Of the {len(narrow)} whose weights start within ±{least:g}, "
        f"{narrow.count(True) or 'none'} can."
    )


# Title and reader of each panel; higher is darker.
_INFORMATION = ("plain", "control")
_PANELS = (
    ("autoencoder: nats saved", "gain"),
    ("VAE: MI (nats)", "plain"),
    ("β-VAE, β = 0.2: MI (nats)", "control"),
    ("no latent: validation NLL (nats)", "without"),
)


def figure(sweep: Sequence[Cell]) -> Figure:
    """A sweep over first weights, optimiser and sentences, one panel a measure.

    Args:
        sweep: its cells, at least one.
    """
    data = pd.DataFrame(sweep).pivot(index=["optimiser", "sentences"], columns="width")
    rows = [f"{'SGD' if kind == 'sgd' else 'Adam'}, {count:,}" for kind, count in data.index]
    drawn, grid = canvas(8.2, 1.6 + 0.9 * len(rows), 2, 2)
    for (measure, name), panel in zip(_PANELS, grid.flatten(), strict=True):
        shades = data[name].to_numpy(dtype=float)
        low, high = np.nanmin(shades), np.nanmax(shades)
        if name in _INFORMATION:  # hundredths of a nat are no information, whatever they look like
            low, high = 0.0, max(CARRIED, high)
        heat(panel, rows, [f"±{width:.2g}" for width in data[name].columns], shades, low, high)
        panel.set_title(measure, fontsize=9)
        panel.set_xlabel("first weights, uniform", fontsize=8)
    return drawn


def table(sweep: Sequence[Cell]) -> pd.DataFrame:
    """One row a set-up, with the three parts of its premise."""
    rows = [
        {
            "first weights": f"±{c.width:.2g}",
            "optimiser": c.trained,
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
    names = [n for n in recipes.names() if n != benchmarks.FLOAT32 and not n.startswith("sweep-")]
    for name, scale in ((own, scale) for own in names for scale in recipes.scales(own)):
        if scale != "smoke" and (runs := evidence.stored(name, _used(name, scale), scale)):
            premise = premise_of(runs, name, scale)
            used += evidence.every(runs)
            parts = {part.name: part.numbers for part in premise.parts}
            rows.append({"recipe": name, "scale": scale, **parts, "premise": premise.word})
    return pd.DataFrame(rows), used


_BOTH = (Column("NLL", "nll"), Column("MI", "mutual_information"))


def optimisers() -> tuple[pd.DataFrame, list[Result]]:
    """The rows that were trained by SGD as well, beside the same by Adam: NLL, MI and units."""
    rows, used = [], []
    for method in benchmarks.OPTIMISED:
        row = {"method": called(method)}
        for title, recipe in (("Adam", "text-yelp"), ("SGD", "text-yelp-sgd")):
            group = evidence.results(recipe, method, "medium")
            used += group
            own = tidy.cells(frame(group), _BOTH)
            row |= {f"{name}, {title}": cell for name, cell in own.items()}
        rows.append(row)
    return pd.DataFrame(rows), used


def _used(name: str, scale: str) -> list[str]:
    """Methods whose results a premise can use: those planned with the names that it knows."""
    planned = {s.method for s in benchmarks.planned() if (s.recipe, s.scale) == (name, scale)}
    if benchmarks.LANGUAGE_MODEL not in planned:  # no premise is asked of images and of the plane
        return []
    return [m for m in sorted(planned) if m in premises.METHODS or premises.is_control(m)]


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
        return statistics.mean(b - a for a, b in zip(*self.values(measure), strict=True))

    def spread(self, measure: str) -> float:
        """Range of the values over the seeds of float32."""
        return max(self.values(measure)[0]) - min(self.values(measure)[0])

    def agrees(self, measure: str) -> bool:
        """Whether the precision changes a measure by no more than another seed does."""
        return abs(self.difference(measure)) <= self.spread(measure)

    @property
    def time(self) -> float:
        """Processor time with bfloat16 products over that in float32, median over the seeds."""
        plain, mixed = ([r.provenance["cpu_seconds"] for r in group] for group in self[1:])
        return statistics.median(b / a for a, b in zip(plain, mixed, strict=True))


def paired(method: str, plain: Sequence[Result], mixed: Sequence[Result]) -> Pairs:
    """The runs whose seed is there in both precisions."""
    first, second = ({r.spec.seed: r for r in group} for group in (plain, mixed))
    seeds = sorted(first.keys() & second.keys())
    return Pairs(method, tuple(first[s] for s in seeds), tuple(second[s] for s in seeds))


def precision_pairs(scale: str = "medium") -> list[Pairs]:
    """What was run of every method that is compared; at least two seeds."""
    precisions = (benchmarks.FLOAT32, benchmarks.BFLOAT16)
    both = [
        paired(method, *(evidence.results(recipe, method, scale) for recipe in precisions))
        for method in benchmarks.PRECISION_METHODS
    ]
    return [one for one in both if len(one.plain) > 1]


def precision_table(both: Sequence[Pairs]) -> pd.DataFrame:
    """One row a method and measure, with the values of every seed."""
    rows = []
    for one, measure in itertools.product(both, MEASURES):
        plain, mixed = (
            ", ".join(f"{value:.3f}" for value in group) for group in one.values(measure)
        )
        rows.append(
            {
                "method": one.method,
                "measure": MEASURES[measure],
                "float32, by seed": plain,
                "bfloat16 products": mixed,
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
    return [r.provenance for one in both for r in (*one.plain, *one.mixed)]
