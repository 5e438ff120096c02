"""What an estimate is, and the number that every one of them asks for."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from posterior_collapse.errors import BadInput

__all__ = ["Estimate", "require_count"]


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    The standard error covers the sampling of z, given the data points and the model.
    It is infinite where one draw alone leaves it unknown.
    """

    value: Tensor  # () or (N,), nats
    stderr: Tensor  # the shape of value
    n: int  # what the value depends on: points aggregated, or samples; see the function


def require_count(name: str, value: int, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, given {value!r}")
