"""Where a scalar density has its mass, and the variable in which it can be summed."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.errors import PosteriorCollapseError
from posterior_collapse.estimators.windows import (
    Nodes,
    Window,
    continued,
    cut,
    kept_cells,
)

MARGINS = (60.0, 16.0)  # nats by which the first two cuts are more careful than later ones
_FIRST_CELLS = 40  # step 1 on [-20, 20]
_MOST_CELLS = 256  # of the common grid: where it has to reach far, its steps grow
_ARM = 8  # nodes on either side of the best one, at distances that double
_LONGEST_ARM = 29  # as long as the density rises outwards
_LONG = 64.0  # standard deviations; a density that is longer is summed in another variable
_STEP = 0.25  # of that variable
_BLOCK = 32  # steps by which its range grows


class Task(NamedTuple):
    """What is to be integrated, and how well."""

    window: Window
    scale: Scale
    depth: float  # nats below the best node that count as nothing
    tolerance: float


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2.0 * x.abs())) - math.log(2.0)


_PLAIN, _BOUNDED, _HALF_LINE, _WHOLE_LINE = range(4)


class Scale(NamedTuple):
    """How z follows from the equidistant variable u; per point (B,).

    ========== ==================================== ==============================================
    plain      z = u                                a density that decays fast
    bounded    middle + half-width tanh(pi/2 sinh)  support that ends (Takahasi & Mori 1974)
    half line  low + width exp(u - exp(-u))         support that ends on one side, and a long tail
    whole line middle + half-width sinh u           long tails: a power of z decays exponentially
    ========== ==================================== ==============================================
    """

    kind: Tensor  # int64
    low: Tensor
    high: Tensor

    @property
    def plain(self) -> Tensor:
        """Whether u is z itself, (B,)."""
        return self.kind == _PLAIN

    def place(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/du, each (S, B)."""
        if self.plain.all():
            return u, torch.zeros_like(u)
        width, half = self.high - self.low, 0.5 * (self.high - self.low)
        s, grown = 0.5 * math.pi * torch.sinh(u), u - torch.exp(-u)
        places = (
            u,
            torch.minimum(self.low + half * (1.0 + torch.tanh(s)), self.high),
            self.low + width * torch.exp(grown),
            self.low + half + half * torch.sinh(u),
        )
        slopes = (
            torch.zeros_like(u),
            math.log(0.5 * math.pi) + _log_cosh(u) + half.log() - 2.0 * _log_cosh(s),
            width.abs().log() + grown + torch.log1p(torch.exp(-u)),
            half.log() + _log_cosh(u),
        )
        kind = self.kind.expand(1, *u.shape)
        z, slope = (torch.stack(parts).gather(0, kind)[0] for parts in (places, slopes))
        return z, slope


def start(nodes: Nodes, low: float, high: float, tolerance: float) -> Task:
    """The first windows, on coarse nodes."""
    depth = max(20.0, 8.0 - math.log(tolerance))  # beyond it lies less than tolerance / e^8
    scan = _scanned(nodes, low, high)
    outline = _outlined(scan, depth + MARGINS[1])
    nodes.idle = outline.best
    window = _common_window(nodes, scan, ~outline.long, depth + MARGINS[0])
    window = cut(window, *kept_cells(window, depth + MARGINS[0]))
    scale = _scale(nodes, window, outline)
    window = _rescaled(nodes, window, scale, outline, depth + MARGINS[1])
    return Task(window, scale, depth, tolerance)


# --- looking around


class _Scan(NamedTuple):
    """log_joint on a grid, and at distances from every point's best node there that double."""

    first: int  # the grid is (first .. last) * step
    last: int
    step: Tensor  # (), a power of two: nodes are exact in every dtype
    grid: Tensor  # (last - first + 1, B)
    centre: Tensor  # (B,), best node of the grid
    distance: Tensor  # (A,)
    left: Tensor  # (A, B), outwards
    right: Tensor

    def sorted(self) -> tuple[Tensor, Tensor]:
        """All nodes and the values there, (K, B) each, from low to high z."""
        z = (torch.arange(self.first, self.last + 1) * self.step)[:, None]
        apart = self.distance[:, None]
        z = torch.cat([z.expand_as(self.grid), self.centre - apart, self.centre + apart])
        z, order = z.sort(dim=0)
        return z, torch.cat([self.grid, self.left, self.right]).gather(0, order)


