"""What is measured of a trained model, as its recipe says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posterior_collapse import datasets
from posterior_collapse.datasets import PAD, ImageDataset, ImageSplit, Split
from posterior_collapse.estimators import evaluate_each, evaluate_scaled, scale_balance
from posterior_collapse.networks import VAE, ImageDecoder, PixelDecoder
from posterior_collapse.posteriors import Scaled, gaussian_code
from posterior_collapse.probes import classify_codes, few_labels, probe_curve, split_means
from posterior_collapse.runs.batches import EpochBatches, batches_of, drawn, one_batch, partitioned
from posterior_collapse.runs.bounds import as_in_training, kl_bound, warn_of
from posterior_collapse.runs.monitor import mean_space
from posterior_collapse.runs.spec import Spec, load_data
from posterior_collapse.runs.text import Measured, measure_text


def evaluate_run(
    spec: Spec, model: VAE, generator: torch.Generator, sentences: int | None = None
) -> dict[str, Any]:
    """Measure a model on the test set as its recipe says.

    All of the test set is encoded. The first examples of the split, which is in random order, are
    decoded; they are the same ones for every method and seed.

    Args:
        spec: gives the data, the numbers of samples and the training slot, which decides what is
            measured.
        model: on the device where it is to be measured, as is the generator.
        generator: randomness of the Monte Carlo estimates.
        sentences: decoded examples of the test set; None takes the recipe's number.

    Returns:
        The fields of :class:`posterior_collapse.estimators.Evaluation`, and for a scaled posterior
        those of :class:`posterior_collapse.estimators.ScaledEvaluation` with ``scaled_`` before
        them.
    """
    return dict(_evaluated(spec, model, generator, sentences).metrics)


def _evaluated(
    spec: Spec, model: VAE, generator: torch.Generator, sentences: int | None = None
) -> Measured:
    """As :func:`evaluate_run`, with the likelihoods of the decoded examples as arrays.

    They are in the same order for every method and seed, so that methods can be paired by example.
    """
    setup = spec.setup
    device = next(model.parameters()).device
    test = load_data(setup).test
    count = setup.nll_sentences if sentences is None else sentences
    rows = torch.arange(len(test))
    decoded = batches_of(test.take(rows[:count]), 128, device)
    encoded = batches_of(test.take(rows[count:]), 512, device) if count < len(test) else []
    measured = spec.choices.training.evaluated(model)
    each = evaluate_each(
        measured,
        decoded,
        generator,
        num_samples=setup.nll_samples,
        mi_samples=setup.mi_samples,
        aggregate=setup.batch_size,
        encoded=encoded,
        padding=PAD if isinstance(test, Split) else None,
    )
    metrics: dict[str, Any] = each.totals._asdict()
    arrays = {} if each.nll is None else {"each_nll": each.nll.float().cpu().numpy()}
    if isinstance(spec.choices.posterior, Scaled):
        extra = evaluate_scaled(measured, decoded, generator, setup.nll_samples, setup.batch_size)
        metrics |= {f"scaled_{name}": value for name, value in extra._asdict().items()}
        seen = load_data(setup).train
        seen = drawn(seen.take(torch.arange(min(_BALANCED, len(seen)))), spec.seed, 0)
        balance = scale_balance(model, batches_of(seen, 128, device), generator)
        metrics |= {f"scaled_means_{name}": value for name, value in balance._asdict().items()}
    return Measured(metrics, arrays)


_BALANCED = 1000  # training examples that show what holds a Scale-VAE's means


def _probe(spec: Spec, model: VAE) -> Measured:
    """Accuracy of linear probes on posterior means, by number of labels, where there are labels.

    The arrays tell of each test example whether the answer is right, in the same order for every
    method and seed, so that methods can be paired by example.
    """
    setup = spec.setup
    if not setup.probes:
        return Measured({}, {})
    data = load_data(setup)
    subsets = datasets.labelled_subsets(data)
    curve = probe_curve(spec.choices.training.evaluated(model), subsets, data.test)
    metrics = {f"probe_{count}": result.accuracy for count, result in curve.items()}
    metrics["probe_majority"] = next(iter(curve.values())).majority_accuracy
    right = {f"each_probe_{count}": np.array(result.right) for count, result in curve.items()}
    return Measured(metrics, right)


def _classify(spec: Spec, model: VAE) -> dict[str, float]:
    """Accuracies of classifiers on the test set's codes, where the recipe asks for them."""
    setup, test = spec.setup, load_data(spec.setup).test
    if not setup.classifiers or test.labels is None:
        return {}
    codes = split_means(spec.choices.training.evaluated(model), test)
    accuracies = classify_codes(codes, test.labels, setup.classifiers)
    return {
        "classifier_linear": accuracies.linear,
        "classifier_perceptron": accuracies.perceptron,
    }


