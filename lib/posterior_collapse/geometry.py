"""How a latent space in the plane lies: modes of q(z), components kept apart, centre, clutter.

Codes are posterior means (N, D) with a label for each.  Every measure takes what it is given as
it is: a figure that shows fewer points is measured on those points.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posterior_collapse.errors import BadInput

Array = NDArray[np.float64]

LIMIT = 4.0  # of the square in which modes are sought; DU-VAE's figure 1 shows 3
_GRID = 81  # points along a side
_PROMINENCE = 0.1  # of the highest density
_SMOOTHING = 0.25
_ACTIVE = 0.01  # variance of an active unit, as everywhere
_APART = 0.9  # balanced accuracy of a pair


def _codes(codes: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    points, names = np.asarray(codes, dtype=float), np.asarray(labels)
    if names.dtype.kind not in "iu":
        raise BadInput(f"labels are integers, given {names.dtype}")
    if points.ndim != 2 or names.shape != points.shape[:1] or len(points) < 2:
        raise BadInput(
            "codes are (N, D) and labels (N,) with N of at least 2, given "
            f"{points.shape} and {names.shape}"
        )
    if not np.isfinite(points).all():
        raise BadInput("codes hold nan or infinity")
    return points, names.astype(np.int64)


# --- the aggregated posterior ---------------------------------------------------------------------


def aggregate_density(mean: ArrayLike, std: ArrayLike, axis: ArrayLike) -> Array:
    """Density of q(z) = (1/N) sum_n N(z; mean_n, diag std_n^2) on a square grid.

    Args:
        mean: (N, 2).
        std: (N, 2), positive.
        axis: (G,), coordinates of the grid in both dimensions.

    Returns:
        (G, G), the second dimension of z along the rows, as pictures have it.

    Raises:
        BadInput: latent variables that are not two, no example, a mean that is not finite, a
            standard deviation that is not positive and finite, or an axis that is no line.
    """
    centres, widths, grid = (np.asarray(a, dtype=float) for a in (mean, std, axis))
    if centres.shape[1:] != (2,) or widths.shape != centres.shape or not len(centres):
        raise BadInput(
            f"a density in the plane needs means and standard deviations (N, 2), given "
            f"{centres.shape} and {widths.shape}"
        )
    if not np.isfinite(centres).all():
        raise BadInput("means hold nan or infinity")
    if not ((widths > 0) & np.isfinite(widths)).all():
        raise BadInput("standard deviations are positive and finite")
    if grid.ndim != 1:
        raise BadInput(f"an axis is (G,), given {grid.shape}")
    scaled = (grid[:, None, None] - centres) / widths  # (G, N, 2)
    each = np.exp(-0.5 * scaled**2) / (np.sqrt(2.0 * np.pi) * widths)
    return np.asarray(each[:, :, 1] @ each[:, :, 0].T / len(centres))


def peaks(density: ArrayLike, least: float = _PROMINENCE) -> list[tuple[int, int]]:
    """Local maxima of a density on a grid that stand out, highest first.

    A maximum's prominence is its height over the highest pass to a higher one; the highest of all
    has its own height.  What has less than ``least`` of the highest density is a ripple.

    Args:
        density: (R, C), finite and not negative.
        least: in (0, 1].

    Returns:
        (row, column) of each.

    Raises:
        BadInput: a density that is no grid, or holds what is negative or not finite; ``least``
            outside its range.
    """
    values = np.asarray(density, dtype=float)
    if values.ndim != 2 or not values.size or not ((values >= 0) & np.isfinite(values)).all():
        raise BadInput(
            f"a density is a grid (R, C) of finite numbers from 0 on, given shape {values.shape}"
        )
    if not 0.0 < least <= 1.0:
        raise BadInput(f"the least prominence lies in (0, 1], given {least}")
    rows, columns = values.shape
    needed = least * float(values.max())
    owner = np.full(values.size, -1)  # of each point that is above water: the top of its island
    lower: list[int] = []
    flat = values.ravel()
    for place in np.argsort(-flat, kind="stable"):
        tops = {_root(owner, n) for n in _neighbours(int(place), rows, columns) if owner[n] >= 0}
        highest = max(tops, key=lambda top: (flat[top], -top), default=int(place))
        owner[place] = highest
        for top in tops - {highest}:  # a pass: the lower island ends here
            if flat[top] - flat[place] >= needed:
                lower.append(top)
            owner[top] = highest
    summit = int(flat.argmax())
    ordered = [summit, *sorted(lower, key=lambda top: -flat[top])]
    return [divmod(top, columns) for top in ordered]


def _root(owner: NDArray[np.int64], place: int) -> int:
    """The top of the island that a point belongs to."""
    while owner[place] != place:
        owner[place] = owner[owner[place]]
        place = int(owner[place])
    return place


def _neighbours(place: int, rows: int, columns: int) -> list[int]:
    row, column = divmod(place, columns)
    return [
        r * columns + c
        for r in range(max(0, row - 1), min(rows, row + 2))
        for c in range(max(0, column - 1), min(columns, column + 2))
        if (r, c) != (row, column)
    ]


def count_modes(mean: ArrayLike, std: ArrayLike, least: float = _PROMINENCE) -> int:
    """Number of modes of q(z) in the square from -4 to 4, see :func:`peaks`.

    q(z) is smoothed by a Gaussian of standard deviation 0.25, so that single posteriors of a
    finite sample are no modes.  That is the width of DU-VAE's narrowest posterior, whose variance
    is 1 / (2 pi e).  No label is used.  Posteriors that are all the prior give one mode.

    Args:
        mean: (N, 2).
        std: (N, 2), at least 0; a posterior may be a point.
        least: as in :func:`peaks`.

    Raises:
        BadInput: as in :func:`aggregate_density` and :func:`peaks`.
    """
    axis = np.linspace(-LIMIT, LIMIT, _GRID)
    widths = np.asarray(std, dtype=float)
    if (widths < 0).any():
        raise BadInput("standard deviations are at least 0")
    smoothed = np.hypot(widths, _SMOOTHING)
    return len(peaks(aggregate_density(mean, smoothed, axis), least))


# --- components -----------------------------------------------------------------------------------


def _varies(points: Array) -> NDArray[np.bool_]:
    """Which dimensions (D,) belong to active units: the variance of their means is 0.01 or more."""
    return points.var(axis=0, ddof=1) >= _ACTIVE


def _active(points: Array) -> Array:
    """The active units' dimensions of the codes."""
    return points[:, _varies(points)]


