"""A warning while a model trains, for any training loop."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from posterior_collapse import gaussian
from posterior_collapse.diagnosis.adapters import wide_pair
from posterior_collapse.diagnosis.measures import POINTS
from posterior_collapse.diagnosis.rules import NOTHING
from posterior_collapse.errors import whole
from posterior_collapse.estimators import mutual_information


class CollapseWarning(UserWarning):
    """Codes have carried no information for several epochs."""


class CollapseMonitor:
    """Warns once when codes have carried less than a tenth of a nat for some epochs in a row.

    Call :meth:`epoch` with the means and log-variances of validation examples after each epoch, in
    a plain loop as in the hooks of other frameworks.  The warning comes again after a recovery.

    Args:
        patience: epochs in a row.
        seed: of the draws for MI.

    Raises:
        BadInput: ``patience`` is no whole number of at least 1.
    """

    def __init__(self, patience: int = 3, seed: int = 0) -> None:
        self._patience = whole("patience", patience)
        self._generator = torch.Generator().manual_seed(seed)
        self.history: list[tuple[float, float]] = []  # KL and MI of each epoch, nats
        self._low = 0

    def epoch(self, mean: Any, logvar: Any) -> bool:
        """Measure one epoch; returns whether the codes carry nothing.

        Args:
            mean, logvar: (N, D) of one set of examples, the same in each epoch.

        Raises:
            BadInput: see :func:`posterior_collapse.diagnose`.
        """
        mean, logvar = wide_pair(mean, logvar)
        kl = gaussian.kl_to_standard_normal(mean, logvar).mean().item()
        rows = slice(POINTS)
        estimate = mutual_information(mean[rows], logvar[rows], 4, self._generator)
        information = float(estimate.value)
        self.history.append((kl, information))
        self._low = self._low + 1 if information < NOTHING else 0
        if self._low == self._patience:
            warnings.warn(
                f"KL {kl:z.2f} nats, MI {information:z.2f} nats, below {NOTHING} for "
                f"{self._patience} epochs: the latent variable is not in use",
                CollapseWarning,
                stacklevel=2,
            )
        return self._low > 0
