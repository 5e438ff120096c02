"""Where a scalar density has its mass: nodes, windows of cells between them, and their bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.errors import BadInput, PosteriorCollapseError

__all__ = [
    "MARGINS",
    "NODES_PER_CALL",
    "Nodes",
    "Scale",
    "Task",
    "Window",
    "cell_ranges",
    "cut",
    "halved",
    "kept_cells",
    "rows_up_to",
    "start",
]

# Nodes times points that one call of log_joint gets; bench/bench_posterior_grid.py.
NODES_PER_CALL = 1024

_FIRST_CELLS = 40  # step 1 on [-20, 20]
_WIDE_CELLS = 256  # beyond it, extending the range doubles the steps
MARGINS = (60.0, 16.0)  # nats by which the first two cuts are more careful than later ones
_MAX_EXTENSIONS = 16  # each doubles or triples the range searched


class Nodes:
    """log_joint, called with a bounded number of nodes and its answers checked.

    Geometry is kept in float64 on the CPU; z is sent in the dtype and to the device asked for.
    """

    def __init__(
        self,
        log_joint: Callable[[Tensor], Tensor],
        batch: int,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> None:
        self.log_joint, self.batch, self.dtype = log_joint, batch, dtype
        self.device = torch.device(device) if device is not None else torch.empty(0).device
        self.rows = max(1, NODES_PER_CALL // batch)
        self.result_dtype = dtype
        self.idle = torch.zeros(batch, dtype=torch.float64)  # where finished points are evaluated

    def at(self, z: Tensor, points: Tensor | None = None) -> Tensor:
        """Log joint of all points, or of the ``points`` (A,) given, at z (S, B) or (S, A).

        In chunks; the result is in float64, on the CPU, and of the shape of z.
        """
        if points is None:
            return torch.cat([self._call(rows) for rows in z.split(self.rows)])
        found = []
        for rows in z.split(self.rows):
            everywhere = self.idle.repeat(len(rows), 1)
            everywhere[:, points] = rows
            found.append(self._call(everywhere)[:, points])
        return torch.cat(found)

    def on_grid(self, first: int, last: int, step: Tensor) -> Tensor:
        """Log joint of all points at (first .. last) * step, (S, B)."""
        z = torch.arange(first, last + 1, dtype=torch.float64) * step
        columns = z[:, None].expand(-1, self.batch)
        self.require_exact(columns)
        return self.at(columns)

    def require_exact(self, z: Tensor) -> None:
        """Refuse nodes that the dtype would move."""
        if not torch.equal(z.to(self.dtype).double(), z):
            step = (z[1:] - z[:-1]).abs().min().item() if len(z) > 1 else 0.0
            raise BadInput(
                f"steps of {step:.3g} near z = {z.abs().max().item():.6g} do not exist in "
                f"{self.dtype}: the posterior is too narrow for it; give dtype=torch.float64"
            )

    def _call(self, z: Tensor) -> Tensor:
        values = self.log_joint(z.to(self.device, self.dtype))
        if not isinstance(values, Tensor) or values.shape != z.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise BadInput(f"log_joint must return shape {tuple(z.shape)}, given {shape}")
        self.result_dtype = values.dtype
        values = values.cpu().double()
        bad = torch.isnan(values) | (values == math.inf)
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise PosteriorCollapseError(
                f"log_joint is {values[row, column].item()} at z = {z[row, column].item():.6g} "
                f"of point {column}"
            )
        return values


def _power_of_two(x: Tensor) -> Tensor:
    """The smallest power of two that is at least x > 0, exactly."""
    mantissa, _ = torch.frexp(x)
    return torch.where(mantissa == 0.5, x, x / mantissa)


class Window(NamedTuple):
    """Log density on the nodes (first + j) * step, j = 0 .. cells, of every point.

    All (B,) but ``values``, (C + 1, B), where C is the largest ``cells``.
    Rows beyond a point's last node continue in a straight line, down.
    """

    first: Tensor
    step: Tensor
    cells: Tensor  # int64
    values: Tensor


def rows_up_to(count: int) -> Tensor:
    """0, 1, .. count - 1 as a column, int64."""
    return torch.arange(count)[:, None]


def _continued(values: Tensor, cells: Tensor) -> Tensor:
    """Replace rows beyond each point's last node by a straight continuation."""
    ends = torch.stack([cells, (cells - 1).clamp_min(0)])
    last, before = values.gather(0, ends)
    slope = torch.nan_to_num(last - before, nan=-1.0, neginf=-1.0).clamp_max(-1.0)
    beyond = rows_up_to(len(values)) - cells
    return torch.where(beyond <= 0, values, last + beyond * slope)


