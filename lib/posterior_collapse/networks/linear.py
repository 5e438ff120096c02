"""The linear VAE: probabilistic PCA with a Gaussian encoder, where every answer is known.

x = W z + b + noise, noise ~ N(0, s^2 I), z ~ N(0, I).
Its ELBO has no spurious optimum (Lucas et al. 2019), so training must land on closed forms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.networks.base import VAE
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.priors import Prior


class LinearHead(nn.Module):
    """q(z|x) = N(V x + a, diag exp(l)), with one log-variance for all x, as the optimum has."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent_dim)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to the posterior."""
        mean = self.mean(features)
        return DiagonalNormal(mean, self.logvar.expand_as(mean))


class LinearDecoder(nn.Module):
    """p(x|z) = N(W z + b, noise_var I) with the noise held fixed.

    Args:
        latent_dim: D.
        features: size of x.
        noise_var: s^2, positive.
    """

    def __init__(self, latent_dim: int, features: int, noise_var: float) -> None:
        super().__init__()
        if not noise_var > 0.0:
            raise BadInput(f"noise_var must be positive, given {noise_var}")
        self.mean = nn.Linear(latent_dim, features)
        self.noise_var = noise_var

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats: x (B, F), z (S, B, D) -> (S, B)."""
        squared = (x - self.mean(z)).square().sum(-1)
        constant = x.shape[-1] * math.log(2.0 * math.pi * self.noise_var)
        return -0.5 * (squared / self.noise_var + constant)


class LinearOptimum(NamedTuple):
    """What a linear VAE with KL weight beta has at its global optimum, per latent dimension.

    Dimensions are in the order of the eigenvalues; every tensor is (D,).
    """

    weight_squared: Tensor  # squared length of the column of W
    posterior_variance: Tensor
    variance_of_means: Tensor  # Var over x of the posterior mean
    kl: Tensor  # E KL(q(z|x) || p), nats
    mutual_posterior_divergence: Tensor
    active: Tensor  # bool: the dimension carries information


def linear_optimum(eigenvalues: Tensor, noise_var: float, beta: float = 1.0) -> LinearOptimum:
    """Closed form of the optimum of a linear VAE trained with KL weight beta.

    w_i^2 = (lambda_i - beta s^2)_+ and KL_i = log(lambda_i / (beta s^2)) / 2 where positive.
    A direction collapses once beta s^2 reaches its eigenvalue.

    Args:
        eigenvalues: (D,), the largest eigenvalues of the data covariance (ddof 0).
        noise_var: s^2.
        beta: weight of the KL.
    """
    floor = beta * noise_var
    weight_squared = (eigenvalues - floor).clamp_min(0.0)
    active = eigenvalues > floor
    posterior_variance = floor / (weight_squared + floor)
    means = weight_squared / eigenvalues.clamp_min(floor)
    ratio = torch.where(active, eigenvalues / floor, torch.ones_like(eigenvalues))
    return LinearOptimum(
        weight_squared, posterior_variance, means, 0.5 * torch.log(ratio), ratio - 1.0, active
    )


def linear_vae(features: int, latent_dim: int, noise_var: float, prior: Prior) -> VAE:
    """Linear VAE on x (B, features) with fixed noise."""
    return VAE(
        nn.Identity(),
        LinearHead(features, latent_dim),
        prior.build(latent_dim),
        LinearDecoder(latent_dim, features, noise_var),
    )
