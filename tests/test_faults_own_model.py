"""A reader's own model and density: right, or refused in one sentence; each once was wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    StudentT,
    TransformedDistribution,
    kl_divergence,
)
from torch.utils.data import DataLoader, TensorDataset

from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.estimators import (
    aggregate_kl,
    evaluate,
    evaluate_each,
    evaluate_scaled,
    importance_weighted_nll,
    mutual_information,
    posterior_moments_1d,
    scale_balance,
)
from posterior_collapse.posteriors import draw


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- quadrature that keeps its tolerance ----------------------------------------------------------


def check_moments(
    log_joint: Callable[[Tensor], Tensor], mean: float, variance: float, log_evidence: float = 0.0
) -> None:
    found = posterior_moments_1d(log_joint, 1, tolerance=1e-6, dtype=torch.float64)
    unit = min(1.0, math.sqrt(variance))
    assert abs(found.mean.item() - mean) <= 1e-6 * unit
    assert abs(math.sqrt(found.variance.item()) - math.sqrt(variance)) <= 1e-6 * unit
    assert abs(found.log_evidence.item() - log_evidence) <= 1e-6


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("df", [2.5, 3.0, 3.3, 3.5, 4.0, 5.0, 8.0, 20.0, 50.0])
def test_long_tails(df: float, scale: float) -> None:
    density = StudentT(t(df), t(3.0), t(scale))
    check_moments(density.log_prob, 3.0, scale**2 * df / (df - 2.0))


@pytest.mark.parametrize("df", [1.0, 2.0])
def test_tails_without_a_variance_are_refused(df: float) -> None:
    with pytest.raises(PosteriorCollapseError, match="does not decay"):
        posterior_moments_1d(StudentT(t(df)).log_prob, 1, dtype=torch.float64)


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("df", [3.5, 4.0, 5.0])
def test_a_long_tail_beside_a_bound(df: float, side: float) -> None:
    """Half of Student's t, from 0.3 on."""

    def log_joint(z: Tensor) -> Tensor:
        inside = side * (z - 0.3) >= 0.0
        return torch.where(inside, StudentT(t(df), 0.3).log_prob(z) + math.log(2.0), -math.inf)

    away = 2.0 * math.sqrt(df / math.pi) / (df - 1.0)
    away *= math.gamma(0.5 * (df + 1.0)) / math.gamma(0.5 * df)
    check_moments(log_joint, 0.3 + side * away, df / (df - 2.0) - away**2)


def test_tails_of_other_kinds() -> None:
    check_moments(lambda z: -z.abs() - math.log(2.0), 0.0, 2.0)
    pareto = lambda z: torch.where(z >= 1.0, math.log(4.0) - 5.0 * z.abs().log(), -math.inf)  # noqa: E731
    check_moments(pareto, 4.0 / 3.0, 2.0 / 9.0)
    logistic = lambda z: -z - 2.0 * torch.nn.functional.softplus(-z)  # noqa: E731
    check_moments(logistic, 0.0, math.pi**2 / 3.0)
    late = lambda z: torch.where(z >= 0.0, -z / 1e3 - math.log(1e3), -math.inf)  # noqa: E731
    check_moments(late, 1e3, 1e6)


@pytest.mark.parametrize("second", [12.0, 25.0, 39.0, 40.0, 41.0, 60.0, -60.0, 100.0, 333.0, 900.0])
@pytest.mark.parametrize("std", [0.7, 1.0, 2.0])
def test_a_second_mode_out_of_the_range_is_seen(second: float, std: float) -> None:
    modes = Normal(t([0.0, second]), t([1.0, std]))

    def log_joint(z: Tensor) -> Tensor:
        return modes.log_prob(z[..., None]).logsumexp(-1) - math.log(2.0)

    variance = 0.5 * (1.0 + std**2 + 0.5 * second**2)
    check_moments(log_joint, 0.5 * second, variance)


def test_a_log_joint_that_overflows_far_out() -> None:
    """A rate exp(z): exp(-z) - exp(-z) is nan beyond 709, where nothing lies."""

    def log_joint(z: Tensor) -> Tensor:
        rate = torch.exp(-z) + torch.exp(z)
        return Normal(t(0.5), t(0.3)).log_prob(z) + (rate - rate)

    assert torch.isnan(log_joint(t(1e3)))
    check_moments(log_joint, 0.5, 0.09)


