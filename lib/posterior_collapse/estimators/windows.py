"""Nodes of a scalar density, windows of cells between them, and what may be inside a cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.errors import BadInput, PosteriorCollapseError

# Nodes times points that one call of log_joint gets; bench/bench_posterior_grid.py.
NODES_PER_CALL = 1024


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
        chunks = []
        for rows in z.split(self.rows):
            everywhere = self.idle.repeat(len(rows), 1)
            everywhere[:, points] = rows
            chunks.append(self._call(everywhere)[:, points])
        return torch.cat(chunks)

    def glimpse(self, z: Tensor) -> Tensor:
        """As :meth:`at` of all points, where a density that is nan, as far out, counts as zero."""
        values = torch.cat([self._values(rows) for rows in z.split(self.rows)])
        return torch.where(torch.isnan(values), -math.inf, values)

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

    def _values(self, z: Tensor) -> Tensor:
        values = self.log_joint(z.to(self.device, self.dtype))
        if not isinstance(values, Tensor) or values.shape != z.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise BadInput(f"log_joint must return shape {tuple(z.shape)}, given {shape}")
        self.result_dtype = values.dtype
        return values.cpu().double()

    def _call(self, z: Tensor) -> Tensor:
        values = self._values(z)
        bad = torch.isnan(values) | (values == math.inf)
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise PosteriorCollapseError(
                f"log_joint is {values[row, column].item()} at z = {z[row, column].item():.6g} "
                f"of point {column}"
            )
        return values


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


def continued(values: Tensor, cells: Tensor) -> Tensor:
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
    values = continued(window.values.gather(0, index), cells)
    return Window(window.first + left, window.step, cells, values)


def halved(window: Window, middles: Tensor) -> Window:
    """Half the steps, given the log densities between the nodes (C, B)."""
    values = window.values.new_empty(2 * len(middles) + 1, middles.shape[1])
    values[::2], values[1::2] = window.values, middles
    cells = 2 * window.cells
    values = continued(values, cells)
    return Window(2 * window.first, 0.5 * window.step, cells, values)


def kept_cells(window: Window, depth: float, worth: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """First and last cell that may hold density within ``depth`` nats of the best node, (B,).

    Args:
        worth: (C, B), nats by which a cell counts for more than its density.
    """
    keep = cell_ranges(window.values).high + worth >= window.values.amax(0) - depth
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