def _few_labels(spec: Spec, model: VAE) -> Measured:
    """Accuracy of a linear classifier of each group of classes, by labels a class.

    The training images are those of training and validation, as all of them have labels.
    """
    setup, data = spec.setup, load_data(spec.setup)
    if not setup.few_labels or not isinstance(data, ImageDataset):
        return Measured({}, {})
    evaluated = spec.choices.training.evaluated(model)
    # Everything is drawn once, with the same numbers for every method and seed.
    parts = [drawn(part, 0, 0) for part in (data.train, data.valid, data.test)]
    codes = [split_means(evaluated, part) for part in parts]
    labels = [part.labels for part in parts]
    if any(own is None for own in labels):
        return Measured({}, {})
    known = torch.cat(codes[:2]), torch.cat(cast(list[Tensor], labels[:2]))
    names = [name.rpartition("/")[0] for name in data.label_names]
    curve = few_labels(known, (codes[2], cast(Tensor, labels[2])), names, setup.few_labels)
    means = {f"few_labels_{count}": float(own.mean()) for count, own in curve.items()}
    return Measured(means, {f"each_few_labels_{count}": own for count, own in curve.items()})


def _nearest(images: Tensor, others: Tensor) -> float:
    """Mean distance to the nearest of some other images; both (., P) in [0, 1]."""
    return float(torch.cdist(images, others).min(dim=1).values.mean())


def _likeness(spec: Spec, samples: NDArray[np.uint8]) -> dict[str, float]:
    """How far samples are from the nearest test image, over how far validation images are.

    About 1 for samples that are as near to an image as images are to each other; less for blurred
    ones, which lie between them; more for what is no image.
    """
    data = load_data(spec.setup)
    if not isinstance(data, ImageDataset):
        return {}
    real, others = data.valid.x[: len(samples)], data.test.x[:2000]
    made = torch.from_numpy(samples).float() / 255.0
    return {"sample_distance": _nearest(made, others) / _nearest(real, others)}


@torch.no_grad()
def _samples(spec: Spec, model: VAE, generator: torch.Generator) -> dict[str, NDArray[np.uint8]]:
    """Images for draws from N(0, I), as bytes (M, P): expected or drawn ones; none for text.

    An autoencoder has no prior of its own, and the paper draws from N(0, I) for it too.
    """
    if not spec.setup.samples or not isinstance(model.decoder, ImageDecoder | PixelDecoder):
        return {}
    shape = spec.setup.samples, *model.prior.event_shape
    z = torch.randn(shape, generator=generator, device=generator.device)
    return {"samples": (255.0 * model.decoder.pictures(z, generator)).round().byte().cpu().numpy()}


