"""Linear probes: against known answers, a direct fit, and the frozen model they read."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    ExpTransform,
    Independent,
    Normal,
    TransformedDistribution,
)

from posterior_collapse import datasets, posteriors, probes
from posterior_collapse.errors import BadInput
from posterior_collapse.probes import classify_codes, linear_probe, standardised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_classes(number: int, distance: float, dims: int = 3, seed: int = 0):
    """Two unit Gaussians at +-distance / 2 on the first axis; features and labels."""
    g = generator(seed)
    labels = torch.randint(2, (number,), generator=g)
    x = torch.randn(number, dims, generator=g, dtype=torch.float64)
    x[:, 0] += distance * (labels - 0.5)
    return x, labels


# --- known answers ------------------------------------------------------------------------


def test_separable_classes_are_told_apart() -> None:
    x, labels = gaussian_classes(2_000, 20.0)
    result = linear_probe(x[:100], labels[:100], x[100:], labels[100:])
    assert result.accuracy == 1.0 and result.stderr == 0.0 and all(result.right)
    assert (result.n_train, result.n_test) == (100, 1_900)
    assert result.majority_accuracy == pytest.approx(0.5, abs=0.05)


def test_overlapping_classes_reach_the_best_possible_accuracy() -> None:
    """Bayes accuracy of two unit Gaussians at distance d is Phi(d / 2)."""
    x, labels = gaussian_classes(24_000, 2.0)
    result = linear_probe(x[:4_000], labels[:4_000], x[4_000:], labels[4_000:])
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert result.accuracy == pytest.approx(best, abs=4 * result.stderr)
    assert result.stderr == pytest.approx(math.sqrt(best * (1 - best) / 20_000), rel=0.05)


def test_noise_gives_the_majority_answer() -> None:
    g = generator(1)
    x = torch.randn(3_000, 32, generator=g)
    labels = (torch.rand(3_000, generator=g) < 0.7).long()
    result = linear_probe(x[:1_000], labels[:1_000], x[1_000:], labels[1_000:])
    assert result.majority_accuracy == labels[1_000:].double().mean().item()
    assert abs(result.accuracy - result.majority_accuracy) < 0.02
    assert result.l2 == max(probes.L2_GRID)


def test_many_classes() -> None:
    g = generator(2)
    centres = 8 * torch.randn(12, 6, generator=g)
    labels = torch.randint(12, (1_500,), generator=g)
    x = centres[labels] + torch.randn(1_500, 6, generator=g)
    result = linear_probe(x[:500], 10 * labels[:500], x[500:], 10 * labels[500:])
    assert result.accuracy > 0.99 and result.majority_accuracy < 0.2


def direct_fit(x: np.ndarray, positive: np.ndarray, l2: float) -> np.ndarray:
    """Weights and intercept that minimise sum log(1 + exp(-s (w x + b))) + l2 / 2 |w|^2."""
    sign = np.where(positive, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> float:
        scores = sign * (x @ parameters[:-1] + parameters[-1])
        return np.logaddexp(0, -scores).sum() + l2 / 2 * (parameters[:-1] ** 2).sum()

    return minimize(loss, np.zeros(x.shape[1] + 1), method="BFGS", options={"gtol": 1e-8}).x


@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_one_penalty_against_a_direct_minimisation(l2) -> None:
    x, labels = gaussian_classes(800, 1.0, dims=4, seed=3)
    scale = torch.tensor([0.01, 1.0, 100.0, 3.0], dtype=torch.float64)
    x = x * scale + 7 * scale
    train, test = x[:120].numpy(), x[120:].numpy()
    mean, std = train.mean(0), train.std(0)
    fitted = direct_fit((train - mean) / std, labels[:120].numpy() == 1, l2)
    predicted = (test - mean) / std @ fitted[:-1] + fitted[-1] > 0
    result = linear_probe(x[:120], labels[:120], x[120:], labels[120:], l2=[l2])
    assert result.l2 == l2
    assert result.accuracy == pytest.approx(np.mean(predicted == labels[120:].numpy()), abs=2e-3)


def test_the_penalty_has_the_lowest_cross_validated_loss() -> None:
    """Each fold by hand: its own scaling, a direct fit, the loss on what it did not see."""
    x, labels = gaussian_classes(60, 1.0, dims=12, seed=4)
    features, wanted = x.numpy(), labels.numpy()
    grid, folds = [100.0, 10.0, 1.0, 0.1], probes._folds(wanted)
    losses = []
    for l2 in grid:
        total = 0.0
        for fold in range(probes.FOLDS):
            seen = folds != fold
            mean, std = features[seen].mean(0), features[seen].std(0)
            fitted = direct_fit((features[seen] - mean) / std, wanted[seen] == 1, l2)
            scores = (features[~seen] - mean) / std @ fitted[:-1] + fitted[-1]
            total += np.logaddexp(0, np.where(wanted[~seen] == 1, -scores, scores)).sum()
        losses.append(total)
    result = linear_probe(x, labels, x, labels, l2=grid)
    assert result.l2 == grid[int(np.argmin(losses))]
    assert 0 < int(np.argmin(losses)) < len(grid) - 1  # or the choice would be no test
    for fold in range(probes.FOLDS):
        parts = probes._held_out_loss(features, wanted, folds == fold, grid)
        losses -= parts
    assert np.abs(losses).max() < 1e-3


def test_folds_are_even_in_size_and_label() -> None:
    labels = np.repeat([0, 1, 2], [50, 33, 4])
    folds = probes._folds(labels)
    sizes = np.bincount(folds)
    assert len(sizes) == probes.FOLDS and sizes.max() - sizes.min() <= 1
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=probes.FOLDS)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds[:50], np.arange(50) % 5)  # shuffled within a label


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 3))
def test_what_cannot_matter_does_not(seed, number, dims) -> None:
    """Shift and scale of the features, and names of the labels."""
    g = generator(seed)
    x = torch.randn(2 * number, dims, generator=g, dtype=torch.float64)
    labels = torch.randint(3, (2 * number,), generator=g)
    data = (x[:number], labels[:number], x[number:], labels[number:])
    result = linear_probe(*data)
    assert 0 <= result.accuracy <= 1 and result == linear_probe(*data)
    moved = 4.0 * x + 8.0
    again = linear_probe(moved[:number], labels[:number] - 5, moved[number:], labels[number:] - 5)
    assert again.l2 == result.l2
    assert again.majority_accuracy == result.majority_accuracy
    assert abs(again.accuracy - result.accuracy) * number < 1.5  # rounding may tip one


def test_the_test_labels_decide_nothing() -> None:
    x, labels = gaussian_classes(400, 1.0, dims=8, seed=5)
    true = linear_probe(x[:80], labels[:80], x[80:], labels[80:])
    assert sum(true.right) == pytest.approx(true.accuracy * true.n_test)
    turned = linear_probe(x[:80], labels[:80], x[80:], 1 - labels[80:])
    assert turned.l2 == true.l2
    assert turned.accuracy == pytest.approx(1 - true.accuracy)


# --- degenerate training sets -------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.3, -1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collapsed_means_give_the_majority_answer(value, dtype) -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 1, 2, 0, 1])
    same = torch.full((9, 4), value, dtype=dtype)
    wanted = torch.tensor([1, 1, 0, 2, 1, 5, 1, 1, 0])
    result = linear_probe(same, labels, same, wanted)
    assert result.accuracy == result.majority_accuracy == 5 / 9
    assert result.l2 == math.inf
    g = generator(6)  # what rounding leaves of a constant is no feature
    noisy = same * (1 + 1e-7 * torch.randn(same.shape, generator=g, dtype=dtype))
    assert linear_probe(noisy, labels, noisy, wanted).l2 == math.inf


def test_dimensions_that_collapsed_change_nothing() -> None:
    x, labels = gaussian_classes(600, 2.0, dims=3, seed=7)
    dead = torch.full((600, 5), 0.25, dtype=torch.float64)
    dead[200:] += torch.randn(400, 5, generator=generator(8), dtype=torch.float64)
    wide = torch.cat([x, dead], dim=1)  # constant in training, not in the test set
    plain = linear_probe(x[:200], labels[:200], x[200:], labels[200:])
    assert linear_probe(wide[:200], labels[:200], wide[200:], labels[200:]) == plain


def test_no_dimensions_at_all() -> None:
    labels = torch.tensor([0, 1, 1])
    result = linear_probe(torch.zeros(3, 0), labels, torch.zeros(3, 0), labels)
    assert result.accuracy == result.majority_accuracy == 2 / 3


def test_one_label_in_training_teaches_a_constant() -> None:
    x, labels = gaussian_classes(50, 2.0)
    result = linear_probe(x[:10], torch.ones(10, dtype=torch.int64), x[10:], labels[10:])
    assert result.accuracy == result.majority_accuracy == labels[10:].double().mean().item()
    assert result.l2 == math.inf


def test_a_tie_of_the_majority_goes_to_the_smallest_label() -> None:
    same = torch.zeros(4, 2)
    result = linear_probe(same, torch.tensor([3, 3, 1, 1]), same, torch.tensor([1, 1, 1, 3]))
    assert result.accuracy == result.majority_accuracy == 0.75


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, 0, 1], [0, 0, 0, 0, 0, 0, 1]])
def test_few_examples_of_a_label(labels) -> None:
    """Folds whose training part lacks a label, or has one only."""
    wanted = torch.tensor(labels)
    x = torch.nn.functional.one_hot(wanted, 3).double() * 5
    result = linear_probe(x, wanted, x, wanted)
    assert result.n_train == len(labels) and result.l2 in probes.L2_GRID
    assert result.accuracy >= result.majority_accuracy


def test_one_example_a_label_warns_of_nothing() -> None:
    """As with the fewest labels of a share: a warning in a page would say nothing to readers."""
    wanted = torch.arange(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = linear_probe(5.0 * torch.eye(30), wanted, 5.0 * torch.eye(30), wanted, (1.0,))
    assert result.accuracy == 1.0


def test_a_test_label_that_training_lacks_counts_as_wrong() -> None:
    x, labels = gaussian_classes(200, 20.0)
    wanted = labels[100:].clone()
    wanted[:25] = 7
    assert linear_probe(x[:100], labels[:100], x[100:], wanted).accuracy == 0.75


def test_extreme_features_stay_finite_and_silent(recwarn) -> None:
    g = generator(9)
    labels = torch.arange(60) % 2
    x = torch.randn(60, 3, generator=g, dtype=torch.float64) + 1e3 * labels[:, None]
    x[0] = 1e12  # one outlier
    result = linear_probe(x[:40], labels[:40], x[40:], labels[40:], l2=[1e-6, 1e-3, 1.0])
    assert 0 <= result.accuracy <= 1
    assert not [w for w in recwarn if issubclass(w.category, (RuntimeWarning, UserWarning))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_features": torch.zeros(3)}, r"train features are \(N, D\) .* given \(3,\)"),
        ({"train_labels": torch.zeros(2, dtype=torch.int64)}, r"given \(3, 2\) and \(2,\)"),
        ({"test_features": torch.zeros(0, 2), "test_labels": torch.zeros(0).long()}, "at least 1"),
        ({"test_features": torch.zeros(3, 4)}, "have 2 dimensions, test features 4"),
        ({"train_labels": torch.tensor([0.0, 1.0, 1.0])}, "train labels are integers"),
        ({"test_labels": torch.tensor([True, False, True])}, "test labels are integers"),
        ({"test_features": torch.full((3, 2), math.nan)}, "test features hold nan"),
        ({"train_features": torch.full((3, 2), math.inf)}, "train features hold nan or inf"),
        ({"l2": []}, r"l2 = \(\); allowed: at least one"),
        ({"l2": [1.0, 0.0]}, "each above 0"),
        ({"l2": [math.nan]}, "each above 0"),
        ({"l2": [math.inf]}, "finite"),
    ],
)
def test_bad_input_is_refused(change, message) -> None:
    x, labels = torch.randn(3, 2, generator=generator()), torch.tensor([0, 1, 1])
    good = {
        "train_features": x,
        "train_labels": labels,
        "test_features": x,
        "test_labels": labels,
    }
    with pytest.raises(BadInput, match=message):
        linear_probe(**(good | change))


def test_ten_thousand_labels_take_about_a_second() -> None:
    x, labels = gaussian_classes(20_000, 2.0, dims=32)
    start = time.process_time()
    linear_probe(x[:10_000], labels[:10_000], x[10_000:], labels[10_000:])
    assert time.process_time() - start < 5  # 0.25 s on an idle core


# --- what is encoded ----------------------------------------------------------------------


class Encoder(nn.Module):
    """Posterior means are sums and sizes of x, noised while training."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.weight = nn.Parameter(torch.ones(1))

    def posterior(self, x: Tensor) -> Independent:
        size = torch.full((len(x),), float(x.shape[1]))
        features = self.dropout(torch.stack([x.float().sum(1), size], dim=1))
        self.norm(features)  # would move its statistics in training mode
        return Independent(Normal(self.weight * features, torch.ones_like(features)), 1)


