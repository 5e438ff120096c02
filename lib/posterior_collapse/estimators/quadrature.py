"""The true posterior of a scalar latent variable, by adaptive quadrature.

Not found is what no node has an inkling of.
In the first range, that is a bump narrower than a quarter of the first step, say, that lies
under a flank of something broader.
Elsewhere, log_joint is looked at where the distance from the best node of that range doubles:
from an eighth of the range to 16 times it, and on as long as the density rises.
A mode up to 20 times the range away is found by that if it is as wide as the one at that node,
and one much narrower only by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.errors import BadInput, PosteriorCollapseError, whole
from posterior_collapse.estimators.search import MARGINS, Scale, Task, start
from posterior_collapse.estimators.windows import (
    Nodes,
    Window,
    cell_ranges,
    cut,
    halved,
    kept_cells,
    rows_up_to,
)


class Moments(NamedTuple):
    """Of p(z|x) for a scalar z; each (batch,)."""

    mean: Tensor
    variance: Tensor
    log_evidence: Tensor  # log p(x), nats


_LEAST_CELLS = 18  # of a window: steps of less than one standard deviation
_EARLY_CELLS = 64  # a smaller window is halved twice, whatever it looks like
_MAX_HALVINGS = 200
_URGENT = 1e9  # effect given to cells that must be evaluated
_MAX_CELLS = 2**18
_MAX_VALUES = 2**21  # cells times unfinished points, where a point has more than
_FREE_CELLS = 1024


@torch.no_grad()
def posterior_moments_1d(
    log_joint: Callable[[Tensor], Tensor],
    batch: int,
    low: float = -20.0,
    high: float = 20.0,
    tolerance: float = 1e-6,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Moments:
    """Mean and variance of p(z|x) and log p(x) for scalar z, by adaptive quadrature.

    What He et al. 2019, equation 6, do with 4001 nodes on [-20, 20], which is wrong for a posterior
    narrower than their distance or outside their range.

    Steps are halved, starting from coarse ones.
    Cells where a straight continuation of the log density from either side stays far below the
    best node are left out: 82 nats in the first round, 22 from the third on, and more where the
    distance from the mean makes up for it in the variance.
    A window of fewer than 18 cells is evaluated everywhere.
    Elsewhere it is evaluated where interpolation between the nodes may be wrong, judged by how
    wrong it was before, until that cannot matter.
    Nodes are whole multiples of a power of two, hence exact in float32 as well.
    A smooth posterior of standard deviation 0.2 to 1 takes 80 to 130 nodes, a rough one 200.
    As points are evaluated together, the roughest of them decides.

    Long tails are summed in a variable in which a power of z decays exponentially: Student's t
    needs 420 nodes with 3.5 degrees of freedom, and is refused with 2, where it has no variance.
    Where log_joint is -inf beyond a bound, the bound is located and the sum ends there.

    Args:
        log_joint: z (S, batch) -> log p(x_b, z_sb) of shape (S, batch), nats; -inf is allowed.
            Each call has S <= max(1, NODES_PER_CALL / batch).
        batch: number of points.
        low, high: the first range.
        tolerance: of the estimated error of log evidence, and of mean and standard deviation in
            units of the smaller of 1 and the standard deviation.
            What log_joint's own dtype rounds away is not asked for.
        dtype, device: of the z that log_joint gets; torch's defaults unless given.

    Returns:
        Three tensors (batch,) in the dtype that log_joint returns.
        Memory: in log_joint, at most NODES_PER_CALL values at once, or one per point; here, some
        arrays of four times the cells of a window, which are some hundreds per unfinished point
        and at most the larger of 1024 per point and 2 million in all.

    Raises:
        BadInput: a bad number or a wrong shape, or a posterior too narrow for ``dtype``.
        PosteriorCollapseError: log_joint gives nan or +inf, is -inf at all nodes, does not decay or
            too slowly for a variance, or is too rough to integrate with so many steps.
    """
    batch = whole("batch", batch)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"low and high must be finite with low < high, given {low} and {high}")
    if not tolerance > 0.0:
        raise BadInput(f"tolerance must be positive, given {tolerance}")
    nodes = Nodes(log_joint, batch, dtype or torch.get_default_dtype(), device)
    moments = _integrate(nodes, start(nodes, low, high, tolerance))
    return Moments(*(part.to(nodes.device, nodes.result_dtype) for part in moments))


def _interpolated(values: Tensor) -> Tensor:
    """Log density in the middle of every cell, from the three nodes on either side; (C, B).

    The polynomial of degree 5, kept within the range of the cell.
    """
    lines = [2.0 * values[:1] - values[1:2], 2.0 * values[-1:] - values[-2:-1]]
    far = [2.0 * lines[0] - values[:1], 2.0 * lines[1] - values[-1:]]
    padded = torch.cat([far[0], lines[0], values, lines[1], far[1]])
    count = len(values) - 1
    near, next_, outer = (
        padded[2 - k : 2 - k + count] + padded[3 + k : 3 + k + count] for k in range(3)
    )
    middle = (150.0 * near - 25.0 * next_ + 3.0 * outer) / 256.0
    ranges = cell_ranges(values)
    middle = torch.where(torch.isfinite(middle), middle, torch.minimum(values[:-1], values[1:]))
    return torch.maximum(torch.minimum(middle, ranges.high), ranges.low)


def _moments(window: Window, scale: Scale) -> Moments:
    """Sums over the nodes and three interpolated ones in every cell."""
    for _ in range(2):
        window = halved(window, _interpolated(window.values))
    z, _ = scale.place((window.first + rows_up_to(len(window.values))) * window.step)
    best = window.values.argmax(0, keepdim=True)
    top, centre = window.values.gather(0, best)[0], z.gather(0, best)[0]
    p = torch.exp(window.values - top)
    mass, apart = p.sum(0), z - centre
    shift = (p * apart).sum(0) / mass
    variance = (p * (apart - shift).square()).sum(0) / mass
    return Moments(centre + shift, variance, top + torch.log(mass) + torch.log(window.step))


class _State(NamedTuple):
    """The A points whose steps are still halved; per cell (C, A), per point (A,)."""

    points: Tensor  # which of the batch they are
    window: Window
    scale: Scale
    doubt: Tensor  # per cell: how far its interpolated middle may be off, in nats
    parent: Tensor  # per cell: by how much the middle of the cell it is half of was off
    spent: Tensor  # per point: squared effect of middles that were interpolated for good


def _integrate(nodes: Nodes, task: Task) -> Moments:
    """Halve steps until every answer is accurate, evaluating only where interpolation is in doubt.

    A window of fewer than ``_LEAST_CELLS`` cells is evaluated everywhere.
    Elsewhere, what a cell does to the answer is the doubt about it times the share of the mass
    that it may hold.
    """
    one = torch.ones_like(task.window.values[1:])
    everything = torch.arange(nodes.batch)
    state = _State(everything, task.window, task.scale, one, math.nan * one, 0.0 * one[0])
    answer = Moments(*(torch.zeros(nodes.batch, dtype=torch.float64) for _ in range(3)))
    for halvings in range(_MAX_HALVINGS):
        early = halvings < len(MARGINS)
        moments = _moments(state.window, state.scale)
        state = _trimmed(state, moments, task.depth + (MARGINS[halvings] if early else 0.0))
        effect = state.doubt * _influence(state.window, state.scale, moments)
        error = (state.spent + effect.square().sum(0)).sqrt()
        allowed = _allowed(nodes, state.window, moments, task.tolerance)
        coarse = state.window.cells < (_EARLY_CELLS if early else _LEAST_CELLS)
        rough = coarse | (error > allowed)
        for part, values in zip(answer, moments, strict=True):
            part[state.points] = values
        if not rough.any():
            return answer
        nodes.idle[state.points] = moments.mean
        inside = rows_up_to(len(effect)) < state.window.cells
        urgent = torch.where(coarse & inside, _URGENT, effect)[:, rough]
        index = _doubtful(urgent, 0.2 * allowed[rough])
        state = _selected(state, rough)
        _require_room(state, moments.mean[rough])
        state = _refined(nodes, state, effect[:, rough], index)
    raise PosteriorCollapseError(
        f"log_joint of point {int(state.points[0])} has a peak narrower than "
        f"{state.window.step[0].item():.3g} near z = {answer.mean[state.points[0]].item():.6g}"
    )


def _selected(state: _State, which: Tensor) -> _State:
    """The state of some of its points."""
    window, scale = state.window, state.scale
    return _State(
        state.points[which],
        Window(
            window.first[which], window.step[which], window.cells[which], window.values[:, which]
        ),
        Scale(*(part[which] for part in scale)),
        state.doubt[:, which],
        state.parent[:, which],
        state.spent[which],
    )


def _trimmed(state: _State, moments: Moments, depth: float) -> _State:
    """The state without cells that hold nothing within ``depth`` nats of the best node.

    Far from the mean a density counts for more: by the square of its distance in the variance.
    """
    window = state.window
    rows = rows_up_to(len(window.values) - 1)
    z, slope = state.scale.place((window.first + rows + 0.5) * window.step)
    best = window.values[:-1].argmax(0, keepdim=True)
    spacing = window.step * slope.gather(0, best)[0].exp()
    away = (z - moments.mean).abs() / moments.variance.sqrt().maximum(spacing)
    left, right = kept_cells(window, depth, 2.0 * away.clamp_min(1.0).log())
    window = cut(window, left, right)
    index = (left + rows_up_to(len(window.values) - 1)).clamp_max(len(state.doubt) - 1)
    doubt, parent = state.doubt.gather(0, index), state.parent.gather(0, index)
    return state._replace(window=window, doubt=doubt, parent=parent)


def _allowed(nodes: Nodes, window: Window, moments: Moments, tolerance: float) -> Tensor:
    """The tolerance, or what the rounding of log_joint in its own dtype makes of it; (B,)."""
    rounding = 8.0 * torch.finfo(nodes.result_dtype).eps
    floor = rounding * window.values.amax(0).abs().clamp_min(1.0)
    return (floor * moments.variance.sqrt().clamp_min(1.0)).clamp_min(tolerance)


def _refined(nodes: Nodes, state: _State, effect: Tensor, index: Tensor) -> _State:
    """Halve the steps of all points, evaluating the cells in ``index`` (S, A).

    The surprise of an evaluated cell is how far interpolation was off in its middle.
    If halving reduced it by a factor, halving again is taken to do so once more; where there is
    nothing to compare with, by four. An eighth or less would be right for a smooth density.
    """
    _, window, scale, doubt, parent, spent = state
    z, slope = scale.place((window.first + index + 0.5) * window.step)
    nodes.require_exact(z[:, scale.plain])
    expected = _interpolated(window.values)
    values = nodes.at(z, state.points) + slope
    surprise = torch.nan_to_num((values - expected.gather(0, index)).abs(), nan=0.0, posinf=50.0)
    checked = torch.zeros_like(expected, dtype=torch.bool).scatter_(0, index, True)
    known = doubt.scatter(0, index, surprise)
    shrink = torch.where(checked, known / parent, 0.25).nan_to_num(nan=0.25)
    following = known * shrink.clamp(1.0 / 64.0, 1.0)
    halves = halved(window, expected.scatter(0, index, values))
    return state._replace(
        window=halves,
        doubt=_inherited(following, window.cells, halves),
        parent=_inherited(known, window.cells, halves),
        spent=spent + torch.where(checked, 0.0, effect).square().sum(0),
    )


def _doubtful(effect: Tensor, allowed: Tensor) -> Tensor:
    """Cells (S, B) to evaluate so that the rest, added in squares, has no more effect than allowed.

    S is what the worst point needs; the others get their next worst cells as well.
    """
    ordered, index = effect.sort(dim=0, descending=True)
    rest = ordered.square().flip(0).cumsum(0).flip(0).sqrt()  # of a cell and all after it
    return index[: int((rest > allowed).sum(0).max())]


def _influence(window: Window, scale: Scale, moments: Moments) -> Tensor:
    """Change of the answer, relative to what is asked, for one nat in the middle of a cell; (C, B).

    The largest of the changes of log evidence, mean and standard deviation.
    The middle of a cell counts half of it, and later halvings add a third of that again.
    """
    rows = rows_up_to(len(window.values) - 1)
    z, _ = scale.place((window.first + rows + 0.5) * window.step)
    std = moments.variance.sqrt().clamp_min(1e-300)
    away = (z - moments.mean).abs() / std
    # A unit of the answer is the smaller of 1 and the standard deviation.
    weight = torch.maximum(away, 0.5 * (away.square() - 1.0)) * std.clamp_min(1.0)
    share = torch.exp(cell_ranges(window.values).high - moments.log_evidence) * window.step
    influence = (2.0 / 3.0) * share.clamp_max(1e6) * weight.clamp_min(1.0)
    return torch.where(rows < window.cells, influence, 0.0)


def _inherited(values: Tensor, cells: Tensor, window: Window) -> Tensor:
    """What halves (2 C, A) take over from their cells (C, A), of which there were ``cells`` (A,).

    That is the largest found there and in the two neighbours.
    """
    inside = torch.where(rows_up_to(len(values)) < cells, values, 0.0)
    around = torch.nn.functional.max_pool1d(inside.T[None], 3, stride=1, padding=1)[0].T
    return around.repeat_interleave(2, 0)[: len(window.values) - 1]


def _require_room(state: _State, mean: Tensor) -> None:
    """Stop where steps have been halved too often."""
    window = state.window
    cells = 2 * (len(window.values) - 1)
    room = max(_FREE_CELLS, _MAX_VALUES // len(state.points))
    if cells <= min(room, _MAX_CELLS):
        return
    worst = int(window.cells.argmax())
    raise PosteriorCollapseError(
        f"the posterior of point {int(state.points[worst])}, mean about {mean[worst].item():.6g}, "
        f"is not resolved by {cells // 2} steps of {window.step[worst].item():.3g}: it is too "
        "rough, or has peaks too narrow for the distance between them"
    )