@torch.no_grad()
def _codes(spec: Spec, model: VAE) -> dict[str, NDArray[Any]]:
    """Posteriors of the first test examples, as evaluation and as training has them.

    Returns:
        ``code_mean`` and ``code_std`` (M, D) in evaluation; ``code_batch_mean`` (M, D), the means
        that training gives the same examples when the recipe's partition cuts them into batches;
        and labels (M,) where there are any, ``code_label`` of these and ``means_label`` of the
        validation examples that were recorded.
        Empty where the recipe does not ask for them, or without a diagonal Gaussian.
    """
    setup, data = spec.setup, load_data(spec.setup)
    if not setup.means_points:
        return {}
    # The first ones of the split, which is in random order: batches begin with short sentences.
    part = data.test.take(torch.arange(min(setup.means_points, len(data.test))))
    part = part.take(torch.cat(part.batch_rows(128)))
    device = next(model.parameters()).device
    codes = [gaussian_code(model.posterior(x)) for x in batches_of(part, 128, device)]
    pairs = [code for code in codes if code is not None]
    if not pairs or not pairs[0][0].shape[1]:
        return {}
    mean, logvar = (torch.cat(column) for column in zip(*pairs, strict=True))
    shown = torch.cat(data.valid.batch_rows(128))[: setup.means_points]
    arrays = {
        "code_mean": mean,
        "code_std": torch.exp(0.5 * logvar),
        "code_batch_mean": _inbatches_of(spec, model, part),
        "code_label": part.labels,
        "means_label": None if data.valid.labels is None else data.valid.labels[shown],
    }
    return {name: np.asarray(x.cpu()) for name, x in arrays.items() if x is not None}


def _inbatches_of(spec: Spec, model: VAE, part: Split | ImageSplit) -> Tensor:
    """Posterior means (M, D) as training has them: a head may look at the batch it is given."""
    device = next(model.parameters()).device
    means: list[Tensor] = []
    rows = partitioned(spec.setup, part, spec.seed, 0)
    noise = torch.Generator(device).manual_seed(spec.seed)
    with as_in_training(model.posterior_head, noise):
        for own in rows:
            means.append(model.posterior(one_batch(part.take(own), device)).mean)
    placed = torch.empty_like(torch.cat(means))
    placed[torch.cat(rows).to(device)] = torch.cat(means)
    return placed


def measure(spec: Spec, model: VAE, grid: Sequence[Tensor], judge: Callable[[], VAE]) -> Measured:
    """All that is measured of a trained model; training recorded the rest.

    Args:
        spec: the run.
        model: with its best parameters.
        grid: batches of the sentences that the posterior mean space shows.
        judge: gives a language model; see :func:`posterior_collapse.runs.text.measure_text`.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(spec.seed)
    totals = _evaluated(spec, model, generator) + _probe(spec, model) + _few_labels(spec, model)
    metrics = {**totals.metrics, **_classify(spec, model)}
    arrays: dict[str, NDArray[Any]] = _space(model, grid) if spec.setup.grid_points else {}
    arrays |= totals.arrays
    evaluated = cast(VAE, spec.choices.training.evaluated(model))
    arrays |= _samples(spec, model, generator) | _codes(spec, evaluated)
    if "samples" in arrays:
        metrics |= _likeness(spec, arrays["samples"])
    metrics |= _training(spec, model, metrics["kl"])
    text = measure_text(spec, evaluated, generator, judge)
    return Measured({**metrics, **text.metrics}, arrays | text.arrays)


def _training(spec: Spec, model: VAE, kl: float | None) -> dict[str, Any]:
    """What training did: sentences that it passed over, and whether the promised KL is kept.

    Returns:
        ``passed_over``, where batches were, and the fields of
        :class:`posterior_collapse.runs.bounds.KLBound`, where the method promises a KL.
        Nothing is promised of what inference makes of a posterior after the encoder.
    """
    batches = EpochBatches(spec, next(model.parameters()).device)
    metrics = {"passed_over": batches.passed_over} if batches.passed_over else {}
    if spec.choices.training.evaluated(model) is not model:
        return metrics
    bound = kl_bound(model, batches, kl, torch.Generator().manual_seed(spec.seed))
    if bound is None:
        return metrics
    warn_of(bound, spec.label(), kl)
    return {**metrics, **bound._asdict()}


def _space(model: VAE, grid: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """The posterior mean space at the end of training."""
    final = mean_space(model, grid)
    arrays = {
        "final_model_mean": final.model.mean,
        "final_model_std": final.model.variance.sqrt(),
        "final_log_evidence": final.model.log_evidence,
        "final_inference_mean": final.inference_mean,
        "final_inference_std": final.inference_variance.sqrt(),
    }
    return {name: np.asarray(x.float().cpu()) for name, x in arrays.items()}
