"""The diagnosis of a reader's model: planted cases whose finding is known, and models of others."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.utils.data import DataLoader, TensorDataset

from posterior_collapse import diagnose
from posterior_collapse.diagnosis import CollapseMonitor, CollapseWarning, Report
from posterior_collapse.diagnosis.rules import _RULES, _SUGGESTIONS, ADVICE
from posterior_collapse.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
N = 600
NOISE = 0.5  # standard deviation of x given z


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=source(seed), dtype=torch.float64)


class Linear(nn.Module):
    """x = W z + noise with the posterior of weight ``beta``, which is known; nothing of ours in it.

    The columns of W are orthogonal, so the posterior is diagonal.
    """

    def __init__(self, gains: list[float], beta: float = 1.0) -> None:
        super().__init__()
        self.gains, self.beta = torch.tensor(gains, dtype=torch.float64), beta

    def data(self, seed: int = 0) -> Tensor:
        z = normal(N, len(self.gains), seed=seed)
        return z * self.gains + NOISE * normal(N, len(self.gains), seed=seed + 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1.0 + self.gains**2 / (self.beta * NOISE**2)
        mean = x * self.gains / (self.beta * NOISE**2) / precision
        return mean, -precision.log().expand_as(mean)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return Normal(z * self.gains, NOISE).log_prob(x).sum(-1)


class Wrong(Linear):
    """The same decoder with another encoder."""

    def __init__(self, gains: list[float], encoder: Callable[[Tensor], tuple[Tensor, Tensor]]):
        super().__init__(gains)
        self.encoder = encoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x)


def at(mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    return mean, torch.full_like(mean, math.log(variance))


def of_model(model: Linear) -> Report:
    return diagnose(model, model.data().split(100), num_samples=100)


def of_codes(mean: Tensor, variance: float, prior: Any = None) -> Report:
    mean, logvar = at(mean, variance)
    return diagnose(mean=mean, logvar=logvar, prior=prior)


def rotated(rank: int, dimensions: int) -> Tensor:
    """Codes of some directions, turned so that each dimension has a part of them."""
    turn = torch.linalg.qr(normal(dimensions, dimensions, seed=5)).Q
    return torch.cat([0.95 * normal(N, rank), torch.zeros(N, dimensions - rank)], 1) @ turn


def two_clusters(spread: float) -> tuple[Tensor, MixtureSameFamily]:
    """Codes of two clusters at -3 and 3, and the prior that has them."""
    sides = torch.where(normal(N, 1, seed=7) > 0, 3.0, -3.0)
    centres = torch.tensor([[-3.0, -3.0], [3.0, 3.0]], dtype=torch.float64)
    parts = Independent(Normal(centres, torch.ones_like(centres)), 1)
    mixture = MixtureSameFamily(Categorical(torch.tensor([0.5, 0.5]).double()), parts)
    return sides + spread * normal(N, 2, seed=8), mixture


class Case(NamedTuple):
    """A model whose state is known, and the kinds that must be found, the gravest first."""

    name: str
    report: Callable[[], Report]
    kinds: tuple[str, ...]
    words: str = ""  # of the first sentence


FOUR = [1.5, 1.2, 1.0, 0.8]
CLUSTERS, MIXTURE = two_clusters(0.8**0.5)
CASES = [
    Case("healthy", lambda: of_model(Linear(FOUR)), ("healthy",), "4 of 4 directions"),
    Case(
        "collapsed encoder",
        lambda: of_model(Wrong(FOUR, lambda x: at(0.0 * x, 1.0))),
        ("inference-collapse",),
        "4 of 4 dimensions sit at the prior",
    ),
    Case(
        "collapsed, decoder unknown",
        lambda: of_codes(0.01 * normal(N, 32), 0.99),
        ("collapse",),
        "32 of 32 dimensions",
    ),
    Case(
        "ignoring decoder, collapsed encoder",
        lambda: of_model(Wrong([0.0] * 4, lambda x: at(0.0 * x, 1.0))),
        ("model-collapse",),
        "a model without a latent variable",
    ),
    Case(
        "half-collapsed",
        lambda: of_model(Linear([1.5, 1.2, 0.0, 0.0])),
        ("partial",),
        "2 of 4 directions",
    ),
    Case(
        "offset: a target KL met by constant means",
        lambda: of_codes(torch.full((N, 8), 1.0).double(), 1.0),
        ("offset",),
        "4.00 nats are paid",
    ),
    Case(
        "offset: delta-VAE's floor met by constant variances",
        lambda: of_codes(torch.zeros(N, 8).double(), 0.2),
        ("offset",),
        "of them tell examples apart",
    ),
    Case(
        "rotated: two directions in eight active dimensions",
        lambda: of_codes(rotated(2, 8), 0.1),
        ("partial", "mismatch"),
        "2 of 8 directions of the latent space carry information",
    ),
    Case(
        "mixture prior, codes that follow it",
        lambda: of_codes(CLUSTERS, 0.2, MIXTURE),
        ("healthy",),
    ),
    Case(
        "over-regularised by beta = 4",
        lambda: of_model(Linear([3.0, 2.5, 2.0, 1.5], beta=4.0)),
        ("over-regularised", "mismatch"),
        "about 4.0 times",
    ),
    Case(
        "undertrained: means far too short for their widths",
        lambda: of_model(Wrong([1.5, 1.5], lambda x: at(0.15 * x, 0.1))),
        ("undertrained", "mismatch"),
        "not at its optimum",
    ),
    Case(
        "decoder that ignores an informative encoder",
        lambda: of_model(Wrong([0.0] * 4, lambda x: at(1.8 * x, 0.2))),
        ("deaf-decoder",),
        "costs only 0.00 nats",
    ),
    Case(
        "posterior variance at 0",
        lambda: of_codes(normal(N, 4), 1e-9),
        ("point", "mismatch"),
        "4 of 4 dimensions",
    ),
    Case("one dimension", lambda: of_model(Linear([1.5])), ("healthy",), "1 of 1 directions"),
    Case(
        "one dimension, means and log-variances of shape (N,)",
        lambda: diagnose(mean=0.9 * normal(N), logvar=torch.full((N,), math.log(0.2)).double()),
        ("healthy",),
        "1 of 1 directions",
    ),
    Case(
        "512 dimensions, 24 in use",
        lambda: of_codes(torch.cat([0.7 * normal(N, 24), torch.zeros(N, 488).double()], 1), 1.0),
        ("partial",),
        "of 512 directions",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_planted_cases(case: Case) -> None:
    report = case.report()
    kinds = tuple(finding.kind for finding in report.findings)
    assert kinds[: len(case.kinds)] == case.kinds or kinds == case.kinds[:1], str(report)
    assert kinds[0] == case.kinds[0]
    assert case.words in report.findings[0].sentence
    assert report.findings[0].sentence in str(report)


@pytest.mark.parametrize(
    ("report", "never"),
    [
        # Half a nat in one of two dimensions is information; a KL of 0.29 is no payment.
        (lambda: of_codes(normal(N, 2), 1.0), "collapse"),
        (lambda: of_codes(torch.full((N, 1), 0.7).double(), 1.0), "offset"),
        (lambda: of_model(Linear(FOUR, beta=1.2)), "over-regularised"),
        (lambda: of_model(Linear(FOUR, beta=0.3)), "undertrained"),
        (lambda: of_model(Linear([1.5, 1.2, 0.9, 0.3])), "partial"),
        (lambda: of_codes(normal(N, 2), 0.02), "point"),
        (lambda: of_model(Linear([0.6])), "deaf-decoder"),
    ],
)
def test_near_misses(report: Callable[[], Report], never: str) -> None:
    assert never not in [finding.kind for finding in report().findings]


def test_clusters_without_their_prior_are_a_mismatch() -> None:
    """What the prior of the case above is worth."""
    assert "mismatch" in [finding.kind for finding in of_codes(CLUSTERS, 0.2).findings]


def test_measures_agree_with_closed_forms() -> None:
    model = Linear(FOUR)
    report = of_model(model)
    precision = 1.0 + model.gains**2 / NOISE**2
    information = 0.5 * precision.log().sum().item()  # of the exact posterior
    x = model.data()
    evidence = Normal(0.0, (model.gains**2 + NOISE**2).sqrt()).log_prob(x[:200]).sum(-1)

    def near(name: str, exact: float, slack: float = 0.0) -> None:
        measure = report.measures[name]
        assert abs(measure.value - exact) < 5.0 * (measure.stderr or 0.0) + slack, (name, measure)

    near("kl", information)
    near("mutual_information", information, slack=0.1)  # bounded by log S and by few points
    near("nll", -evidence.mean().item())
    near("elbo_gap", 0.0, slack=1e-9)
    near("kl_weight_of_std", 1.0)
    near("kl_weight_of_means", 1.0)
    assert report.measures["conditional_entropy"].value == pytest.approx(
        (0.5 * (math.log(2 * math.pi * math.e) - precision.log())).sum().item()
    )


def test_every_rule_has_advice_and_its_pages_exist() -> None:
    kinds = {kind for one in _SUGGESTIONS for kind in one["findings"]}
    assert {kind for kind, _ in _RULES} == kinds == set(ADVICE) - {"healthy"}
    for kind, suggestions in ADVICE.items():
        assert suggestions or kind == "healthy"
        for one in suggestions:
            assert (ROOT / f"{one.page}.ipynb").is_file(), one.page


# --- models of other libraries --------------------------------------------------------------------


class Output(dict):
    """A mapping whose entries are attributes too, as pythae's outputs are."""

    __getattr__ = dict.__getitem__