def cut(window: Window, left: Tensor, right: Tensor) -> Window:
    """The cells left .. right of every point."""
    cells = right - left + 1
    index = (left + rows_up_to(int(cells.max()) + 1)).clamp_max(len(window.values) - 1)
    values = _continued(window.values.gather(0, index), cells)
    return Window(window.first + left, window.step, cells, values)


def halved(window: Window, middles: Tensor) -> Window:
    """Half the steps, given the log densities between the nodes (C, B)."""
    values = window.values.new_empty(2 * len(middles) + 1, middles.shape[1])
    values[::2], values[1::2] = window.values, middles
    cells = 2 * window.cells
    values = _continued(values, cells)
    return Window(2 * window.first, 0.5 * window.step, cells, values)


# --- where to integrate


class Task(NamedTuple):
    """What is to be integrated, and how well."""

    window: Window
    scale: Scale
    depth: float  # nats below the best node that count as nothing
    tolerance: float


def start(nodes: Nodes, low: float, high: float, tolerance: float) -> Task:
    """The first windows, on coarse nodes."""
    depth = max(24.0, 10.0 - math.log(tolerance))  # beyond it lies less than tolerance / e^9
    window = _closed_window(nodes, low, high, depth + MARGINS[0])
    window = cut(window, *kept_cells(window, depth + MARGINS[0]))
    scale, window = _bounded(nodes, window)
    return Task(window, scale, depth, tolerance)


def _closed_window(nodes: Nodes, low: float, high: float, depth: float) -> Window:
    """One grid for all points, extended until no point has mass at an end.

    An end is open if it is within ``depth`` of the best node, or if the density rises towards it.
    """
    step = _power_of_two(torch.tensor((high - low) / _FIRST_CELLS, dtype=torch.float64))
    first, last = math.floor(low / step), math.ceil(high / step)
    values = nodes.on_grid(first, last, step)
    for _ in range(_MAX_EXTENSIONS):
        near = values.amax(0) - depth
        left = ((values[0] >= near) & (values[0] > -math.inf)) | (values[0] > values[1])
        right = ((values[-1] >= near) & (values[-1] > -math.inf)) | (values[-1] > values[-2])
        if not (left | right).any():
            _require_mass(values)
            whole = torch.full((nodes.batch,), len(values) - 1)
            start, steps = (torch.full((nodes.batch,), float(v)) for v in (first, step))
            return Window(start.double(), steps.double(), whole, values)
        while len(values) > _WIDE_CELLS:  # far out: every other node will do, the even ones
            values = values[first % 2 :: 2]
            first, step = (first + 1) // 2, 2 * step
            last = first + len(values) - 1
        span = last - first
        if left.any():
            values = torch.cat([nodes.on_grid(first - span, first - 1, step), values])
            first -= span
        if right.any():
            values = torch.cat([values, nodes.on_grid(last + 1, last + span, step)])
            last += span
    raise PosteriorCollapseError(
        f"log_joint of point {int((left | right).nonzero()[0])} does not decay on "
        f"[{float(first * step):.4g}, {float(last * step):.4g}]: it has no posterior, or one that "
        "is far away"
    )


def _require_mass(values: Tensor) -> None:
    """Refuse points that are -inf at all nodes."""
    empty = values.amax(0) == -math.inf
    if empty.any():
        raise PosteriorCollapseError(
            f"log_joint of point {int(empty.nonzero()[0])} is -inf at all {len(values)} nodes"
        )


def kept_cells(window: Window, depth: float) -> tuple[Tensor, Tensor]:
    """First and last cell that may hold density within ``depth`` nats of the best node, (B,)."""
    keep = cell_ranges(window.values).high >= window.values.amax(0) - depth
    keep = (keep & (rows_up_to(len(keep)) < window.cells)).to(torch.int8)
    return keep.argmax(0), len(keep) - 1 - keep.flip(0).argmax(0)


class _Range(NamedTuple):
    """What the log density in the middle of a cell may be, (C, B)."""

    low: Tensor
    high: Tensor


