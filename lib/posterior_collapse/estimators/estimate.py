"""What an estimate is, and what is asked of the arguments of all estimators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterior_collapse.errors import BadInput
from posterior_collapse.objectives import Model


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    The standard error covers the sampling of z, given the data points and the model.
    It is infinite where one draw alone leaves it unknown.
    """

    value: Tensor  # () or (N,), nats
    stderr: Tensor  # the shape of value
    n: int  # what the value depends on: points aggregated, or samples; see the function


def require_generator(generator: Any) -> None:
    """Refuse a seed or None: an estimate never draws from the global random state."""
    if not isinstance(generator, torch.Generator):
        raise BadInput(
            "generator must be a torch.Generator, such as torch.Generator().manual_seed(0), given "
            f"{generator!r}"
        )


def require_model(model: Any, *batches: Any) -> None:
    """Refuse what is no :class:`Model`, and what is no collection of batches."""
    for name in ("posterior", "log_likelihood"):
        if not callable(getattr(model, name, None)):
            raise BadInput(f"a model needs a method {name}, which {type(model).__name__} lacks")
    prior = getattr(model, "prior", None)
    if not isinstance(prior, Distribution) or len(prior.event_shape) != 1:
        raise BadInput(
            "a model's prior must be a torch distribution with event shape (D,), given "
            f"{_described(prior)}"
        )
    for given in batches:
        if isinstance(given, Tensor | str | dict) or not isinstance(given, Iterable):
            raise BadInput(
                "batches must be a list or another iterable of batches of x, such as [x] or "
                f"x.split(128), given {_described(given)}"
            )


def posteriors(model: Model, batches: Iterable[Any]) -> Iterator[tuple[Any, Distribution]]:
    """Every batch with its posterior, which is encoded when it is asked for.

    Raises:
        BadInput: the posterior is no distribution with batch shape (B,) and the prior's event
            shape (D,), B is 0, or the model cannot read a batch that is a list or a tuple.
    """
    for x in batches:
        try:
            q: Any = model.posterior(x)
        except Exception as error:
            if not isinstance(x, list | tuple):
                raise
            raise BadInput(
                f"the model cannot read a batch that is a {type(x).__name__} of {len(x)} "
                f"({type(error).__name__}: {error}); where a loader gives pairs (x, y), pass "
                "(x for x, y in loader)"
            ) from error
        event = model.prior.event_shape
        if not isinstance(q, Distribution) or q.event_shape != event or len(q.batch_shape) != 1:
            raise BadInput(
                f"a model's posterior must be a torch distribution with batch shape (B,) and the "
                f"prior's event shape {tuple(event)}, given {_described(q)}"
            )
        if q.batch_shape[0] == 0:
            raise BadInput("a batch holds no example; leave empty batches out")
        yield x, q


def _described(given: Any) -> str:
    """What was given, for a message."""
    name = type(given).__name__
    if isinstance(given, Tensor):
        return f"one tensor of shape {tuple(given.shape)}"
    if not isinstance(given, Distribution):
        return f"a {name}" if given is not None else "none"
    shapes = f"{tuple(given.batch_shape)} and event shape {tuple(given.event_shape)}"
    hint = "; Independent(it, 1) makes the last dimension one of the event"
    return f"a {name} with batch shape {shapes}{hint if not given.event_shape else ''}"