class PythaeLike(nn.Module):
    """encoder(x) gives ``embedding`` and ``log_covariance``; the model takes a dict of ``data``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2).double()

    def encoder(self, x: Tensor) -> Output:
        mean = self.linear(x)
        return Output(embedding=mean, log_covariance=torch.full_like(mean, -2.0))


class ScviLike:
    """A model that wraps a module whose inference gives ``qz_m`` and ``qz_v``."""

    def encode(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"qz_m": tensors["X"][:, :2], "qz_v": torch.full((len(tensors["X"]), 2), 0.3)}


def test_a_model_with_the_outputs_of_pythae() -> None:
    data = TensorDataset(normal(N, 3), torch.zeros(N))
    assert diagnose(PythaeLike(), DataLoader(data, batch_size=50)).kind != "collapse"
    assert diagnose(PythaeLike(), data).latent.examples == N


def test_a_model_with_the_outputs_of_scvi() -> None:
    report = diagnose(ScviLike(), [{"X": part} for part in normal(N, 3).split(100)])
    assert (report.kind, report.latent.examples) == ("healthy", N)


class Maps(Linear):
    """Codes as maps (B, 1, 2, 2), which ``as_code`` puts as other libraries do; diffusers' are."""

    def __init__(self, as_code: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__(FOUR)
        self.as_code = as_code

    def encode(self, x: Tensor) -> Any:
        return self.as_code(*(part.reshape(-1, 1, 2, 2) for part in super().encode(x)))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        assert z.shape[2:] == (1, 2, 2)
        return super().log_likelihood(x, z.flatten(2))


@pytest.mark.parametrize(
    "as_code",
    [
        lambda mean, logvar: (mean, logvar),
        lambda mean, logvar: Normal(mean, torch.exp(0.5 * logvar)),
        lambda mean, logvar: Independent(Normal(mean, torch.exp(0.5 * logvar)), 3),
        lambda mean, logvar: Output(latent_dist=Output(mean=mean, logvar=logvar)),
    ],
)
def test_maps_of_codes_are_diagnosed_as_the_same_numbers_in_a_row(as_code: Any) -> None:
    maps, flat = of_model(Maps(as_code)), of_model(Linear(FOUR))
    assert maps.kind == flat.kind == "healthy" and "nll" in maps.measures
    torch.testing.assert_close(maps.latent.kl, flat.latent.kl, rtol=1e-9, atol=1e-9)
    for name, measure in flat.measures.items():
        assert maps.measures[name].value == pytest.approx(measure.value, rel=1e-9, abs=1e-9)


def test_plain_torch_in_train_mode_is_left_as_it_was() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mean, logvar = self.body(x).chunk(2, -1)
            return x, mean, logvar

    model = Plain().train()
    first = diagnose(model, normal(N, 3).float())
    assert model.training and model.body.training
    assert first.to_dict() == diagnose(model, normal(N, 3).float()).to_dict()  # no dropout


# --- what a report is -----------------------------------------------------------------------------


def test_a_report_is_json_a_figure_and_a_page(tmp_path: Path) -> None:
    report = of_codes(rotated(2, 8), 0.1)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["kind"] == "partial" and len(told["kl_per_dimension"]) == 8
    assert len(report.figure().axes) == 2
    page = report.save(tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and 'aria-label="KL by dimension' in page
    assert "http" not in page and "prefers-color-scheme:dark" in page
    with pytest.raises(BadInput, match=r"ends in \.html"):
        report.save(tmp_path / "x.pdf")
    with pytest.raises(BadInput, match="can't write"):
        report.save(tmp_path / "none" / "x.html")


def test_without_matplotlib_a_figure_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInput, match="needs matplotlib"):
        of_codes(normal(N, 2), 0.5).figure()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "posterior_collapse.diagnose", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "means.npz"
    np.savez(file, mean=np.zeros((50, 3)), logvar=np.zeros((50, 3)))
    done = command(str(file), "--save", str(tmp_path / "x.html"))
    assert done.returncode == 0 and "posterior collapse: 3 of 3" in done.stdout
    assert (tmp_path / "x.html").is_file()
    np.savez(file, mu=np.zeros(3))
    objects = tmp_path / "objects.npz"
    np.savez(objects, mean=np.array([None]), logvar=np.zeros(1))
    for path, words in (
        (file, "has no mean and no logvar; it has mu"),
        (objects, "no npz file of numbers"),
        (tmp_path / "no.npz", "there is no file"),
    ):
        done = command(str(path))
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: diagnose(), "either a model with batches, or mean"),
        (lambda: diagnose(Linear(FOUR)), "give batches as well"),
        (lambda: diagnose(Linear(FOUR), []), "batches is empty"),
        (lambda: diagnose(mean=normal(5, 2)), "go together"),
        (lambda: diagnose(mean=normal(5, 2), logvar=normal(5, 3)), r"\(5, 3\)"),
        (lambda: diagnose(mean=normal(1, 2), logvar=normal(1, 2)), "at least 2 examples"),
        (lambda: diagnose(mean=normal(5, 2) * math.nan, logvar=normal(5, 2)), "nan"),
        (lambda: diagnose(mean=normal(5, 2), logvar=normal(5, 2) - math.inf), "variance 0"),
        (lambda: diagnose(mean=normal(5, 2), logvar=normal(5, 2) + 1e6), "natural logarithm"),
        (lambda: diagnose(lambda x: x, [normal(5, 2)]), "no mean with a log-variance"),
        (lambda: diagnose(mean=[["a"]], logvar=[["b"]]), "must hold numbers"),
        (lambda: diagnose(mean=normal(5, 2), logvar=normal(5, 2), examples=1), "examples"),
    ],
)
def test_what_cannot_be_read_is_said_at_once(call: Callable[[], Report], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call()


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_arrays_of_other_kinds(kind: Any) -> None:
    mean = (0.8 * normal(N, 4)).numpy().astype(kind)
    assert diagnose(mean=mean, logvar=np.full_like(mean, -1.5)).kind == "healthy"


def test_batches_may_be_a_generator() -> None:
    model = Linear(FOUR)
    assert diagnose(model, (part for part in model.data().split(100))).kind == "healthy"


def test_a_prior_that_cannot_be_read_is_said() -> None:
    model = Linear(FOUR)
    assert "prior" not in " ".join(limit for limit in of_model(model).limits)
    model.prior = nn.Linear(1, 1)
    assert "no distribution of torch" in of_model(model).limits[0]


def test_mi_at_its_cap_is_said() -> None:
    report = of_codes(5.0 * normal(40, 8), 0.05)
    assert any("at its cap of log 40" in limit for limit in report.limits)
    assert not any("at its cap" in limit for limit in of_model(Linear(FOUR)).limits)


# --- while a model trains -------------------------------------------------------------------------


def test_the_monitor_warns_once_and_again_after_a_recovery() -> None:
    monitor = CollapseMonitor(patience=2)
    dead, alive = at(torch.zeros(50, 3).double(), 1.0), at(normal(50, 3), 0.2)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        low = [
            monitor.epoch(*codes) for codes in (dead, alive, dead, dead, dead, alive, dead, dead)
        ]
    assert low == [True, False, True, True, True, False, True, True]
    assert [w.category for w in given] == [CollapseWarning] * 2
    assert "KL 0.00 nats, MI 0.00 nats, below 0.1 for 2 epochs" in str(given[0].message)
    assert len(monitor.history) == 8