def _told_apart(one: Array, other: Array) -> float:
    """Balanced accuracy of the linear discriminant between two groups of codes, on themselves."""
    centred = np.concatenate([one - one.mean(axis=0), other - other.mean(axis=0)])
    pooled = centred.T @ centred / len(centred)
    # A group without spread is a point; a pseudo-inverse would ignore where it lies.
    ridge = 1e-9 * max(float(np.trace(pooled)), float(np.square(one[0] - other[0]).sum()), 1e-300)
    gap = one.mean(axis=0) - other.mean(axis=0)
    across = np.linalg.solve(pooled + ridge * np.eye(len(pooled)), gap)
    middle = (one.mean(axis=0) + other.mean(axis=0)) / 2.0
    right = ((one - middle) @ across > 0).mean() + ((other - middle) @ across < 0).mean()
    return float(right / 2.0)


def separated(codes: ArrayLike, labels: ArrayLike, accuracy: float = _APART) -> int:
    """How many components are kept apart: the largest set of them that are so pair by pair.

    Two are apart if the linear discriminant between their codes has a balanced accuracy of at
    least ``accuracy``.  Dimensions whose variance is below that of an active unit (0.01) do not
    count.  Five components in one place, and a collapsed posterior, give 1.

    Args:
        codes: (N, D), posterior means.
        labels: (N,), component of each.
        accuracy: in (0.5, 1].

    Raises:
        BadInput: shapes that do not fit, codes that are not finite, labels that are no integers,
            or an accuracy outside its range.
    """
    if not 0.5 < accuracy <= 1.0:
        raise BadInput(f"the accuracy of a pair lies in (0.5, 1], given {accuracy}")
    points, names = _codes(codes, labels)
    points = _active(points)
    kinds = np.unique(names)
    if not points.shape[1]:
        return 1
    groups = {int(kind): points[names == kind] for kind in kinds}
    apart = {
        pair: _told_apart(groups[pair[0]], groups[pair[1]]) >= accuracy
        for pair in combinations(groups, 2)
    }
    for size in range(len(groups), 1, -1):
        for chosen in combinations(groups, size):
            if all(apart[pair] for pair in combinations(chosen, 2)):
                return size
    return 1


