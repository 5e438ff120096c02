"""What the page on latent geometry asks: figure 1 of DU-VAE, and mini-batches in three ways.

The bounds in the rules are this project's reading of the papers' words; they are stated beside
each verdict.  The slides of Scale-VAE hold a claim and a list of the three ways, and no numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.claims.reference import results as kept
from companion.claims.verdicts import Check, Finding, above, below, between, decide, stated
from companion.numbers import number, spread
from companion.show.figures import COLOURS
from posterior_collapse import methods
from posterior_collapse.datasets import five_gaussians
from posterior_collapse.errors import BadInput
from posterior_collapse.geometry import (
    aggregate_density,
    count_modes,
    displacement,
    off_centre,
    separated,
    within_share,
)

__all__ = [
    "RULES",
    "build",
    "called",
    "decide_partitions",
    "decide_spaces",
    "frames",
    "groups",
    "measure",
    "partition_figure",
    "partition_table",
    "reference",
    "shown_methods",
    "sources",
    "space_figure",
    "space_table",
    "truth_figure",
    "truth_table",
]

Found = Mapping[str, Mapping[str, Sequence[Result]]]  # recipe -> method -> results, one a seed

_FIXED, _REDRAWN, _SORTED = benchmarks.PARTITIONS
_BN, _SCALE = benchmarks.PARTITIONED
_DU = "du-vae(gamma=1, p=0.8)"
_BUDGET = "lagging-fixed(steps=2)"
_WIDTH = 3.0  # of the square that the paper's figure shows
_AXIS = np.linspace(-_WIDTH, _WIDTH, 91)
# The component in the centre is blue, as in the paper; each has a marker of its own as well.
_LOOKS = (
    (COLOURS["vae"], "o"),
    (COLOURS["lagging"], "^"),
    (COLOURS["mi"], "s"),
    (COLOURS["aggregate"], "D"),
    (COLOURS["accent"], "v"),
)


def called(method: str) -> str:
    """Name for readers, without parameters: short enough for a panel's title."""
    return methods.describe(method).title


def shown_methods(scale: str) -> tuple[str, ...]:
    """The five methods of figure 1.

    Aggressive training takes minutes even on a few sentences, so smaller builds give it a fixed
    inner budget instead.
    """
    if scale == "paper":
        return benchmarks.GEOMETRY
    return tuple(_BUDGET if method == "lagging" else method for method in benchmarks.GEOMETRY)


def build(page: Page) -> dict[str, dict[str, list[Result]]]:
    """This build's results: five methods, and two of them on the other partitions."""
    return {
        recipe: {
            method: results.this_build(page, recipe, method)
            for method in (
                shown_methods(page.scale) if recipe == _FIXED else benchmarks.PARTITIONED
            )
        }
        for recipe in benchmarks.PARTITIONS
    }


def reference() -> dict[str, dict[str, list[Result]]]:
    """The reference results at paper scale that the repository keeps; empty without any."""
    found = {
        recipe: {method: kept(recipe, method, "paper") for method in benchmarks.GEOMETRY}
        for recipe in benchmarks.PARTITIONS
    }
    some = {
        recipe: {method: group for method, group in rows.items() if group}
        for recipe, rows in found.items()
    }
    return {recipe: rows for recipe, rows in some.items() if rows}


def groups(own: Found) -> dict[str, Found]:
    """Reference results, where there are any, and this build's; a title says which is which."""
    stored = reference()
    return {**({"Reference": stored} if stored else {}), "This build": own}


# --- the data -------------------------------------------------------------------------------------


def _scatter(axes: Axes, points: ArrayLike, labels: ArrayLike, size: float = 9.0) -> None:
    """Codes by component; those outside the square are drawn on its border."""
    clipped, names = np.clip(np.asarray(points, dtype=float), -_WIDTH, _WIDTH), np.asarray(labels)
    # In turn, not one component after the other: the last one would hide the others.
    for part in range(4):
        for kind, (colour, marker) in enumerate(_LOOKS):
            own = np.flatnonzero(names == kind)[part::4]
            axes.scatter(
                clipped[own, 0],
                clipped[own, 1],
                s=size,
                color=colour,
                marker=marker,
                alpha=0.65,
                linewidths=0,
            )
    _square(axes)


def _square(axes: Axes) -> None:
    limit = 1.03 * _WIDTH
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_xticks((-2, 0, 2))
    axes.set_yticks((-2, 0, 2))
    axes.tick_params(labelsize=7)