def cell_ranges(values: Tensor) -> _Range:
    """Values that the log density may have within the cells between equidistant nodes.

    They reach from node to node, and as far as the lines through the two nodes before a cell, and
    through the two after it, go inside the cell.
    A peak much narrower than a cell shows in these lines as long as one node lies on its flank,
    whatever the node on the other side lies on.
    A line through -inf says nothing; without either line a cell next to a finite node is unbounded.

    Args:
        values: (C + 1, B).
    """
    start, end = values[:-1], values[1:]
    slopes = end - start  # per cell; nan between two -inf
    unknown = torch.full_like(slopes[:1], math.nan)
    at_end = start + torch.cat([unknown, slopes[:-1]])
    at_start = end - torch.cat([slopes[1:], unknown])
    known = torch.isfinite(at_end) | torch.isfinite(at_start)
    far_end, far_start = (
        torch.where(torch.isfinite(line), line, torch.maximum(start, end))
        for line in (at_end, at_start)
    )
    nodes_high, nodes_low = torch.maximum(start, end), torch.minimum(start, end)
    high = torch.maximum(nodes_high, torch.maximum(far_end, far_start))
    low = torch.minimum(nodes_low, torch.minimum(far_end, far_start))
    high = torch.where(known, high, math.inf)
    return _Range(low, torch.where(nodes_high == -math.inf, -math.inf, high))


# --- support that ends


class Scale(NamedTuple):
    """How z follows from the equidistant variable u; per point (B,).

    u is z itself, unless the support ends at a bound inside the window.
    Then z = middle + half-width * tanh(pi/2 sinh u), for which equal steps converge as fast as
    they do for a density that decays (Takahasi & Mori 1974).
    """

    bounded: Tensor  # bool
    low: Tensor  # of the window, used where bounded
    high: Tensor

    def place(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/du, each (S, B)."""
        if not self.bounded.any():
            return u, torch.zeros_like(u)
        inside = u.clamp(-4.0, 4.0)
        half = 0.5 * (self.high - self.low)
        s = 0.5 * math.pi * torch.sinh(inside)
        log_cosh = s.abs() + torch.log1p(torch.exp(-2.0 * s.abs())) - math.log(2.0)
        z = torch.minimum(self.low + half * (1.0 + torch.tanh(s)), self.high)
        slope = torch.log(0.5 * math.pi * torch.cosh(inside)) + torch.log(half) - 2.0 * log_cosh
        return torch.where(self.bounded, z, u), torch.where(self.bounded, slope, 0.0)


_BOUNDED_STEP = 0.25
_BOUNDED_END = 3.25  # of u, where the weights have fallen below 1e-16


def _bounded(nodes: Nodes, window: Window) -> tuple[Scale, Window]:
    """Give points whose support ends in an outer cell of their window the scale for that."""
    ends = torch.stack([torch.zeros_like(window.cells), window.cells])
    jumps = window.values.gather(0, ends) == -math.inf  # (2, B)
    low = window.first * window.step
    high = (window.first + window.cells) * window.step
    scale = Scale(jumps.any(0), low, high)
    if not jumps.any():
        return scale, window
    scale = Scale(scale.bounded, *_locate_bounds(nodes, jumps, low, high, window.step))
    rows = rows_up_to(max(len(window.values), round(2 * _BOUNDED_END / _BOUNDED_STEP) + 1))
    u = (_BOUNDED_STEP * rows - _BOUNDED_END).expand(-1, nodes.batch)
    z, slope = scale.place(torch.where(scale.bounded, u, low))
    index = rows.clamp_max(len(window.values) - 1).expand_as(z)
    values = torch.where(scale.bounded, nodes.at(z) + slope, window.values.gather(0, index))
    cells = torch.where(scale.bounded, len(rows) - 1, window.cells)
    first = torch.where(scale.bounded, -_BOUNDED_END / _BOUNDED_STEP, window.first)
    step = torch.where(scale.bounded, _BOUNDED_STEP, window.step)
    return scale, Window(first, step, cells, _continued(values, cells))


def _locate_bounds(
    nodes: Nodes, jumps: Tensor, low: Tensor, high: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """Bisect the outer cells in which the log joint goes from finite to -inf.

    Returns:
        Outermost finite z on either side, (B,) each; ends without a jump as they were.
    """
    outside = torch.stack([low, high])
    inside = torch.where(jumps, torch.stack([low + step, high - step]), outside)
    for _ in range(60):
        middle = (0.5 * (outside + inside)).to(nodes.dtype).double()
        finite = nodes.at(middle) > -math.inf
        inside = torch.where(jumps & finite, middle, inside)
        outside = torch.where(jumps & ~finite, middle, outside)
    return inside[0], inside[1]
