"""What the page on latent geometry asks: figure 1 of DU-VAE, and mini-batches in three ways.

The bounds in the rules are this project's reading of the papers' words; they are stated beside
each verdict.  The slides of Scale-VAE hold a claim and a list of the three ways, and no numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from companion.build.parameters import Page
from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.groups import (
    FIXED_BATCHES,
    PARTITIONED,
    PARTITIONS,
    PLANE_BATCH_NORM,
    PLANE_DU,
    PLANE_SCALE,
    REDRAWN_BATCHES,
    SORTED_BATCHES,
)
from companion.claims.reference import Result
from companion.claims.table import Column, Measure, Runs, cells, differences, frame, only, values
from companion.claims.verdicts import Check, Finding, above, below, between, decide, stated
from companion.show.figures import COLOURS, canvas
from companion.show.players import Track, examples
from posterior_collapse import methods
from posterior_collapse.datasets import five_gaussians
from posterior_collapse.geometry import (
    aggregate_density,
    count_modes,
    displacement,
    off_centre,
    separated,
    within_share,
)

Group = Mapping[str, Runs]  # recipe -> method -> results, one per seed

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
    aggressive = benchmarks.AGGRESSIVE
    return tuple(_BUDGET if method == aggressive else method for method in benchmarks.GEOMETRY)


def build(page: Page) -> dict[str, Runs]:
    """This build's results: five methods, and two of them on the other partitions."""
    every = {recipe: PARTITIONED for recipe in PARTITIONS}
    wanted = every | {FIXED_BATCHES: shown_methods(page.scale)}
    return {recipe: evidence.built(page, recipe, methods_) for recipe, methods_ in wanted.items()}