def test_points_of_all_kinds_at_once() -> None:
    exponential = lambda z: torch.where(z >= 0.3, 0.3 - z, -math.inf)  # noqa: E731
    kinds = (
        StudentT(t(4.0)).log_prob,
        Normal(t(1.0), t(0.01)).log_prob,
        Normal(t(60.0), t(1.0)).log_prob,
        exponential,
    )

    def log_joint(z: Tensor) -> Tensor:
        return torch.stack([kind(z[:, i]) for i, kind in enumerate(kinds)], 1)

    found = posterior_moments_1d(log_joint, 4, dtype=torch.float64)
    assert found.mean.tolist() == pytest.approx([0.0, 1.0, 60.0, 1.3], abs=1e-6)
    assert found.variance.tolist() == pytest.approx([2.0, 1e-4, 1.0, 1.0], rel=2e-6)


# --- numbers whose label is right -----------------------------------------------------------------


class Own:
    """x = z + noise of variance 1, z ~ N(0, I), with q(z|x) its posterior; counts decodings."""

    def __init__(self) -> None:
        self.prior: Any = Independent(Normal(t([0.0, 0.0]), t([1.0, 1.0])), 1)
        self.decoded = 0

    def posterior(self, x: Any) -> Any:
        return Independent(Normal(0.5 * x, math.sqrt(0.5) * torch.ones_like(x)), 1)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        self.decoded += 1
        return Normal(z, t(1.0)).log_prob(x).sum(-1)


class UniformWords(Own):
    """Each word that is no padding (1) has one of 50 chances; z says nothing."""

    def posterior(self, x: Tensor) -> Any:
        return self.prior.expand((len(x),))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        words = (x[:, 1:] != 1).sum(1)
        return (-math.log(50.0) * words.double()).expand(z.shape[:2])


WORDS = torch.tensor([[5, 7, 8, 2, 1, 1], [5, 9, 2, 1, 1, 1]])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_perplexity_of_words_with_another_padding(dtype: torch.dtype) -> None:
    found = evaluate(UniformWords(), [WORDS.to(dtype)], seeded(), 3, padding=1)
    assert found.n_tokens == 5
    assert found.perplexity == pytest.approx(50.0, rel=1e-12)
    unsaid = evaluate(UniformWords(), [WORDS.to(dtype)], seeded(), 3)
    assert unsaid.n_tokens is None and unsaid.perplexity is None


