"""The gap of the ELBO, exactly, for a scalar latent variable (He et al. 2019, equation 3).

log p(x) - ELBO(x) = KL(q(z|x) || p(z|x)).
The three quantities are computed in three ways that share no integral, so that their agreement
says something.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from posterior_collapse.errors import BadInput
from posterior_collapse.estimators import posterior_moments_1d
from posterior_collapse.networks import VAE

_HERMITE_NODES = 160
_GRID_POINTS = 801
_REACH = 12.0  # standard deviations on each side of the mean of q


class Gap(NamedTuple):
    """The identity of equation 3 on B examples; every tensor is (B,), nats."""

    log_evidence: Tensor  # log p(x), adaptive grid
    elbo: Tensor  # Gauss-Hermite reconstruction minus the closed-form KL to the prior
    gap: Tensor  # KL(q(z|x) || p(z|x)), on a fixed grid around q
    residual: Tensor  # log_evidence - elbo - gap: zero but for quadrature


class Densities(NamedTuple):
    """Densities on a common grid."""

    z: Tensor  # (G,)
    model: Tensor  # (G, B), p(z|x)
    approximate: Tensor  # (G, B), q(z|x)


def _log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z): z (S, B) -> (S, B)."""
    points = z.unsqueeze(-1)
    return model.log_likelihood(x, points) + model.prior.log_prob(points)


def _scalar(q: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B,) of a posterior over a scalar."""
    if tuple(q.event_shape) != (1,):
        raise BadInput(
            f"the grid needs a scalar latent variable, given event shape {tuple(q.event_shape)}"
        )
    return q.mean[:, 0], q.variance[:, 0].sqrt()


def _evidence(model: VAE, x: Tensor, like: Tensor, tolerance: float) -> Tensor:
    """log p(x) by the adaptive grid, (B,)."""
    return posterior_moments_1d(
        lambda z: _log_joint(model, x, z),
        len(x),
        tolerance=tolerance,
        dtype=like.dtype,
        device=like.device,
    ).log_evidence


@torch.no_grad()
def elbo_gap_1d(model: VAE, x: Tensor, tolerance: float = 1e-8) -> Gap:
    """Evidence, ELBO and gap of a batch, each computed by itself.

    Args:
        model: scalar latent variable, Gaussian posterior, in evaluation mode.
        x: a batch; use a model in float64 for residuals near rounding.
        tolerance: of the log evidence. A smooth likelihood reaches 1e-8 at once; a trained LSTM's
            can jump along z, and then 1e-3 is what a sensible number of nodes gives.

    Raises:
        BadInput: the latent variable is no scalar.
    """
    q = model.posterior(x)
    mean, std = _scalar(q)
    evidence = _evidence(model, x, mean, tolerance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    at = mean + std * torch.as_tensor(nodes).to(mean).unsqueeze(1)  # (S, B)
    share = torch.as_tensor(weights / weights.sum()).to(mean).unsqueeze(1)
    reconstruction = (share * model.log_likelihood(x, at.unsqueeze(-1))).sum(0)
    elbo = reconstruction - kl_divergence(q, model.prior)
    gap = _grid_divergence(model, x, mean, std, evidence)
    return Gap(evidence, elbo, gap, evidence - elbo - gap)


def _grid_divergence(model: VAE, x: Tensor, mean: Tensor, std: Tensor, evidence: Tensor) -> Tensor:
    """KL(q || p(z|x)) by the trapezoid rule on a grid around q, (B,)."""
    steps = torch.linspace(-_REACH, _REACH, _GRID_POINTS).to(mean).unsqueeze(1)
    log_q = -0.5 * steps.square() - 0.5 * np.log(2.0 * np.pi) - std.log()  # (G, B)
    z = mean + std * steps
    log_model = torch.cat([_log_joint(model, x, part) for part in z.split(100)]) - evidence
    return torch.trapezoid(log_q.exp() * (log_q - log_model), z, dim=0)


@torch.no_grad()
def posterior_densities_1d(model: VAE, x: Tensor, low: float, high: float) -> Densities:
    """Densities of p(z|x) and q(z|x) on [low, high], for pictures.

    Args:
        model: scalar latent variable.
        x: a batch.
        low, high: the interval shown.
    """
    q = model.posterior(x)
    mean, std = _scalar(q)
    evidence = _evidence(model, x, mean, 1e-3)
    z = torch.linspace(low, high, 401).to(mean)
    column = z.unsqueeze(1).expand(-1, len(x))
    model_density = (_log_joint(model, x, column) - evidence).exp()
    normal = torch.distributions.Normal(mean, std)
    return Densities(z, model_density, cast(Tensor, normal.log_prob(column)).exp())