def test_means_are_encoded_in_evaluation_mode_and_modes_come_back() -> None:
    model = Encoder()
    model.train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [torch.ones(3, 5), 2 * torch.ones(2, 4)]
    means = probes.posterior_means(model, iter(batches))
    assert means.tolist() == [[5.0, 5.0]] * 3 + [[8.0, 4.0]] * 2
    assert not means.requires_grad
    assert model.training and model.dropout.training and not model.norm.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(BadInput, match="batches is empty"):
        probes.posterior_means(model, [])
    assert model.training and model.dropout.training and not model.norm.training
    with pytest.raises(RuntimeError):  # and after a failure inside
        probes.posterior_means(model, [torch.ones(3, 5, 5), torch.ones(2, 2, 2)])
    assert model.training and model.dropout.training and not model.norm.training


@given(st.lists(st.integers(3, 8), min_size=1, max_size=30), st.integers(1, 7))
def test_split_means_follow_the_rows_of_the_split(lengths, batch_size) -> None:
    """Batches of equal length reorder sentences; the means come back in order."""
    tokens = torch.zeros(len(lengths), 8, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = row + 1
    split = datasets.Split(tokens, torch.tensor(lengths))
    means = probes.split_means(Encoder(), split, batch_size)
    expected = [[float((row + 1) * length), float(length)] for row, length in enumerate(lengths)]
    assert means.tolist() == expected
    images = datasets.ImageSplit(torch.rand(len(lengths), 3, generator=generator()))
    found = probes.split_means(Encoder(), images, batch_size)
    torch.testing.assert_close(found[:, 0], images.x.sum(1))


def test_a_model_that_is_no_module() -> None:
    class Plain:
        def posterior(self, x: Tensor) -> Independent:
            return Independent(Normal(x.double(), 1.0), 1)

    x = torch.rand(5, 3, generator=generator())
    assert torch.equal(probes.split_means(Plain(), datasets.ImageSplit(x), 2), x.double())


def test_a_flow_is_represented_before_and_after() -> None:
    """DU-VAE: z_0 is the mean of its Gaussian, z_T what the flow makes of it."""
    mean = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    base = Independent(Normal(mean, torch.ones_like(mean)), 1)
    flow = TransformedDistribution(base, [AffineTransform(1.0, 2.0), ExpTransform()])
    expected = torch.cat([mean, torch.exp(1 + 2 * mean)], dim=1)
    torch.testing.assert_close(probes.representation(flow), expected)
    assert torch.equal(probes.representation(base), mean)

    def halve(z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return z / 2 + context, torch.full_like(z, -math.log(2))

    own = posteriors.DiagonalNormal(mean, torch.zeros_like(mean))
    context = torch.ones_like(mean)
    expected = torch.cat([mean, mean / 2 + 1], dim=1)
    found = probes.representation(posteriors.Flowed(own, halve, context))
    torch.testing.assert_close(found, expected)


# --- curves -------------------------------------------------------------------------------


class Lookup(nn.Module):
    """Encodes an image as its first pixels."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def posterior(self, x: Tensor) -> Independent:
        return Independent(Normal(x[:, : self.dims], 1.0), 1)


def test_curve_on_digits_rises_with_labels() -> None:
    data = datasets.load("digits")
    subsets = datasets.labelled_subsets(data)
    curve = probes.probe_curve(Lookup(64), subsets, data.test)
    assert list(curve) == [100, 500, 1_000]
    assert [result.n_train for result in curve.values()] == [100, 500, 1_000]
    assert {result.n_test for result in curve.values()} == {300}
    assert 0.8 < curve[100].accuracy < curve[1_000].accuracy
    assert curve[1_000].accuracy > 0.93
    direct = linear_probe(subsets[500].x, subsets[500].labels, data.test.x, data.test.labels)
    assert curve[500] == direct


def test_curve_of_a_collapsed_encoder_is_flat() -> None:
    class Collapsed(Lookup):
        def posterior(self, x: Tensor) -> Independent:
            return Independent(Normal(0.0 * x[:, :4] + 0.1, 1.0), 1)

    data = datasets.load("digits")
    curve = probes.probe_curve(Collapsed(4), datasets.labelled_subsets(data), data.test)
    assert all(result.accuracy == result.majority_accuracy for result in curve.values())


def test_curve_on_sentences_keeps_labels_with_their_means() -> None:
    """The grammar's sentences encoded as bags of words, whose order a mix-up would destroy."""
    data = datasets.load("grammar", datasets.Sizes(2_400, 500, 500))

    class Bag(nn.Module):
        def posterior(self, x: Tensor) -> Independent:
            counts = torch.nn.functional.one_hot(x, data.size).sum(1).float()
            return Independent(Normal(counts, 1.0), 1)

    subsets = {k: v for k, v in datasets.labelled_subsets(data).items() if k <= 500}
    curve = probes.probe_curve(Bag(), subsets, data.test, batch_size=64)
    assert curve[500].accuracy > 0.7 and curve[500].majority_accuracy < 0.15


def test_curve_refuses_what_has_no_labels() -> None:
    split = datasets.ImageSplit(torch.zeros(3, 4), torch.tensor([0, 1, 1]))
    bare = datasets.ImageSplit(split.x)
    with pytest.raises(BadInput, match="the test split has no labels"):
        probes.probe_curve(Lookup(2), {3: split}, bare)
    with pytest.raises(BadInput, match="the subset of 3 has no labels"):
        probes.probe_curve(Lookup(2), {3: bare}, split)
    with pytest.raises(BadInput, match="subsets is empty"):
        probes.probe_curve(Lookup(2), {}, split)


# --- classifiers of codes -------------------------------------------------------------------------


def test_classifiers_of_separable_codes_are_nearly_always_right() -> None:
    labels = torch.randint(4, (1_000,), generator=generator())
    codes = 6.0 * nn.functional.one_hot(labels, 4) + torch.randn(1_000, 4, generator=generator(1))
    found = classify_codes(codes, labels, 2)
    assert found.linear > 0.98 and found.perceptron > 0.98
    assert (found.n_train, found.n_test) == (800, 200)
    assert 0.0 <= found.perceptron_std < 0.02
    assert classify_codes(codes, labels, 2) == found  # starts are seeded
    one = classify_codes(codes, labels, 1)
    assert math.isnan(one.perceptron_std) and one.linear == found.linear


def test_classifiers_of_noise_are_at_chance() -> None:
    labels = torch.randint(4, (1_000,), generator=generator())
    # Enough dimensions to learn by heart what is trained on.
    found = classify_codes(torch.randn(1_000, 100, generator=generator(1)), labels, 2)
    slack = 4 * math.sqrt(0.25 * 0.75 / 200)
    assert found.linear == pytest.approx(0.25, abs=slack)
    assert found.perceptron == pytest.approx(0.25, abs=slack)


def test_only_the_perceptron_finds_what_is_not_linear() -> None:
    """Labels by the product of two signs: a line cannot cut them apart."""
    codes = torch.randn(2_000, 2, generator=generator())
    labels = (codes.prod(1) > 0).long()
    found = classify_codes(codes, labels, 1)
    assert found.linear < 0.6 and found.perceptron > 0.9


def test_classifiers_judge_on_the_last_fifth() -> None:
    """What is learned from the first four fifths is wrong for a last fifth that is the reverse."""
    labels = torch.arange(500) % 2
    codes = torch.where(torch.arange(500) < 400, 1.0, -1.0) * (2.0 * labels - 1.0)
    codes = codes[:, None] + 0.1 * torch.randn(500, 1, generator=generator())
    found = classify_codes(codes, labels, 1)
    assert (found.linear, found.perceptron) == (0.0, 0.0)


def test_classifiers_of_nothing_give_the_majority() -> None:
    labels = (torch.arange(100) % 4 == 0).long()  # three quarters are 0
    for codes in (torch.zeros(100, 0), torch.full((100, 2), 3.0)):
        found = classify_codes(codes, labels, 1)
        assert (found.linear, found.perceptron) == (0.75, 0.75)
    few = torch.zeros(100).long()
    few[3] = 1  # so rare that no stratified fifth has it
    found = classify_codes(torch.randn(100, 2, generator=generator()), few, 1)
    assert found.linear == found.perceptron == 1.0


@pytest.mark.parametrize(
    ("codes", "labels", "starts", "message"),
    [
        (torch.zeros(19, 2), torch.zeros(19).long(), 1, "20 codes and 1 start .* given 19 and 1"),
        (torch.zeros(20, 2), torch.zeros(20).long(), 0, "given 20 and 0"),
        (torch.zeros(20, 2), torch.zeros(21).long(), 1, r"\(20, 2\) and \(21,\)"),
        (torch.zeros(20), torch.zeros(20).long(), 1, r"\(20,\) and \(20,\)"),
        (torch.zeros(20, 2), torch.zeros(20), 1, "labels are integers"),
        (torch.full((20, 2), math.nan), torch.zeros(20).long(), 1, "nan"),
    ],
)
def test_classifiers_refuse(codes: Tensor, labels: Tensor, starts: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        classify_codes(codes, labels, starts)


def test_a_small_batch_teaches_a_perceptron_from_few_codes() -> None:
    """Four classes in the corners of a square, on codes far from 0 that hardly move."""
    labels = torch.arange(400) % 4
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    codes = 30.0 + 0.01 * (corners[labels] + 0.1 * torch.randn(400, 2, generator=generator()))
    scaled = standardised(codes, codes)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2).double(), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(2).double())
    assert classify_codes(scaled, labels, 2, 32).perceptron > 0.95
    assert classify_codes(codes, labels, 2).perceptron < 0.6


def test_what_is_constant_becomes_zero() -> None:
    scaled = standardised(torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, 2.0], [2.0, 2.0]]))
    assert scaled.tolist() == [[0.0, 0.0]]