class Pixels(Own):
    def posterior(self, x: Tensor) -> Any:
        return self.prior.expand((len(x),))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.full(z.shape[:2], -x.shape[1] * math.log(2.0), dtype=z.dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_images_have_no_perplexity(dtype: torch.dtype) -> None:
    images = torch.ones(4, 9).to(dtype)
    found = evaluate(Pixels(), [images], seeded(), 3)
    assert found.nll == pytest.approx(9 * math.log(2.0))
    assert found.n_tokens is None and found.perplexity is None
    if dtype is not torch.uint8:  # which may hold ids as well
        with pytest.raises(BadInput, match=r"words are counted in a tensor of ids \(B, T\)"):
            evaluate(Pixels(), [images], seeded(), 3, padding=0)


@pytest.mark.parametrize(("asked", "used"), [(1000, 100), (100, 100), (32, 32), (np.int64(7), 7)])
def test_points_aggregated_are_those_used(asked: Any, used: int) -> None:
    x = torch.randn(100, 2, generator=seeded(), dtype=torch.float64)
    found = evaluate(Own(), x.split(30), seeded(), 2, 2, aggregate=asked)
    assert found.batch_mutual_information_points == used
    assert found.mutual_information_points == 100
    json.dumps(found._asdict(), allow_nan=False)


def test_the_standard_error_of_a_sampled_kl_is_that_of_all_examples() -> None:
    x = torch.randn(60, 2, generator=seeded(), dtype=torch.float64)
    runs = [evaluate(Mixed(), [x[:2]], seeded(seed), 50, 5, encoded=[x[2:]]) for seed in range(40)]
    values = t([run.kl for run in runs])
    claimed = t([run.kl_stderr for run in runs]).square().mean().sqrt()
    assert (claimed / values.std()).item() == pytest.approx(1.0, abs=0.35)


# --- posteriors of a reader's own -----------------------------------------------------------------


class Mixed(Own):
    """The true posterior again, as a mixture of it with itself: no rsample, no closed KL."""

    def posterior(self, x: Tensor) -> Any:
        part = Normal(0.5 * x, math.sqrt(0.5) * torch.ones_like(x))
        parts = Independent(
            Normal(*(v[:, None].expand(-1, 2, -1) for v in (part.mean, part.scale))), 1
        )
        return MixtureSameFamily(Categorical(torch.ones(len(x), 2, dtype=x.dtype)), parts)


class Shifted(Own):
    """And as a transformed distribution, which knows no mean."""

    def posterior(self, x: Tensor) -> Any:
        base = Independent(Normal(torch.zeros_like(x), torch.ones_like(x)), 1)
        return TransformedDistribution(
            base, [AffineTransform(0.5 * x, math.sqrt(0.5), event_dim=1)]
        )


class Unlearned(Independent):
    """A Gaussian that can only be sampled without a gradient."""

    has_rsample = False  # type: ignore[assignment]

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        raise NotImplementedError


class OnlySampled(Own):
    def posterior(self, x: Tensor) -> Any:
        return Unlearned(StudentLike(0.5 * x, math.sqrt(0.5) * torch.ones_like(x)), 1)


class StudentLike(Normal):
    """A class of a reader's own, which this library does not know to be a Gaussian."""


@pytest.mark.parametrize("model", [Mixed(), Shifted(), OnlySampled()])
def test_other_posteriors_are_measured(model: Own) -> None:
    """Every importance weight is p(x), so that the likelihood is exact."""
    x = torch.randn(30, 2, generator=seeded(), dtype=torch.float64)
    exact = -Normal(t(0.0), t(math.sqrt(2.0))).log_prob(x).sum(-1)
    state = torch.random.get_rng_state()
    nll = importance_weighted_nll(model, x.split(8), 5, seeded()).value
    torch.testing.assert_close(nll, exact, rtol=1e-12, atol=0)
    found = evaluate(model, x.split(8), seeded(), 400, aggregate=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    kl = kl_divergence(Own().posterior(x), model.prior).mean().item()
    assert found.kl is not None and found.kl_stderr is not None
    assert abs(found.kl - kl) <= 5 * found.kl_stderr + 1e-9
    if isinstance(model, Shifted):
        assert found.active_units is found.active_rank is None
    else:
        assert found.active_units == found.active_rank == 2
    if not isinstance(model, OnlySampled):
        assert found.mutual_information is found.batch_mutual_information_points is None
    json.dumps(found._asdict(), allow_nan=False)


class Meanless(Own):
    def posterior(self, x: Tensor) -> Any:
        return Independent(StudentT(t(1.0), 0.5 * x, 0.7 * torch.ones_like(x)), 1)


def test_a_posterior_that_has_no_mean() -> None:
    x = torch.randn(30, 2, generator=seeded(), dtype=torch.float64)
    exact = -Normal(t(0.0), t(math.sqrt(2.0))).log_prob(x).sum(-1).mean().item()
    found = evaluate(Meanless(), [x], seeded(), 4000)
    assert found.nll is not None and found.nll_stderr is not None
    assert abs(found.nll - exact) <= 5 * found.nll_stderr
    assert found.active_units is None


def test_a_posterior_without_a_gradient_is_not_trained_by_accident() -> None:
    q = Mixed().posterior(torch.zeros(3, 2, dtype=torch.float64))
    for generator in (None, seeded()):
        with pytest.raises(BadInput, match="no gradient"):
            draw(q, (2,), generator)
        with torch.no_grad():
            assert draw(q, (2,), generator).shape == (2, 3, 2)


# --- what cannot be measured is refused before any work -------------------------------------------

X = torch.zeros(6, 2, dtype=torch.float64)
GOOD: dict[str, Any] = {"batches": [X], "generator": seeded(), "num_samples": 2}


def refuses(change: dict[str, Any], message: str, model: Any = None) -> None:
    """Both estimators refuse, before the model decodes anything."""
    model = Own() if model is None else model
    arguments = {**GOOD, **change}
    only_evaluate = {"aggregate", "mi_samples", "encoded", "padding"} & set(change)
    for estimator in (evaluate, evaluate_each, importance_weighted_nll):
        if estimator is not importance_weighted_nll or not only_evaluate:
            with pytest.raises(BadInput, match=message):
                estimator(model, **arguments)  # type: ignore[operator]
    assert getattr(model, "decoded", 0) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": X}, r"such as \[x\] or x.split\(128\), given one tensor of shape \(6, 2\)"),
        ({"batches": 3}, "iterable of batches of x"),
        ({"batches": None}, "iterable of batches of x"),
        ({"batches": "ab"}, "iterable of batches of x"),
        ({"encoded": X}, "given one tensor"),
        ({"batches": [X[:0]]}, "holds no example"),
        ({"batches": [(X, torch.zeros(6))]}, "a tuple of 2 .*pairs .x, y., pass .x for x, y in"),
        ({"generator": 0}, r"must be a torch.Generator, such as .*manual_seed\(0\), given 0"),
        ({"generator": None}, "must be a torch.Generator, .* given None"),
        ({"aggregate": "32"}, "aggregate is a whole number of at least 1, given '32'"),
        ({"aggregate": 0}, "aggregate is a whole number of at least 1, given 0"),
        ({"aggregate": True}, "aggregate is a whole number"),
        ({"mi_samples": 2.0}, "mi_samples is a whole number"),
        ({"num_samples": "5"}, "num_samples is a whole number"),
        ({"padding": 0}, "words are counted in a tensor of ids"),
    ],
)
def test_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    refuses(change, message)


