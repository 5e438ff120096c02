"""Linear probes: how much of a label can be read off frozen posterior means by a linear map.

The encoder stays as it is.  The mean of q(z|x) is the representation of x, and one linear layer
is trained on a few labels (DU-VAE, Shen et al. 2021, section 5, table 2; Scale-VAE, table 4).
The papers do not say how they fit that layer.  Here it is a logistic regression on features in
units of their standard deviation, whose penalty is chosen by cross-validation on the training
labels.  No test label decides anything.

Such a probe asks what is there, not how loudly: dimensions that hardly move count as much as
others.  A nearly collapsed posterior can therefore do better than guessing, as the printed
accuracies of the basic VAE do.  One that does not move at all gives the majority answer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.distributions import ComposeTransform, Distribution, TransformedDistribution

from posterior_collapse.datasets import ImageSplit, Split
from posterior_collapse.errors import BadInput
from posterior_collapse.estimators import evaluating
from posterior_collapse.posteriors import Flowed

L2_GRID = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
FOLDS = 5
SEED = 2019  # of the permutation that makes the folds
# Below this fraction of its size a feature's spread is rounding in float32, not information.
_ROUNDING = 1e-6

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


class ProbeResult(NamedTuple):
    """What a probe reaches on the test set."""

    accuracy: float  # share of test labels that are right, 0 to 1
    majority_accuracy: float  # that of always answering the commonest training label
    n_train: int
    n_test: int
    l2: float  # penalty that cross-validation chose; infinite if only a constant can be learned
    right: tuple[bool, ...]  # whether the answer is right, of each test example in their order

    @property
    def stderr(self) -> float:
        """Standard error of the accuracy from the number of test labels, training fixed."""
        return math.sqrt(self.accuracy * (1.0 - self.accuracy) / self.n_test)


# --- representations ------------------------------------------------------------------------------


def representation(posterior: Distribution) -> Tensor:
    """What stands for x: the mean of its posterior; for a flow its mean before and after.

    Args:
        posterior: batch shape (B,), event shape (D,).

    Returns:
        (B, D), or (B, 2 D) for a flow: the mean of z_0, and what the flow makes of it
        (DU-VAE, section 5, classification).
    """
    if isinstance(posterior, Flowed):
        return torch.cat([posterior.mean, posterior.push(posterior.mean)], dim=-1)
    if isinstance(posterior, TransformedDistribution):
        first = posterior.base_dist.mean
        last = ComposeTransform(posterior.transforms)(first)
        return torch.cat([first, last], dim=-1)
    return posterior.mean


def posterior_means(model: Any, batches: Iterable[Tensor]) -> Tensor:
    """Encode batches with a frozen model.

    Args:
        model: has ``posterior(x)``; an ``nn.Module`` is in evaluation mode meanwhile.
        batches: x (B, ...) on the model's device; one is held at a time.

    Returns:
        (N, D) in the order of the batches, see :func:`representation`.

    Raises:
        BadInput: there is no batch.
    """
    with evaluating(model):
        means = [representation(model.posterior(x)) for x in batches]
    if not means:
        raise BadInput("batches is empty")
    return torch.cat(means)


def split_means(model: Any, split: Split | ImageSplit, batch_size: int = 256) -> Tensor:
    """Encode a split with a frozen model.

    Args:
        model: as for :func:`posterior_means`.
        split: N sentences or images.
        batch_size: most of them encoded at a time.

    Returns:
        (N, D) in the order of the split, on the CPU.
    """
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    device = torch.device("cpu") if first is None else first.device
    means = posterior_means(model, (x.to(device) for x in split.batches(batch_size))).cpu()
    aligned = torch.empty_like(means)
    aligned[torch.cat(split.batch_rows(batch_size))] = means
    return aligned


# --- the probe ------------------------------------------------------------------------------------


def _matrix(features: Tensor, labels: Tensor, what: str) -> tuple[Array, Labels]:
    """Features and labels as arrays; BadInput if they do not fit each other."""
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise BadInput(
            f"{what} features are (N, D) and {what} labels (N,) with N of at least 1, given "
            f"{tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BadInput(f"{what} labels are integers, given {labels.dtype}")
    if not features.isfinite().all():
        raise BadInput(f"{what} features hold nan or infinity")
    wide = features.detach().cpu().double().numpy()
    return wide, labels.detach().cpu().long().numpy()


class _Scaler(NamedTuple):
    """Features in units of their training standard deviation; constant ones become 0."""

    mean: Array  # (D,)
    std: Array  # (D,), infinite where a feature is constant

    @staticmethod
    def of(features: Array) -> _Scaler:
        """The scaler of training features (N, D)."""
        mean, std = features.mean(axis=0), features.std(axis=0)
        return _Scaler(mean, np.where(std > _ROUNDING * np.abs(mean), std, np.inf))

    def __call__(self, features: Array) -> Array:
        return (features - self.mean) / self.std


def standardised(features: Tensor, by: Tensor) -> Tensor:
    """Features (N, D) around the mean of others (M, D), in units of their standard deviation.

    What is constant among the others becomes 0.
    """
    scaler = _Scaler.of(by.detach().cpu().double().numpy())
    return torch.from_numpy(scaler(features.detach().cpu().double().numpy()))


def _path(features: Array, labels: Labels, grid: Sequence[float]) -> Iterator[LogisticRegression]:
    """Fits for every penalty, strong ones first; each starts from the one before.

    The fit minimises the sum of -log p(label | features) plus l2 / 2 times the squared weights;
    intercepts are free.
    """
    model = LogisticRegression(max_iter=2_000, tol=1e-5, warm_start=True)
    for l2 in grid:
        with warnings.catch_warnings():
            # With few labels it suspects that the classes are numbers to be predicted.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            model.set_params(C=1.0 / l2).fit(features, labels)
        yield model


def _log_probabilities(fit: LogisticRegression, features: Array) -> Array:
    """log p(label | features) (N, classes), finite where the probability underflows."""
    scores = fit.decision_function(features)
    if scores.ndim == 1:  # of two classes, the second one's
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    return log_softmax(scores, axis=1)


def _folds(labels: Labels) -> Labels:
    """A fold for every example: equally many of each label in each, up to one."""
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty_like(labels)
    folds[by_label] = np.arange(len(labels)) % FOLDS
    return folds


def _held_out_loss(
    features: Array, labels: Labels, held: NDArray[np.bool_], grid: Sequence[float]
) -> Array:
    """Sum of -log p over the held-out examples, for every penalty.

    An example whose label the others lack is left out: every penalty fails on it alike.
    """
    known = np.unique(labels[~held])
    if len(known) < 2:
        return np.zeros(len(grid))
    scaler = _Scaler.of(features[~held])
    inside, judged = scaler(features[~held]), held & np.isin(labels, known)
    outside, wanted = scaler(features[judged]), np.searchsorted(known, labels[judged])
    if not len(wanted):
        return np.zeros(len(grid))
    rows = np.arange(len(wanted))
    fits = _path(inside, labels[~held], grid)
    return np.array([-_log_probabilities(fit, outside)[rows, wanted].sum() for fit in fits])


def _choose(features: Array, labels: Labels, grid: Sequence[float]) -> float:
    """The penalty with the lowest cross-validated loss; the strongest of equals."""
    if len(grid) == 1:
        return grid[0]
    folds = _folds(labels)
    losses = [_held_out_loss(features, labels, folds == f, grid) for f in np.unique(folds)]
    return grid[int(np.argmin(np.sum(losses, axis=0)))]


def _strong_first(l2: Sequence[float]) -> list[float]:
    """Penalties from strong to weak; BadInput unless they are positive numbers."""
    grid = sorted(map(float, l2), reverse=True)
    if not grid or not all(0.0 < value < math.inf for value in grid):
        raise BadInput(f"l2 = {tuple(l2)}; allowed: at least one number, each above 0 and finite")
    return grid


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    l2: Sequence[float] = L2_GRID,
) -> ProbeResult:
    """Train a linear classifier on frozen features, and test it.

    Deterministic.  A training set with one label only, or with constant features only, teaches
    a constant: the answer is then the majority's.

    Args:
        train_features: (N, D).
        train_labels: (N,) integers; any number of classes.
        test_features: (M, D).
        test_labels: (M,) integers; one that training lacks counts as wrong.
        l2: penalties to choose from, of the sum of losses in nats.

    Raises:
        BadInput: shapes that do not fit, no examples, features that are not finite, labels that
            are no integers, or a penalty that is not above 0.
    """
    grid = _strong_first(l2)
    features, labels = _matrix(train_features, train_labels, "train")
    others, wanted = _matrix(test_features, test_labels, "test")
    if features.shape[1] != others.shape[1]:
        raise BadInput(
            f"train features have {features.shape[1]} dimensions, test features {others.shape[1]}"
        )
    classes, counts = np.unique(labels, return_counts=True)
    constant = wanted == classes[counts.argmax()]
    scaler = _Scaler.of(features)
    if len(classes) == 1 or np.isinf(scaler.std).all():
        right, chosen = constant, math.inf
    else:
        chosen = _choose(features, labels, grid)
        fit = next(_path(scaler(features), labels, [chosen]))
        right = fit.predict(scaler(others)) == wanted
    accuracy, majority = float(np.mean(right)), float(np.mean(constant))
    answers = tuple(right.tolist())
    return ProbeResult(accuracy, majority, len(labels), len(wanted), chosen, answers)


def _labels(split: Split | ImageSplit, what: str) -> Tensor:
    if split.labels is None:
        raise BadInput(f"{what} has no labels")
    return split.labels


def probe_curve(
    model: Any,
    subsets: Mapping[int, Split] | Mapping[int, ImageSplit],
    test: Split | ImageSplit,
    batch_size: int = 256,
    l2: Sequence[float] = L2_GRID,
) -> dict[int, ProbeResult]:
    """Probe a frozen model with more and more labels.

    Args:
        model: as for :func:`posterior_means`.
        subsets: labelled training examples by their number, as
            :func:`posterior_collapse.datasets.labelled_subsets` gives them.
        test: labelled test examples; encoded once.
        batch_size: most examples encoded at a time.
        l2: as for :func:`linear_probe`.

    Returns:
        The key of each subset -> its result.

    Raises:
        BadInput: no subset, a split without labels, or as in :func:`linear_probe`.
    """
    if not subsets:
        raise BadInput("subsets is empty")
    wanted = _labels(test, "the test split")
    others = split_means(model, test, batch_size)
    curve = {}
    for number, subset in subsets.items():
        labels = _labels(subset, f"the subset of {number}")
        features = split_means(model, subset, batch_size)
        curve[number] = linear_probe(features, labels, others, wanted, l2)
    return curve


# --- a few labels of each class ------------------------------------------------------------------

_LEAST_FITS = 10  # classifiers in an average: of few groups, several draws of the labelled examples


def few_labels(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    groups: Sequence[str],
    counts: Sequence[int],
) -> dict[int, Array]:
    """Train a linear classifier within each group of classes on a few examples of every class.

    Shen et al. 2021, table 3: the characters of an alphabet, with 5, 10 or 15 drawings of each.
    The penalty is 1, as so few examples choose none. Deterministic.

    Args:
        train, test: codes (N, D) and labels (N,).
        groups: name of the group of each class.
        counts: labelled examples of each class; a class with fewer trains with all it has.

    Returns:
        Of each count the accuracies (G,), groups in the order of their first class; those
        without test examples are left out.
    """
    members: dict[str, list[int]] = {}
    for label, name in enumerate(groups):
        members.setdefault(name, []).append(label)
    draws = -(-_LEAST_FITS // len(members))
    accuracies: dict[int, list[float]] = {count: [] for count in counts}
    for labels in map(torch.tensor, members.values()):
        own, judged = torch.isin(train[1], labels), torch.isin(test[1], labels)
        if not own.any() or not judged.any():
            continue
        parts = train[0][own], train[1][own], test[0][judged], test[1][judged]
        for count in counts:
            fits = (_on_few(*parts, count, draw) for draw in range(draws))
            accuracies[count].append(float(np.mean([fit.accuracy for fit in fits])))
    return {count: np.array(own) for count, own in accuracies.items()}


def _on_few(
    codes: Tensor, labels: Tensor, others: Tensor, wanted: Tensor, count: int, draw: int
) -> ProbeResult:
    """A probe that a seeded ``count`` examples of each class train."""
    order = np.random.default_rng((SEED, draw)).permutation(len(labels))
    ranked = labels.numpy()[order]
    place = np.argsort(ranked, kind="stable")  # class by class, each in the drawn order
    sizes = np.unique(ranked, return_counts=True)[1]
    rank = np.concatenate([np.arange(size) for size in sizes])
    rows = torch.from_numpy(order[place[rank < count]])
    return linear_probe(codes[rows], labels[rows], others, wanted, (1.0,))


# --- IGP's classifiers ----------------------------------------------------------------------------


class CodeAccuracy(NamedTuple):
    """Accuracies of classifiers on the codes of one model, averaged over their random starts."""

    linear: float  # one layer of weights, as in IGP's code for images; 0 to 1
    perceptron: float  # two hidden layers of 128 units, as in IGP's text; 0 to 1
    perceptron_std: float  # over the starts, ddof 1; nan with one start
    n_train: int
    n_test: int


_HIDDEN = (128, 128)
_EPOCHS = 20
_TRAIN = 0.8  # of the test set's codes; the rest judges
_HELD_OUT = 0.2  # of those that train: they choose the epoch


def classify_codes(
    codes: Tensor, labels: Tensor, starts: int, batch_size: int = 200
) -> CodeAccuracy:
    """Train classifiers on four fifths of a test set's codes, and judge them on the rest.

    Zhang et al. 2021, section 4.2: Adam with rate 0.001, 20 epochs, the epoch chosen on a fifth
    of what trains, an average over random starts.  Their code has one layer of weights for images
    and their text a perceptron, so both are here.

    Args:
        codes: posterior means (N, D) of a test set in random order.
        labels: (N,) integers.
        starts: random starts of the perceptron, at least 1.
        batch_size: of the perceptron, which the paper does not print; few codes need a small one,
            or twenty epochs are too few updates to learn anything.

    Raises:
        BadInput: shapes that do not fit, labels that are no integers, fewer than 20 examples, or
            ``starts`` below 1.
    """
    features, wanted = _matrix(codes, labels, "test")
    if len(wanted) < 20 or starts < 1:
        raise BadInput(
            f"classifiers need 20 codes and 1 start at least, given {len(wanted)} and {starts}"
        )
    cut = int(_TRAIN * len(wanted))
    linear = linear_probe(codes[:cut], labels[:cut], codes[cut:], labels[cut:], (1.0,))
    if not features.shape[1]:  # a model without a latent variable: the majority's answer
        return CodeAccuracy(linear.accuracy, linear.accuracy, 0.0, cut, len(wanted) - cut)
    fits = [_perceptron(features[:cut], wanted[:cut], seed, batch_size) for seed in range(starts)]
    accuracies = [float(np.mean(fit.predict(features[cut:]) == wanted[cut:])) for fit in fits]
    spread = float(np.std(accuracies, ddof=1)) if starts > 1 else math.nan
    return CodeAccuracy(linear.accuracy, float(np.mean(accuracies)), spread, cut, len(wanted) - cut)


def _perceptron(features: Array, labels: Labels, seed: int, batch_size: int) -> MLPClassifier:
    """Two hidden layers, at the epoch with the best held-out accuracy."""
    many = np.unique(labels, return_counts=True)[1].min() >= 10  # else no stratified fifth
    model = MLPClassifier(
        _HIDDEN,
        learning_rate_init=1e-3,
        alpha=0.0,
        batch_size=min(batch_size, max(1, int((1.0 - _HELD_OUT) * len(labels)))),
        max_iter=_EPOCHS,
        early_stopping=bool(many),
        validation_fraction=_HELD_OUT,
        n_iter_no_change=_EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # twenty epochs are what is asked for
        return model.fit(features, labels)