def groups(own: Group) -> dict[str, Group]:
    """Reference results, where there are any, and this build's; a title says which is which."""
    stored = {name: evidence.stored(name, benchmarks.GEOMETRY, "paper") for name in PARTITIONS}
    reference = {recipe: runs for recipe, runs in stored.items() if runs}
    return {**({"Reference": reference} if reference else {}), "This build": own}


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
    corners = five_gaussians.CENTRES[1:]
    names = ("centre", *(f"corner {first:+.0f}, {second:+.0f}" for first, second in corners))
    handles = [
        figure.axes[0].plot([], [], marker, color=colour, markersize=5, label=name)[0]
        for (colour, marker), name in zip(_LOOKS, names, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)


def truth_figure() -> Figure:
    """The density that z comes from, and the z of a thousand test sequences."""
    drawn = five_gaussians.latents()[2]  # of the test sequences
    z, component = drawn.z.numpy(), drawn.component.numpy()
    centres = np.array(five_gaussians.CENTRES)
    figure, (left, right) = canvas(6.4, 3.9, 2)
    spreads = np.full_like(centres, five_gaussians.SPREAD)
    _contours(left, aggregate_density(centres, spreads, _AXIS))
    left.set_title("density of the true z", fontsize=9)
    _scatter(right, z[:1000], component[:1000])
    right.set_title("the z of 1000 test sequences", fontsize=9)
    _legend(figure)
    return figure


# --- figure 1 of DU-VAE ---------------------------------------------------------------------------


def _codes(result: Result, name: str) -> NDArray[Any]:
    """Codes in double precision, or their components, which stay whole numbers."""
    stored = evidence.array(result, name)
    return stored if name == "code_label" else np.asarray(stored, dtype=float)


def _of(measure: Callable[..., float], first: str, second: str) -> Callable[[Result], float]:
    """A measure of two arrays of a result."""
    return lambda result: float(measure(_codes(result, first), _codes(result, second)))


_clutter = _of(within_share, "code_mean", "code_label")


def _breadth(result: Result) -> float:
    """Variance of q(z), averaged over the dimensions; the prior's is 1."""
    mean, std = _codes(result, "code_mean"), _codes(result, "code_std")
    return float((mean.var(axis=0) + np.square(std).mean(axis=0)).mean())


def _collapsed(result: Result) -> bool:
    """Whether its mutual information is small, or no unit is active: then codes have no clutter."""
    return evidence.collapsed(result) or math.isnan(_clutter(result))


_MEASURES: dict[str, Measure] = {
    "modes": _of(count_modes, "code_mean", "code_std"),
    "apart": _of(separated, "code_mean", "code_label"),
    "clutter": _clutter,
    "batch_clutter": _of(within_share, "code_batch_mean", "code_label"),
    "moved": _of(displacement, "code_mean", "code_batch_mean"),
    "breadth": _breadth,
    "centre": _of(off_centre, "code_mean", "code_label"),
    "collapsed": _collapsed,
}
_COLUMNS = (
    Column("modes of q(z)", "modes", 1),
    Column("components apart", "apart", 1),
    Column("blue off centre", "centre"),
    Column("variance of q(z)", "breadth"),
    Column("MI", "mutual_information"),
    Column("AU", "active_units", 1),
    Column("KL", "kl"),
    Column("NLL", "nll"),
)


def _measured(runs: Runs, *names: str) -> pd.DataFrame:
    """The long table of results with some measures of codes; NaN where a collapsed run has none."""
    return frame(runs, {name: _MEASURES[name] for name in names})


def _cells(group: Sequence[Result], columns: Sequence[Column]) -> dict[str, str]:
    """Cells of one method's row, its seeds, and how many of them collapsed."""
    names = {column.metric for column in columns} & set(_MEASURES)
    shown = cells(_measured({"": group}, *names), columns)
    return shown | {"collapsed": str(sum(map(_collapsed, group))) if group else "–"}


def space_table(group: Group) -> pd.DataFrame:
    """One row a method: mean (standard deviation over seeds)."""
    rows = group[FIXED_BATCHES].items()
    return pd.DataFrame({"method": called(m), **_cells(runs, _COLUMNS)} for m, runs in rows)


def space_figure(group: Group) -> Figure:
    """Contours of q(z) above posterior means by component, one column per method, first seed."""
    rows = group[FIXED_BATCHES]
    figure, grid = canvas(2.15 * len(rows), 5.0, len(rows), 2, squeeze=False)
    for column, (method, runs) in enumerate(rows.items()):
        result = runs[0]
        mean, std = _codes(result, "code_mean"), _codes(result, "code_std")
        _contours(grid[0, column], aggregate_density(mean, std, _AXIS))
        grid[0, column].set_title(called(method), fontsize=9)
        _scatter(grid[1, column], mean, result.arrays["code_label"])
    grid[0, 0].set_ylabel("q(z)", fontsize=9)
    grid[1, 0].set_ylabel("posterior means", fontsize=9)
    _legend(figure)
    return figure


def tracks(groups: Mapping[str, Group]) -> list[Track]:
    """Posterior means of validation sequences while training goes on: every run that has them."""
    return [
        Track(
            f"{title}, batches {words}",
            called(method),
            result.spec.seed,
            result.arrays["means_iteration"],
            result.arrays["means_mean"],
            result.arrays["means_label"],
            examples(result.spec),
        )
        for title, group in groups.items()
        for recipe, words in PARTITIONS.items()
        for method, runs in group.get(recipe, {}).items()
        for result in runs
        if "means_iteration" in result.arrays
    ]


def _centred(name: str, distances: pd.Series) -> Check:
    """Whether blue is in the centre, over the seeds that have one; open without any."""
    quantity = f"{name}: blue off centre"
    if len(distances):
        return below(quantity, distances, 0.5)
    return stated(quantity, below(quantity, [0.5], 0.5).rule, None, "no seed that has it")


def _standing(method: str, group: Sequence[Result]) -> Check:
    """Premise: no seed of a model has collapsed."""
    return evidence.standing(called(method), group, _collapsed)


def decide_spaces(group: Group) -> Finding | None:
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
    runs = group.get(FIXED_BATCHES, {})
    aggressive = benchmarks.AGGRESSIVE if benchmarks.AGGRESSIVE in runs else _BUDGET
    wanted = (benchmarks.VAE, aggressive, PLANE_BATCH_NORM, PLANE_DU)
    if not all(runs.get(method) for method in wanted):
        return None
    data = _measured(only(runs, wanted), "modes", "apart", "breadth", "centre")
    broader = differences(data, PLANE_DU, PLANE_BATCH_NORM, "breadth")
    more = {
        name: differences(data, PLANE_DU, method, "modes")
        for name, method in (("aggressive", aggressive), ("BN-VAE", PLANE_BATCH_NORM))
    }
    if not all(map(len, (broader, *more.values()))):
        return None
    spread = {"aggressive": aggressive, "BN-VAE": PLANE_BATCH_NORM, "DU-VAE": PLANE_DU}
    information = values(data, benchmarks.VAE, "mutual_information")
    checks = [
        below("VAE: mutual information, nats", information, evidence.COLLAPSE),
        below("VAE: components apart", values(data, benchmarks.VAE, "apart"), 1.5),
        *(
            above(f"{n}: components apart", values(data, m, "apart"), 1.5)
            for n, m in spread.items()
        ),
        *(_centred(name, values(data, method, "centre")) for name, method in spread.items()),
        between("DU-VAE: modes of q(z)", values(data, PLANE_DU, "modes"), 4.5, 5.5),
        *(above(f"modes of q(z), DU-VAE less {other}", by, 0.5) for other, by in more.items()),
        below("variance of q(z), DU-VAE less BN-VAE", broader, 0.0),
    ]
    living = evidence.alive(called(PLANE_DU), runs[PLANE_DU], _collapsed)
    standing = _standing(PLANE_BATCH_NORM, runs[PLANE_BATCH_NORM])
    scale = runs[benchmarks.VAE][0].spec.scale
    return decide("du-fig1", scale, [standing, *evidence.earned(living, checks)])


# --- mini-batches in three ways -------------------------------------------------------------------

_PARTED = (
    Column("clutter, in evaluation", "clutter", 3),
    Column("clutter, in training's batches", "batch_clutter", 3),
    Column("displacement", "moved", 3),
    Column("components apart", "apart", 1),
    Column("MI", "mutual_information"),
)


def partition_table(group: Group) -> pd.DataFrame:
    """One row a method and a partition: mean (standard deviation over seeds that have it)."""
    return pd.DataFrame(
        {
            "method": called(method),
            "mini-batches": words,
            **_cells(group.get(recipe, {}).get(method, ()), _PARTED),
        }
        for method in PARTITIONED
        for recipe, words in PARTITIONS.items()
    )


def partition_figure(group: Group) -> Figure:
    """Posterior means of the first seed: a column a partition, two rows a method."""
    wanted = [(method, view) for method in PARTITIONED for view in _VIEWS]
    figure, grid = canvas(7.2, 2.4 * len(wanted), len(PARTITIONS), len(wanted), squeeze=False)
    for line, (method, (array, words)) in zip(grid, wanted, strict=True):
        for axes, (recipe, title) in zip(line, PARTITIONS.items(), strict=True):
            runs = group.get(recipe, {}).get(method, ())
            if not runs:
                axes.set_axis_off()
                continue
            _scatter(axes, _codes(runs[0], array), runs[0].arrays["code_label"], size=7.0)
            axes.set_title(title, fontsize=8)
        line[0].set_ylabel(f"{called(method)},\n{words}", fontsize=8)
    _legend(figure)
    return figure


_VIEWS = (("code_mean", "in evaluation"), ("code_batch_mean", "in training's batches"))


def decide_partitions(group: Group) -> Finding | None:
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
    rows = {recipe: group.get(recipe, {}) for recipe in PARTITIONS}
    if not all(runs.get(method) for runs in rows.values() for method in PARTITIONED):
        return None

    def of(name: str, recipe: str, method: str) -> pd.Series:
        """Seed -> a measure; NaN of a run that has collapsed."""
        group_ = rows[recipe][method]
        known = values(_measured({method: group_}, name), method, name)
        alive = [result.spec.seed for result in group_ if not _collapsed(result)]
        return known[known.index.isin(alive)].reindex([result.spec.seed for result in group_])

    def rise(method: str, name: str, recipe: str = SORTED_BATCHES) -> pd.Series:
        """How much a measure rises from fixed random batches, seed by seed; NaN of a collapse."""
        measured, base = of(name, recipe, method), of(name, FIXED_BATCHES, method)
        return (measured - base).reindex(measured.index.intersection(base.index))

    rises = [
        (PLANE_BATCH_NORM, "evaluation", rise(PLANE_BATCH_NORM, "clutter")),
        (PLANE_BATCH_NORM, "training's batches", rise(PLANE_BATCH_NORM, "batch_clutter")),
        (PLANE_SCALE, "evaluation", rise(PLANE_SCALE, "clutter")),
        (PLANE_SCALE, "training's batches", rise(PLANE_SCALE, "batch_clutter")),
    ]
    redrawn = rise(PLANE_SCALE, "clutter", REDRAWN_BATCHES)
    if not all(map(len, (redrawn, *(values_ for *_, values_ in rises)))):
        return None
    checks = [_counted(method, f"rise of clutter, {where}", own) for method, where, own in rises]
    moved = of("moved", SORTED_BATCHES, PLANE_BATCH_NORM)
    checks.insert(2, _counted(PLANE_BATCH_NORM, "displacement", moved))
    name = "rise of clutter with redrawn batches, evaluation"
    checks.append(_counted(PLANE_SCALE, name, redrawn))
    scale = rows[FIXED_BATCHES][PLANE_BATCH_NORM][0].spec.scale
    premises = [_standing(method, rows[FIXED_BATCHES][method]) for method in PARTITIONED]
    return decide("scale-fig-latent", scale, [*premises, *checks])


class _Claimed(NamedTuple):
    compare: Callable[[str, pd.Series, float], Check]
    collapse: float  # what a collapsed seed counts as, against the claim


_CLAIMED = {PLANE_BATCH_NORM: _Claimed(above, 0.0), PLANE_SCALE: _Claimed(below, 1.0)}


def _counted(method: str, name: str, own: pd.Series) -> Check:
    """A check against 0.1 that counts seeds that collapsed, NaN, and says how many there are."""
    compare, collapse = _CLAIMED[method]
    quantity, gone = f"{called(method)}: {name}", int(own.isna().sum())
    if gone:
        quantity += f" ({gone} collapsed, counted as {collapse:g})"
    return compare(quantity, own.fillna(collapse), 0.1)


RULES = (decide_spaces, decide_partitions)