def _contours(axes: Axes, density: NDArray[np.float64]) -> None:
    axes.contourf(_AXIS, _AXIS, density, levels=12, cmap="cividis")
    _square(axes)


def _legend(figure: Figure) -> None:
    names = ("centre", *(f"corner {first:+.0f}, {second:+.0f}" for first, second in _corners()))
    handles = [
        figure.axes[0].plot([], [], marker, color=colour, markersize=5, label=name)[0]
        for (colour, marker), name in zip(_LOOKS, names, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)


def _corners() -> tuple[tuple[float, float], ...]:
    return five_gaussians.CENTRES[1:]


def _truth() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """z and component of the test sequences."""
    drawn = five_gaussians.latents()[2]
    return drawn.z.numpy(), drawn.component.numpy()


def truth_figure() -> Figure:
    """The density that z comes from, and the z of a thousand test sequences."""
    z, component = _truth()
    centres = np.array(five_gaussians.CENTRES)
    figure = Figure(figsize=(6.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    spreads = np.full_like(centres, five_gaussians.SPREAD)
    _contours(left, aggregate_density(centres, spreads, _AXIS))
    left.set_title("density of the true z", fontsize=9)
    _scatter(right, z[:1000], component[:1000])
    right.set_title("the z of 1000 test sequences", fontsize=9)
    _legend(figure)
    return figure


class _Case(NamedTuple):
    """Codes of which the answers are known."""

    mean: NDArray[np.float64]  # (N, 2), in evaluation
    std: NDArray[np.float64]  # (N, 2)
    elsewhere: NDArray[np.float64]  # (N, 2), the same examples in training


def _cases() -> tuple[dict[str, _Case], NDArray[np.int64]]:
    """Made codes by name, and the component of each, (N,)."""
    z, component = _truth()
    around = np.full_like(z, 0.1)
    unit, again = np.random.default_rng(0).standard_normal((2, *z.shape))
    merged = np.where(component < 3, 0, component)  # centre and two corners in one place
    places = np.array(five_gaussians.CENTRES)
    three = places[merged] + five_gaussians.SPREAD * unit
    nowhere = np.zeros_like(z)
    return {
        "the true z": _Case(z, around, z),
        "the true z; each component in the centre in training": _Case(
            z, around, z - places[component]
        ),
        "the true z; turned by half a circle in training": _Case(z, around, -z),
        "three components in one place": _Case(three, around, three),
        "places without regard to components": _Case(unit, around, again),
        "collapse: every posterior is the prior": _Case(nowhere, np.ones_like(z), nowhere),
    }, component


def truth_table() -> pd.DataFrame:
    """The measures of this page where the answer is known."""
    cases, labels = _cases()
    rows = []
    for name, case in cases.items():
        rows.append(
            {
                "codes": name,
                "modes of q(z)": count_modes(case.mean[:1000], case.std[:1000]),
                "components apart": separated(case.mean, labels),
                "blue off centre": number(off_centre(case.mean, labels), 2),
                "clutter": number(within_share(case.mean, labels), 3),
                "displacement": number(displacement(case.mean, case.elsewhere), 3),
            }
        )
    return pd.DataFrame(rows)


# --- figure 1 of DU-VAE ---------------------------------------------------------------------------


def _kept(result: Result, name: str) -> NDArray[Any]:
    if name not in result.arrays:
        raise BadInput(f"{result.spec.label()} keeps no {name}; train it again")
    return result.arrays[name]


def _needed(result: Result, name: str) -> NDArray[np.float64]:
    return np.asarray(_kept(result, name), dtype=float)


def _modes(result: Result) -> float:
    return float(count_modes(_needed(result, "code_mean"), _needed(result, "code_std")))


def _apart(result: Result) -> float:
    return float(separated(_needed(result, "code_mean"), _kept(result, "code_label")))


def _clutter(result: Result) -> float:
    return within_share(_needed(result, "code_mean"), _kept(result, "code_label"))


def _centre(result: Result) -> float:
    return off_centre(_needed(result, "code_mean"), _kept(result, "code_label"))


def _batch_clutter(result: Result) -> float:
    return within_share(_needed(result, "code_batch_mean"), _kept(result, "code_label"))


def _moved(result: Result) -> float:
    return displacement(_needed(result, "code_mean"), _needed(result, "code_batch_mean"))


def _breadth(result: Result) -> float:
    """Variance of q(z), averaged over the dimensions; the prior's is 1."""
    mean, std = _needed(result, "code_mean"), _needed(result, "code_std")
    return float((mean.var(axis=0) + np.square(std).mean(axis=0)).mean())


def _mi(result: Result) -> float:
    """Mutual information, nats."""
    return float(result.metrics["mutual_information"])


def _collapsed(result: Result) -> bool:
    """Whether its mutual information is small, or no unit is active: then codes have no clutter."""
    return results.collapsed(result) or math.isnan(_clutter(result))


_MEASURES: dict[str, Callable[[Result], float]] = {
    "modes": _modes,
    "apart": _apart,
    "clutter": _clutter,
    "batch_clutter": _batch_clutter,
    "moved": _moved,
    "breadth": _breadth,
    "centre": _centre,
    "collapsed": _collapsed,
    "mi": _mi,
    "kl": lambda result: float(result.metrics["kl"]),
    "units": lambda result: float(result.metrics["active_units"]),
    "nll": lambda result: float(result.metrics["nll"]),
}


def measure(group: Sequence[Result], name: str) -> list[float]:
    """A measure of each result, one a seed; NaN where a collapsed run has none."""
    return [_MEASURES[name](result) for result in group]


def _cell(group: Sequence[Result], name: str, digits: int) -> str:
    """Mean (standard deviation) over the seeds that have the measure."""
    return spread([value for value in measure(group, name) if math.isfinite(value)], digits)


def _counts(group: Sequence[Result]) -> dict[str, str]:
    """How many seeds there are, and how many of them collapsed."""
    lost = round(sum(measure(group, "collapsed")))
    return {"seeds": str(len(group)), "collapsed": str(lost) if group else "–"}


_COLUMNS = (
    ("modes of q(z)", "modes", 1),
    ("components apart", "apart", 1),
    ("blue off centre", "centre", 2),
    ("variance of q(z)", "breadth", 2),
    ("MI", "mi", 2),
    ("AU", "units", 1),
    ("KL", "kl", 2),
    ("NLL", "nll", 2),
)


def space_table(found: Found) -> pd.DataFrame:
    """One row a method: mean (standard deviation over seeds)."""
    rows = found[_FIXED]
    return pd.DataFrame(
        {
            "method": called(method),
            **{head: _cell(group, name, digits) for head, name, digits in _COLUMNS},
            **_counts(group),
        }
        for method, group in rows.items()
    )


def space_figure(found: Found) -> Figure:
    """Contours of q(z) above posterior means by component, one column a method, first seed."""
    rows = found[_FIXED]
    figure = Figure(figsize=(2.15 * len(rows), 5.0), layout="constrained")
    grid = figure.subplots(2, len(rows), squeeze=False)
    for column, (method, group) in enumerate(rows.items()):
        result = group[0]
        mean, std = _needed(result, "code_mean"), _needed(result, "code_std")
        _contours(grid[0, column], aggregate_density(mean, std, _AXIS))
        grid[0, column].set_title(called(method), fontsize=9)
        _scatter(grid[1, column], mean, result.arrays["code_label"])
    grid[0, 0].set_ylabel("q(z)", fontsize=9)
    grid[1, 0].set_ylabel("posterior means", fontsize=9)
    _legend(figure)
    return figure


def frames(found: Found) -> tuple[list[Figure], list[str]]:
    """Posterior means of validation sequences while training goes on: figures and their labels."""
    firsts = {method: group[0] for method, group in found[_FIXED].items()}
    times = [result.arrays["means_iteration"] for result in firsts.values()]
    common = [int(t) for t in times[0] if all(t in other for other in times)]
    pictures = []
    for iteration in common:
        figure = Figure(figsize=(2.15 * len(firsts), 2.9), layout="constrained")
        grid = figure.subplots(1, len(firsts), squeeze=False)[0]
        for axes, (method, result) in zip(grid, firsts.items(), strict=True):
            place = int(np.flatnonzero(result.arrays["means_iteration"] == iteration)[0])
            labels = result.arrays["means_label"]
            _scatter(axes, result.arrays["means_mean"][place], labels, size=7.0)
            axes.set_title(called(method), fontsize=9)
        _legend(figure)
        pictures.append(figure)
    return pictures, [f"after {iteration} updates" for iteration in common]


def _differences(
    first: Sequence[Result], second: Sequence[Result], measured: Callable[[Result], float]
) -> list[float]:
    """Difference first - second of a measure, seed by seed; seeds that one lacks are left out."""
    others = {result.spec.seed: measured(result) for result in second}
    return [measured(r) - others[r.spec.seed] for r in first if r.spec.seed in others]


def _centred(told: str, values: Sequence[float]) -> Check:
    """Whether blue is in the centre, over the seeds that have one; open without any."""
    quantity, finite = f"{told}: blue off centre", [v for v in values if math.isfinite(v)]
    if finite:
        return below(quantity, finite, 0.5)
    return stated(quantity, below(quantity, [0.5], 0.5).rule, None, "no seed that has it")


def _standing(method: str, group: Sequence[Result]) -> Check:
    """Premise: no seed of a model has collapsed."""
    return results.standing(called(method), group, _collapsed)


def decide_spaces(found: Found) -> Finding | None:
    """Rule for figure 1: what the paper says of each space.

    None without the methods' results, or if DU-VAE has no seed in common with the other two.

    "Only DU-VAE has five centres" becomes a count of modes of q(z) of five for DU-VAE, and of more
    than the others have at the same seed: fewer than five earns nothing where DU-VAE has no five
    either.  "Embedding the blue category in the center around by the other four",
    which is said of three models, becomes half the others' distance from the centre, or less.
    "More compact" and "more broad" become a variance of DU-VAE's q(z) below BN-VAE's.  BN-VAE's
    variance against the prior's is no check, as gamma = 1 forces it above 1.

    Premise: no seed of BN-VAE has collapsed, as DU-VAE is compared with it.  DU-VAE, which is
    praised, earns nothing if one of its own has: a model that collapsed has a narrow q(z) and few
    modes.
    That aggressive training does not collapse is a claim, which components apart decide.
    """
    rows = found.get(_FIXED, {})
    aggressive = "lagging" if "lagging" in rows else _BUDGET
    if not all(rows.get(method) for method in ("vae", aggressive, _BN, _DU)):
        return None
    broader = _differences(rows[_DU], rows[_BN], _breadth)
    more = {
        "aggressive": _differences(rows[_DU], rows[aggressive], _modes),
        "BN-VAE": _differences(rows[_DU], rows[_BN], _modes),
    }
    if not (broader and all(more.values())):
        return None

    def of(method: str, name: str) -> list[float]:
        return measure(rows[method], name)

    checks = [
        below("VAE: mutual information, nats", of("vae", "mi"), results.COLLAPSE),
        below("VAE: components apart", of("vae", "apart"), 1.5),
        above("aggressive: components apart", of(aggressive, "apart"), 1.5),
        above("BN-VAE: components apart", of(_BN, "apart"), 1.5),
        above("DU-VAE: components apart", of(_DU, "apart"), 1.5),
        _centred("aggressive", of(aggressive, "centre")),
        _centred("BN-VAE", of(_BN, "centre")),
        _centred("DU-VAE", of(_DU, "centre")),
        between("DU-VAE: modes of q(z)", of(_DU, "modes"), 4.5, 5.5),
        *(above(f"modes of q(z), DU-VAE less {other}", by, 0.5) for other, by in more.items()),
        below("variance of q(z), DU-VAE less BN-VAE", broader, 0.0),
    ]
    living = results.alive(called(_DU), rows[_DU], _collapsed)
    every = [_standing(_BN, rows[_BN]), *results.earned(living, checks)]
    return decide("du-fig1", rows["vae"][0].spec.scale, every)


# --- mini-batches in three ways -------------------------------------------------------------------

_PARTED = (
    ("clutter, in evaluation", "clutter", 3),
    ("clutter, in training's batches", "batch_clutter", 3),
    ("displacement", "moved", 3),
    ("components apart", "apart", 1),
    ("MI", "mi", 2),
)


def partition_table(found: Found) -> pd.DataFrame:
    """One row a method and a partition: mean (standard deviation over seeds that have it)."""
    rows = []
    for method in benchmarks.PARTITIONED:
        for recipe, told in benchmarks.PARTITIONS.items():
            group = found.get(recipe, {}).get(method, ())
            cells = {head: _cell(group, name, d) for head, name, d in _PARTED}
            rows.append(
                {
                    "method": called(method),
                    "mini-batches": told,
                    **cells,
                    **_counts(group),
                }
            )
    return pd.DataFrame(rows)


def partition_figure(found: Found) -> Figure:
    """Posterior means of the first seed: a column a partition, two rows a method."""
    wanted = [(method, view) for method in benchmarks.PARTITIONED for view in _VIEWS]
    figure = Figure(figsize=(7.2, 2.4 * len(wanted)), layout="constrained")
    grid = figure.subplots(len(wanted), len(benchmarks.PARTITIONS), squeeze=False)
    for line, (method, (array, told)) in zip(grid, wanted, strict=True):
        for axes, (recipe, title) in zip(line, benchmarks.PARTITIONS.items(), strict=True):
            group = found.get(recipe, {}).get(method, ())
            if not group:
                axes.set_axis_off()
                continue
            _scatter(axes, _needed(group[0], array), group[0].arrays["code_label"], size=7.0)
            axes.set_title(title, fontsize=8)
        line[0].set_ylabel(f"{called(method)},\n{told}", fontsize=8)
    _legend(figure)
    return figure


_VIEWS = (("code_mean", "in evaluation"), ("code_batch_mean", "in training's batches"))


def decide_partitions(found: Found) -> Finding | None:
    """Rule for the three ways; None where one of them has no results, or no seed in common.

    Cluttered by the split: where a batch holds one component, the share of variance within
    components is higher than with random batches, by more than 0.1, both in evaluation and in
    training's batches.  Not cluttered: it is no more than 0.1 higher.  Scale-VAE's displacement is
    no check: batches share one factor after the first epochs, so it is 0 from then on.

    Premise: with fixed random batches, from where the rise is measured, no seed has collapsed.

    A seed that another split collapsed counts against the claim, whichever model it is.  Without
    an active unit there is no clutter, so BN-VAE is not cluttered there: its rise and displacement
    count as 0.  And no space is kept, which is what Scale-VAE claims: its rise counts as 1, the
    largest that there is.  To leave such seeds out would be a selection by outcome.
    """
    rows = {recipe: found.get(recipe, {}) for recipe in benchmarks.PARTITIONS}
    if not all(row.get(method) for row in rows.values() for method in benchmarks.PARTITIONED):
        return None

    def rise(method: str, name: str, recipe: str = _SORTED) -> list[float]:
        """How much a measure rises from fixed random batches, seed by seed; NaN of a collapse."""
        measured = functools.partial(_standing_value, name)
        return _differences(rows[recipe][method], rows[_FIXED][method], measured)

    needed = ((_BN, _SORTED), (_SCALE, _SORTED), (_SCALE, _REDRAWN))
    if not all(rise(method, "clutter", recipe) for method, recipe in needed):
        return None
    moved = [_standing_value("moved", run) for run in rows[_SORTED][_BN]]
    redrawn = rise(_SCALE, "clutter", _REDRAWN)
    checks = [
        _counted(_BN, "rise of clutter, evaluation", rise(_BN, "clutter")),
        _counted(_BN, "rise of clutter, training's batches", rise(_BN, "batch_clutter")),
        _counted(_BN, "displacement", moved),
        _counted(_SCALE, "rise of clutter, evaluation", rise(_SCALE, "clutter")),
        _counted(_SCALE, "rise of clutter, training's batches", rise(_SCALE, "batch_clutter")),
        _counted(_SCALE, "rise of clutter with redrawn batches, evaluation", redrawn),
    ]
    scale = rows[_FIXED][_BN][0].spec.scale
    premises = [_standing(method, rows[_FIXED][method]) for method in (_BN, _SCALE)]
    return decide("scale-fig-latent", scale, [*premises, *checks])


def _standing_value(name: str, result: Result) -> float:
    """A measure of a result that has not collapsed; NaN of one that has."""
    return math.nan if _collapsed(result) else _MEASURES[name](result)


class _Claimed(NamedTuple):
    compare: Callable[[str, Sequence[float], float], Check]
    lost: float  # what a collapsed seed counts as, against the claim


_CLAIMED = {_BN: _Claimed(above, 0.0), _SCALE: _Claimed(below, 1.0)}


def _counted(method: str, told: str, values: Sequence[float]) -> Check:
    """A check against 0.1 that counts seeds that collapsed, NaN, and says how many there are."""
    compare, lost = _CLAIMED[method]
    quantity, gone = f"{called(method)}: {told}", sum(map(math.isnan, values))
    if gone:
        quantity += f" ({gone} collapsed, counted as {lost:g})"
    return compare(quantity, [lost if math.isnan(value) else value for value in values], 0.1)


RULES = (decide_spaces, decide_partitions)


def sources(shown: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Provenance of every result that a page shows."""
    return [
        result.provenance
        for found in shown.values()
        for rows in found.values()
        for group in rows.values()
        for result in group
    ]
