"""Equation 3 on models whose evidence and posterior are known."""

from __future__ import annotations

import math

import pytest
import torch

from posterior_collapse.errors import BadInput
from posterior_collapse.gap import elbo_gap_1d, posterior_densities_1d
from posterior_collapse.networks import VAE, linear_vae, text_vae, uniform_
from posterior_collapse.posteriors import Diagonal
from posterior_collapse.priors import StandardNormal


def ppca() -> tuple[VAE, torch.Tensor]:
    """The model of case ``ppca_n1``: W = (1, -.5, 2), noise variance .49, b = (.1, 0, -.2)."""
    model = linear_vae(3, 1, 0.49, StandardNormal()).double().eval()
    with torch.no_grad():
        model.decoder.mean.weight.copy_(torch.tensor([[1.0], [-0.5], [2.0]]).double())  # type: ignore[union-attr, operator]
        model.decoder.mean.bias.copy_(torch.tensor([0.1, 0.0, -0.2], dtype=torch.float64))  # type: ignore[union-attr, operator]
        model.posterior_head.mean.weight.zero_()  # type: ignore[union-attr, operator]
        model.posterior_head.mean.bias.fill_(0.5)  # type: ignore[union-attr, operator]
        model.posterior_head.logvar.fill_(-1.5)  # type: ignore[union-attr, operator]
    return model, torch.tensor([[0.9, -1.1, 1.4]], dtype=torch.float64)


def test_gap_of_ppca_equals_the_printed_case() -> None:
    found = elbo_gap_1d(*ppca())
    assert found.log_evidence.item() == pytest.approx(-3.7368817280521167, rel=1e-9)
    assert found.elbo.item() == pytest.approx(-4.56512456295291, rel=1e-10)
    assert found.gap.item() == pytest.approx(0.8282428349007933, rel=1e-9)
    assert abs(found.residual.item()) < 1e-8


def test_gap_vanishes_where_q_is_the_posterior() -> None:
    model, x = ppca()
    with torch.no_grad():
        model.posterior_head.mean.bias.fill_(0.7926829268292683)  # type: ignore[union-attr, operator]
        model.posterior_head.logvar.fill_(math.log(0.08536585365853659))  # type: ignore[union-attr, operator]
    found = elbo_gap_1d(model, x)
    assert abs(found.gap.item()) < 1e-9
    assert found.elbo.item() == pytest.approx(found.log_evidence.item(), abs=1e-8)


def test_identity_holds_for_a_text_model() -> None:
    model = text_vae(30, 8, 12, 1, 0.5, Diagonal(), StandardNormal())
    uniform_(model, torch.Generator().manual_seed(0), (-0.7, 0.7), (-0.7, 0.7))
    model.double().eval()
    x = torch.randint(3, 30, (5, 9), generator=torch.Generator().manual_seed(1))
    found = elbo_gap_1d(model, x)
    assert (found.gap > 1e-4).all()  # an untrained encoder is wrong
    assert found.residual.abs().max() < 1e-6


def test_densities_integrate_to_one() -> None:
    shown = posterior_densities_1d(*ppca(), low=-4.0, high=4.0)
    for density in (shown.model, shown.approximate):
        assert torch.trapezoid(density[:, 0], shown.z).item() == pytest.approx(1.0, abs=1e-4)


def test_more_than_one_dimension_is_refused() -> None:
    model = linear_vae(3, 2, 1.0, StandardNormal()).double()
    with pytest.raises(BadInput, match="scalar"):
        elbo_gap_1d(model, torch.zeros(1, 3, dtype=torch.float64))