def _scanned(nodes: Nodes, low: float, high: float) -> _Scan:
    """Look at the range asked for and beyond, as far as the density rises outwards."""
    width = torch.tensor((high - low) / _FIRST_CELLS, dtype=torch.float64)
    mantissa, _ = torch.frexp(width)
    step = torch.where(mantissa == 0.5, width, width / mantissa)
    first, last = math.floor(low / step), math.ceil(high / step)
    grid = nodes.on_grid(first, last, step)
    centre = (first + grid.argmax(0)) * step
    distance = (last - first) * step * 2.0 ** torch.arange(-3, _ARM - 3).double()
    apart = distance[:, None]
    left, right = nodes.glimpse(torch.cat([centre - apart, centre + apart])).chunk(2)
    while (rises := (left[-1] > left[-2]) | (right[-1] > right[-2])).any():
        if len(distance) == _LONGEST_ARM:
            _require_decay(rises, (centre - distance[-1]).min(), (centre + distance[-1]).max())
        distance = torch.cat([distance, 2.0 * distance[-1:]])
        outer = nodes.glimpse(torch.stack([centre - distance[-1], centre + distance[-1]]))
        left, right = torch.cat([left, outer[:1]]), torch.cat([right, outer[1:]])
    values = torch.cat([grid, left, right])
    if (values.amax(0) == -math.inf).any():
        raise PosteriorCollapseError(
            f"log_joint of point {int((values.amax(0) == -math.inf).nonzero()[0])} is -inf at all "
            f"{len(values)} nodes"
        )
    return _Scan(first, last, step, grid, centre, distance, left, right)


def _require_decay(open_: Tensor, low: Tensor, high: Tensor) -> None:
    """Refuse points with mass at an end of the range searched."""
    if open_.any():
        raise PosteriorCollapseError(
            f"log_joint of point {int(open_.nonzero()[0])} does not decay on [{low.item():.4g}, "
            f"{high.item():.4g}]: it has no posterior, one that is far away, or one whose tails "
            "are too heavy for a variance"
        )


class _Outline(NamedTuple):
    """What a scan shows of every point; (B,), and (2, B) for its lower and its upper end."""

    best: Tensor  # node
    mean: Tensor
    std: Tensor  # at least the distance of nodes there
    long: Tensor  # whether it reaches over very many standard deviations
    inside: Tensor  # outermost nodes that count
    outside: Tensor  # their neighbours
    jumps: Tensor  # whether the density is zero there


def _outlined(scan: _Scan, depth: float) -> _Outline:
    """Rough moments by the trapezoid rule, and nodes with a share in them."""
    z, values = scan.sorted()
    padded = torch.cat([2.0 * z[:1] - z[1:2], z, 2.0 * z[-1:] - z[-2:-1]])
    spacing = 0.5 * (padded[2:] - padded[:-2])
    best = values.argmax(0, keepdim=True)
    p = spacing * torch.exp(values - values.amax(0))
    p = p / p.sum(0)
    mean = (p * z).sum(0)
    std = (p * (z - mean).square()).sum(0).sqrt().maximum(spacing.gather(0, best)[0])
    worth = values + 2.0 * ((z - mean).abs() / std).clamp_min(1.0).log()
    counts = (worth >= worth.amax(0) - depth).to(torch.int8)
    end = len(z) - 1
    ends = torch.stack([counts.argmax(0), end - counts.flip(0).argmax(0)])
    beyond = (ends + torch.tensor([[-1], [1]])).clamp(0, end)
    inside, outside = z.gather(0, ends), z.gather(0, beyond)
    long = (inside[1] - inside[0] > _LONG * std) | (beyond == ends).any(0)
    jumps = values.gather(0, beyond) == -math.inf
    return _Outline(z.gather(0, best)[0], mean, std, long, inside, outside, jumps)