def test_a_loader_of_pairs() -> None:
    loader = DataLoader(TensorDataset(X, torch.arange(6)), batch_size=3)
    refuses({"batches": loader}, "a list of 2 .*pass .x for x, y in loader")
    found = importance_weighted_nll(Own(), (x for x, _ in loader), 2, seeded())
    assert found.value.shape == (6,)


class Answers(Own):
    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"posterior": lambda x: Normal(x, 1.0)},
            r"batch shape \(6, 2\) and event shape \(\);.*Indep",
        ),
        ({"posterior": lambda x: (x, x)}, "given a tuple"),
        ({"posterior": lambda x: x}, "given one tensor of shape"),
        ({"posterior": lambda x: Independent(Normal(x[:, :1], 1.0), 1)}, "prior's event shape"),
        ({"prior": Normal(torch.zeros(2), 1.0)}, r"prior must be .*event shape \(D,\)"),
        ({"prior": lambda: None}, "prior must be a torch distribution .* given a function"),
        ({"prior": None}, "prior must be a torch distribution"),
        ({"log_likelihood": None}, "a model needs a method log_likelihood, which Answers lacks"),
    ],
)
def test_models_are_refused(parts: dict[str, Any], message: str) -> None:
    refuses({}, message, Answers(**parts))


def test_batches_that_are_tuples_reach_a_model_that_takes_them() -> None:
    class Pairs(Own):
        def posterior(self, x: tuple[Tensor, Tensor]) -> Any:
            return super().posterior(x[0] + x[1])

        def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
            return super().log_likelihood(x[0] + x[1], z)

    pairs = importance_weighted_nll(Pairs(), [(X, X + 1.0)], 2, seeded()).value
    plain = importance_weighted_nll(Own(), [X + 1.0], 2, seeded()).value
    assert torch.equal(pairs, plain)


@pytest.mark.parametrize("generator", [None, 0, "cpu"])
def test_a_generator_is_one_everywhere(generator: Any) -> None:
    mean = torch.zeros(3, 2)
    for estimate in (
        lambda: mutual_information(mean, mean, 2, generator),
        lambda: aggregate_kl(mean, mean, 2, generator),
        lambda: evaluate_scaled(Own(), [X], generator, 2),
        lambda: scale_balance(Own(), [X], generator),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadInput, match="generator must be a torch.Generator"):
            estimate()


@pytest.mark.parametrize("aggregate", ["32", 0, -1, 1.0, True])
def test_mutual_information_refuses_what_is_no_number(aggregate: Any) -> None:
    with pytest.raises(BadInput, match="aggregate is a whole number of at least 1"):
        mutual_information(X, X, 2, seeded(), aggregate)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    found = mutual_information(X, X, np.int64(3), seeded(), np.int32(2))  # type: ignore[arg-type]
    assert found.n == 2 and type(found.n) is int
    assert type(importance_weighted_nll(Own(), [X], np.int64(3), seeded()).n) is int  # type: ignore[arg-type]


def test_measures_of_scaled_posteriors_say_what_they_need() -> None:
    with pytest.raises(BadInput, match="measures a ScaledNormal posterior, given Independent"):
        evaluate_scaled(Own(), [X], seeded(), 2)
    with pytest.raises(BadInput, match="empty"):
        evaluate_scaled(Own(), [], seeded(), 2)
