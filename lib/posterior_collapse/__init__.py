"""Posterior collapse in variational autoencoders: methods, estimators and runs.

>>> import torch
>>> from posterior_collapse import kl_to_standard_normal
>>> kl_to_standard_normal(torch.ones(1, 2), torch.zeros(1, 2))
tensor([1.])

A name is imported from its module when it is first used, so that importing this package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posterior_collapse.diagnosis import diagnose
    from posterior_collapse.errors import BadInput
    from posterior_collapse.estimators import (
        Estimate,
        aggregate_kl,
        evaluate,
        importance_weighted_nll,
        mutual_information,
        posterior_moments_1d,
    )
    from posterior_collapse.gaussian import (
        active_rank,
        active_units,
        kl_to_standard_normal,
        mutual_posterior_divergence,
    )
    from posterior_collapse.methods import register
    from posterior_collapse.runs import Run, Spec, train_or_load

__all__ = [
    "BadInput",
    "Estimate",
    "Run",
    "Spec",
    "active_rank",
    "active_units",
    "aggregate_kl",
    "diagnose",
    "evaluate",
    "importance_weighted_nll",
    "kl_to_standard_normal",
    "mutual_information",
    "mutual_posterior_divergence",
    "posterior_moments_1d",
    "register",
    "train_or_load",
]

__version__ = "0.1.0"

_HOMES = {
    "diagnosis": ("diagnose",),
    "errors": ("BadInput",),
    "estimators": (
        "Estimate",
        "aggregate_kl",
        "evaluate",
        "importance_weighted_nll",
        "mutual_information",
        "posterior_moments_1d",
    ),
    "gaussian": (
        "active_rank",
        "active_units",
        "kl_to_standard_normal",
        "mutual_posterior_divergence",
    ),
    "methods": ("register",),
    "runs": ("Run", "Spec", "train_or_load"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names that this package offers."""
    return sorted([*__all__, "__version__"])
