"""A linear VAE trained on its exact loss, with nothing of the optimum built in.

x has covariance (F, F), the decoder is N(W z, s^2 I), the encoder N(V x, diag tau^2), the prior
N(0, I); the loss is E[-log p(x|z)] + beta KL, nats.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from companion.claims.formulas import Array


def loss_and_gradient(
    flat: Array, covariance: Array, latent: int, noise_var: float, beta: float = 1.0
) -> tuple[float, Array]:
    """The loss and its gradient.

    ``flat`` holds W (F, D), V (D, F) and the log-variances of z, one after another; a single
    log-variance is that of all dimensions.
    """
    features = len(covariance)
    w, v, own = _unpacked(flat, features, latent)
    logvar = np.broadcast_to(own, latent)
    variance, encoded = np.exp(logvar), v @ covariance
    squared = np.trace(covariance) - 2.0 * np.trace(w @ encoded)
    squared += np.trace(w @ encoded @ v.T @ w.T) + ((w * w).sum(0) * variance).sum()
    kl = 0.5 * (np.trace(encoded @ v.T) + (variance - 1.0 - logvar).sum())
    constant = 0.5 * features * math.log(2.0 * math.pi * noise_var)
    by_w = (w @ (encoded @ v.T + np.diag(variance)) - encoded.T) / noise_var
    by_v = (w.T @ w @ encoded - w.T @ covariance) / noise_var + beta * encoded
    by_logvar = 0.5 * (w * w).sum(0) * variance / noise_var + 0.5 * beta * (variance - 1.0)
    by_own = by_logvar.reshape(len(own), -1).sum(1)
    gradient = np.concatenate([by_w.ravel(), by_v.ravel(), by_own])
    return float(squared / (2.0 * noise_var) + constant + beta * kl), gradient


def _unpacked(flat: Array, features: int, latent: int) -> tuple[Array, Array, Array]:
    w, v, logvar = np.split(flat, [features * latent, 2 * features * latent])
    return w.reshape(features, latent), v.reshape(latent, features), logvar


class Fit(NamedTuple):
    """A trained linear VAE; its latent dimensions are in the order of falling KL."""

    decoder: Array  # W, (F, D)
    encoder: Array  # V, (D, F)
    variance: Array  # (D,), of the posterior
    variance_of_means: Array  # (D,)
    kl: Array  # (D,), nats
    loss: float  # nats


def fit(
    covariance: Any,
    latent: int,
    noise_var: float,
    beta: float = 1.0,
    seed: int = 0,
    variances: int = 0,
) -> Fit:
    """Train from a random start by L-BFGS on the loss itself; no closed form is used.

    ``variances`` is 1 where all latent dimensions share the variance of their posterior.
    """
    matrix = np.asarray(covariance, dtype=float)
    size = 2 * len(matrix) * latent + (variances or latent)
    best = minimize(
        loss_and_gradient,
        np.random.default_rng(seed).normal(size=size) * 0.5,
        (matrix, latent, noise_var, beta),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 4000, "maxfun": 8000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30},
    )
    w, v, logvar = _unpacked(best.x, len(matrix), latent)
    variance = np.exp(np.broadcast_to(logvar, latent))
    means = np.einsum("df,fg,dg->d", v, matrix, v)
    kl = 0.5 * (means + variance - 1.0 - np.log(variance))
    order = np.argsort(-kl)
    return Fit(w[:, order], v[order], variance[order], means[order], kl[order], float(best.fun))