def within_share(codes: ArrayLike, labels: ArrayLike) -> float:
    """Clutter: the share of the codes' variance that lies within components.

    0 where every component is a point of its own, 1 where labels tell nothing of the place, and
    NaN without an active unit: a collapsed posterior has no places that could be cluttered.
    Shift does not change it, nor do rotation and a common scale as long as all units stay active.

    Args:
        codes: (N, D), posterior means.
        labels: (N,), component of each.

    Raises:
        BadInput: shapes that do not fit, codes that are not finite, or labels that are no integers.
    """
    points, names = _codes(codes, labels)
    points = _active(points)
    if not points.shape[1]:
        return math.nan
    total = float(np.square(points - points.mean(axis=0)).sum())
    groups = (points[names == kind] for kind in np.unique(names))
    return sum(float(np.square(group - group.mean(axis=0)).sum()) for group in groups) / total


def off_centre(codes: ArrayLike, labels: ArrayLike, centre: int = 0) -> float:
    """How far one component lies from the centre of all, relative to the others.

    The centre is the centroid of the K components' mean codes.  The distance of one component's
    mean from it is divided by the other components' mean distance.
    0 where that component lies in the centre, 1 where it lies as far out as the others, and K - 1,
    the most there can be, where the others share one place.
    NaN without an active unit, or where all components share one place exactly.
    Shift does not change it, nor do rotation and a common scale as long as all units stay active.

    Args:
        codes: (N, D), posterior means.
        labels: (N,), component of each.
        centre: the component whose place is asked for.

    Raises:
        BadInput: shapes that do not fit, codes that are not finite, labels that are no integers,
            or no codes of the component or of any other one.
    """
    points, names = _codes(codes, labels)
    points = _active(points)
    kinds = np.unique(names)
    if centre not in kinds or len(kinds) < 2:
        raise BadInput(f"a centre needs codes of component {centre} and of others, given {kinds}")
    means = np.stack([points[names == kind].mean(axis=0) for kind in kinds])
    distances = np.sqrt(np.square(means - means.mean(axis=0)).sum(axis=1))  # (K,)
    around = float(distances[kinds != centre].mean())
    return float(distances[kinds == centre][0]) / around if around else math.nan


def displacement(codes: ArrayLike, elsewhere: ArrayLike) -> float:
    """How far the same examples lie elsewhere: squared distance over the two sets' squared spread.

    0 where an example has one place whatever batch it comes in, and 1 or more where its two places
    have nothing to do with each other: 1 where both sets have one centroid, more where not.
    There is no upper limit.
    Dimensions that are active in neither set do not count, as they would give a ratio of residues;
    NaN where none is left.

    Args:
        codes: (N, D).
        elsewhere: (N, D), codes of the same examples.

    Raises:
        BadInput: shapes that differ, fewer than two examples, or codes that are not finite.
    """
    one, other = np.asarray(codes, dtype=float), np.asarray(elsewhere, dtype=float)
    if one.shape != other.shape or one.ndim != 2 or len(one) < 2:
        raise BadInput(
            "codes are (N, D) with N of at least 2, twice the same, given "
            f"{one.shape} and {other.shape}"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise BadInput("codes hold nan or infinity")
    active = _varies(one) | _varies(other)
    if not active.any():
        return math.nan
    one, other = one[:, active], other[:, active]
    spread = sum(float(np.square(points - points.mean(axis=0)).sum()) for points in (one, other))
    return float(np.square(one - other).sum()) / spread