def _common_window(nodes: Nodes, scan: _Scan, points: Tensor, depth: float) -> Window:
    """One grid for all points, extended until none of ``points`` has mass at an end."""
    top = torch.maximum(scan.grid.amax(0), torch.maximum(scan.left, scan.right).amax(0))
    end = scan.step * torch.tensor([-scan.first, scan.last])
    left = _reach(scan, scan.left, (scan.grid[0] > scan.grid[1]), end[0] + scan.centre, top - depth)
    right = _reach(
        scan, scan.right, (scan.grid[-1] > scan.grid[-2]), end[1] - scan.centre, top - depth
    )
    low, high = ((scan.centre + far)[points] / scan.step for far in (-left, right))
    first = min([scan.first, *low.floor().long().tolist()])
    last = max([scan.last, *high.ceil().long().tolist()])
    stride = 1
    while (last - first) // stride > _MOST_CELLS:  # far out every other node will do
        stride *= 2
    values = scan.grid[-scan.first % stride :: stride]
    step, begin = stride * scan.step, -(-scan.first // stride)
    first, last, stop = first // stride, -(-last // stride), begin + len(values) - 1
    if first < begin:
        values = torch.cat([nodes.on_grid(first, begin - 1, step), values])
    if last > stop:
        values = torch.cat([values, nodes.on_grid(stop + 1, last, step)])
    here = torch.ones(nodes.batch, dtype=torch.float64)
    return Window(first * here, step * here, (len(values) - 1) * here.long(), values)


def _reach(scan: _Scan, arm: Tensor, rises: Tensor, end: Tensor, least: Tensor) -> Tensor:
    """How far from the centre the grid has to go on the side of an arm (A, B), (B,).

    It goes to twice the distance of the last node that matters. One does with at least the density
    ``least``, and the first beyond the grid if the density ``rises`` at the ``end`` of that.
    A node matters too where the density falls less from the node before than a power of the
    distance would: a separate mode shows by that from half its distance on.
    """
    distance = scan.distance[:, None]
    rank = torch.arange(1, len(arm) + 1)[:, None]
    change = arm[1:] - arm[:-1]
    matters = arm >= least
    matters[2:] |= change[1:] >= (0.75 * change[:-1]).clamp_max(0.0)
    matters |= rises & (rank == (distance <= end).sum(0) + 1)
    matters &= arm > -math.inf
    last = torch.where(matters, rank, 0).amax(0)
    far = 2.0 * scan.distance[(last - 1).clamp_min(0)]
    return torch.where(last > 0, far, 0.0)


# --- the variable


def _scale(nodes: Nodes, window: Window, outline: _Outline) -> Scale:
    """The variable that suits each point."""
    low, high = window.first * window.step, (window.first + window.cells) * window.step
    outside, inside = torch.stack([low, high]), torch.stack([low + window.step, high - window.step])
    ends = torch.stack([torch.zeros_like(window.cells), window.cells])
    long, mean, std = outline.long, outline.mean, outline.std
    jumps = torch.where(long, outline.jumps, window.values.gather(0, ends) == -math.inf)
    if not (jumps | long).any():
        return Scale(torch.zeros_like(window.cells), low, high)
    outside = torch.where(long, outline.outside, outside)
    inside = torch.where(long, outline.inside, inside)
    low, high = _located_bounds(nodes, jumps, outside, inside)
    bounds = jumps.sum(0)
    whole, half = long & (bounds == 0), long & (bounds == 1)
    kind = torch.where(bounds > 0, _BOUNDED, _PLAIN)
    kind = torch.where(whole, _WHOLE_LINE, torch.where(half, _HALF_LINE, kind))
    bound, width = torch.where(jumps[0], low, high), torch.where(jumps[0], std, -std)
    low = torch.where(whole, mean - std, torch.where(half, bound, low))
    high = torch.where(whole, mean + std, torch.where(half, bound + width, high))
    return Scale(kind, low, high)


def _located_bounds(nodes: Nodes, jumps: Tensor, outside: Tensor, inside: Tensor) -> Tensor:
    """Bisect between nodes where the log joint is -inf and nodes where it is finite, (2, B).

    Returns:
        Outermost finite z on either side; ``outside`` where there is no jump.
    """
    inside = torch.where(jumps, inside, outside)
    for _ in range(60 if jumps.any() else 0):
        middle = (0.5 * (outside + inside)).to(nodes.dtype).double()
        finite = nodes.at(torch.where(jumps, middle, nodes.idle)) > -math.inf
        inside = torch.where(jumps & finite, middle, inside)
        outside = torch.where(jumps & ~finite, middle, outside)
    return inside


def _rescaled(
    nodes: Nodes, window: Window, scale: Scale, outline: _Outline, depth: float
) -> Window:
    """The windows, in the variable of each point.

    A long tail is followed until what lies beyond has no share in the variance either.
    """
    points = (~scale.plain).nonzero()[:, 0]
    if not len(points):
        return window
    mean, std = outline.mean[points], outline.std[points]
    own = Scale(*(part[points] for part in scale))
    most = 0.4 * math.log(torch.finfo(nodes.dtype).max) / _STEP

    def look(begin: int, end: int) -> tuple[Tensor, Tensor]:
        u = _STEP * torch.arange(begin, end).double()[:, None].expand(-1, len(points))
        z, slope = own.place(u)
        return z, nodes.at(z, points) + slope

    def open_ends(z: Tensor, values: Tensor) -> Tensor:
        away = ((z[[0, -1]] - mean).abs() / std).clamp_min(1.0)
        return ~(values[[0, -1]] + 2.0 * away.log() < values.amax(0) - depth).all(0)

    reach = _BLOCK
    z, values = look(-reach, reach + 1)
    while (open_ := open_ends(z, values)).any():
        if reach > most:
            here = torch.zeros(nodes.batch, dtype=torch.bool)
            _require_decay(here.index_put((points,), open_), z.min(), z.max())
        parts = look(-reach - _BLOCK, -reach), (z, values), look(reach + 1, reach + 1 + _BLOCK)
        z, values = (torch.cat(column) for column in zip(*parts, strict=True))
        reach += _BLOCK
    rows = max(len(values), len(window.values))
    merged = values.new_full((rows, nodes.batch), -math.inf)
    merged[: len(window.values)] = window.values
    merged[: len(values), points] = values
    first, step, cells = window.first.clone(), window.step.clone(), window.cells.clone()
    first[points], step[points], cells[points] = float(-reach), _STEP, len(values) - 1
    return Window(first, step, cells, continued(merged, cells))
