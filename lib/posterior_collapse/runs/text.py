"""What a trained text model writes, and what its codes tell of labels, measured when a run ends.

The recipe's :class:`posterior_collapse.recipes.Wording` says how much of it is wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import f1_score, silhouette_score
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from posterior_collapse import datasets
from posterior_collapse.datasets import Split, TextDataset
from posterior_collapse.estimators import evaluating
from posterior_collapse.gaussian import aggregate_moments
from posterior_collapse.networks import VAE, Latent
from posterior_collapse.posteriors import gaussian_code
from posterior_collapse.probes import classify_codes, linear_probe, standardised
from posterior_collapse.recipes import Wording
from posterior_collapse.runs.models import build_model
from posterior_collapse.runs.monitor import Recorder
from posterior_collapse.runs.spec import Spec, load_data
from posterior_collapse.text import Decode, Generated, decoding, tasks
from posterior_collapse.text import metrics as text_metrics
from posterior_collapse.training import new_state, train

_ORDERS = (1, 2, 3, 4)
_EXAMPLES = 5  # sentences that are kept to be shown
_JUDGED = 2000  # generated sentences whose log-probability is kept one by one
_POINTS = 7  # codes on the way from one sentence to another, ends included
SHARES = (0.001, 0.01, 0.1, 1.0)  # labelled training examples (Zhang et al. 2021, figure 3)
_STARTS = 5  # random starts of the perceptron; the paper has 10
_BATCH = 32  # of the perceptron: there are a thousand codes, where the paper has ten thousand
_SUBSETS = 5  # random choices of the labelled examples, over which accuracies are averaged
# What the papers do not say is how z becomes words when they generate; both ways are measured.
_WAYS: dict[str, Callable[..., Generated]] = {
    "greedy": decoding.greedy,
    "sampled": decoding.sample,
}


class Measured(NamedTuple):
    """Numbers and arrays of one run."""

    metrics: Mapping[str, float | None]  # None: a perplexity that no float holds
    arrays: dict[str, NDArray[Any]]

    def __add__(self, other: object) -> Measured:
        """Both together."""
        if not isinstance(other, Measured):
            return NotImplemented
        return Measured({**self.metrics, **other.metrics}, self.arrays | other.arrays)


def language_model(spec: Spec, split: Split, epochs: int) -> VAE:
    """An LSTM without a latent variable, trained on a text with the constants of a run.

    Args:
        spec: gives networks and optimisation, and the seed.
        split: the text, on the CPU.
        epochs: at most so many; those of the lowest validation loss are kept.
    """
    judge = replace(spec, method="lstm-lm")
    setup, method, data = judge.setup, judge.choices, load_data(spec.setup)
    model = build_model(judge)
    settings = replace(setup.optimisation, max_epochs=epochs, keeps="best")
    batches = datasets.batches(split, setup.batch_size)
    state = new_state(model, method.objective, method.training, settings, len(batches), spec.seed)
    plain = replace(setup, grid_points=0, trajectory_updates=0, means_every=())
    recorder = Recorder(plain, datasets.batches(data.valid, 128), [], spec.seed)
    nothing: Callable[[Any], None] = lambda state: None  # noqa: E731
    train(state, method.training, settings, batches, recorder, nothing, nothing)
    return model


def _on(split: Split, device: torch.device) -> Split:
    return Split(split.tokens.to(device), split.lengths.to(device), split.labels)


def _back(generated: Generated) -> Split:
    """Generated sentences on the CPU."""
    return _on(generated.split(), torch.device("cpu"))


def _greedy(data: TextDataset) -> Decode:
    """The most probable words; one more than the longest training sentence has is too many."""
    return partial(decoding.greedy, max_length=int(data.train.lengths.max()))


def _head(split: Split, count: int) -> Split:
    """The first sentences of a split, which is in random order."""
    return split.take(torch.arange(min(count, len(split))))


def _shown(data: TextDataset, split: Split) -> list[str]:
    """Words of the first sentences."""
    words = data.vocabulary.words
    rows = text_metrics.of_split(_head(split, _EXAMPLES))
    return [" ".join(words[int(one)] for one in row) for row in rows]


def _likeness(written: Split, wanted: Split, prefix: str) -> dict[str, float]:
    """BLEU in percent, ROUGE-F1 with counts and with sets, and exact matches."""
    pair = text_metrics.of_split(written), text_metrics.of_split(wanted)
    metrics = {f"{prefix}bleu_{n}": text_metrics.bleu(*pair, order=n) for n in (1, 2, 4)}
    for n in (2, 4):
        metrics[f"{prefix}rouge_{n}"] = text_metrics.rouge(*pair, n=n).f1
        metrics[f"{prefix}rouge_sets_{n}"] = text_metrics.rouge_sets(*pair, n=n).f1
    return metrics | {f"{prefix}exact": text_metrics.exact_match(*pair)}


def _reconstructed(
    data: TextDataset, model: VAE, part: Split, generator: torch.Generator
) -> tuple[Measured, Split]:
    """Greedy reconstructions from the mean, compared with their sentences."""
    decode = _greedy(data)
    written = _back(tasks.reconstruct(model, part, generator, decode=decode))
    wanted = _on(part, torch.device("cpu"))
    texts = {"text_source": _shown(data, wanted), "text_reconstruction": _shown(data, written)}
    measured = Measured(
        _likeness(written, wanted, "reconstruction_"),
        {name: np.array(values) for name, values in texts.items()},
    )
    return measured, written


def _imputed(
    data: TextDataset, model: VAE, part: Split, generator: torch.Generator
) -> tuple[Measured, Split]:
    """What three quarters of missing words become (Zhang et al. 2021, table 5).

    The sentences returned are those whose ends were cut.
    """
    ways = {"ends": tasks.cut_ends, "hidden": tasks.hide_words}
    metrics: dict[str, float] = {}
    arrays: dict[str, NDArray[Any]] = {}
    texts: dict[str, Split] = {}
    wanted = _on(part, torch.device("cpu"))
    for name, corrupt in ways.items():
        imputed = tasks.impute(model, part, corrupt, generator, decode=_greedy(data))
        written = texts[name] = _back(imputed.generated)
        metrics |= _likeness(written, wanted, f"imputed_{name}_")
        arrays[f"text_cut_{name}"] = np.array(
            _shown(data, _on(imputed.corrupted, torch.device("cpu")))
        )
        arrays[f"text_imputed_{name}"] = np.array(_shown(data, written))
    return Measured(metrics, arrays), texts["ends"]


def _between(data: TextDataset, model: VAE, part: Split, generator: torch.Generator) -> Measured:
    """Sentences on straight lines between the codes of neighbours in a split.

    ``interpolation_overlap`` is how alike neighbouring sentences are, ``interpolation_ends`` how
    alike the two ends are, and ``interpolation_distinct`` the share of different sentences on a
    line.
    """
    codes = tasks.encode(model, part, generator)
    half = len(codes) // 2
    ways = tasks.interpolate(
        model, codes[:half], codes[half : 2 * half], _POINTS, generator, decode=_greedy(data)
    )
    rows = text_metrics.of_split(_back(ways))
    lines = [rows[start : start + _POINTS] for start in range(0, len(rows), _POINTS)]
    overlaps = text_metrics.smoothness(lines)
    words = data.vocabulary.words
    shown = [" ".join(words[int(one)] for one in row) for row in lines[0]]
    metrics = {
        "interpolation_overlap": overlaps.neighbours,
        "interpolation_ends": overlaps.ends,
        "interpolation_distinct": overlaps.different,
    }
    return Measured(metrics, {"text_interpolation": np.array(shown)})


def _variety(written: Split, training: Split, prefix: str) -> dict[str, float]:
    """Dist-n, entropy in nats, Gram-n and words a sentence (Song et al. 2024, table 5)."""
    rows, known = text_metrics.of_split(written), text_metrics.of_split(training)
    longest = max(map(len, rows))
    orders = [n for n in _ORDERS if n <= longest]
    metrics = {f"{prefix}words": float(np.mean([len(row) for row in rows]))}
    metrics |= {f"{prefix}distinct_{n}": text_metrics.distinct(rows, n) for n in orders if n < 4}
    metrics |= {f"{prefix}gram_{n}": text_metrics.gram(rows, known, n) for n in orders if n > 1}
    metrics |= {f"{prefix}different": len(set(rows)) / len(rows)}
    return metrics | ({f"{prefix}entropy": text_metrics.entropy(rows)} if orders else {})


def _faults(written: Split, prefix: str) -> dict[str, float]:
    """Shares of generated sentences without an end and without a word, and of unknown words."""
    last = written.tokens.gather(1, (written.lengths - 1)[:, None])[:, 0]
    rows = text_metrics.of_split(written)
    words = [word for row in rows for word in row]
    return {
        f"{prefix}ended": float((last == datasets.EOS).double().mean()),
        f"{prefix}empty": sum(not row for row in rows) / len(rows),
        f"{prefix}unknown": words.count(str(datasets.UNK)) / max(1, len(words)),
    }


def _judged(
    spec: Spec, wording: Wording, judge: VAE, written: Split, data: TextDataset, prefix: str
) -> Measured:
    """Forward and reverse perplexity (Zhang et al. 2021, section 4.3).

    Of all sentences: one that was cut has no end of sentence, and is judged by the words it has.
    """
    few = _head(written, _JUDGED)
    back = language_model(spec, written, wording.judge_epochs)
    metrics = {
        f"{prefix}forward_perplexity": text_metrics.perplexity(judge, written),
        f"{prefix}reverse_perplexity": text_metrics.perplexity(back, data.test),
    }
    arrays = {
        f"{prefix}judged_nats": text_metrics.sentence_nats(judge, few).float().numpy(),
        f"{prefix}judged_tokens": (few.lengths - 1).short().numpy(),
        f"{prefix}judged_words": _plain_words(data, few).short().numpy(),
    }
    return Measured(metrics, arrays)


def _plain_words(data: TextDataset, split: Split) -> Tensor:
    """Words a sentence has (N,), without marks such as a full stop, which stand alone in text."""
    counts = torch.tensor([any(map(str.isalnum, word)) for word in data.vocabulary.words])
    counts[[datasets.PAD, datasets.BOS, datasets.EOS]] = False
    return counts[split.tokens].sum(1)


def _generated(
    spec: Spec,
    wording: Wording,
    data: TextDataset,
    model: VAE,
    generator: torch.Generator,
    judge: VAE | None,
) -> Measured:
    """Measures of what the model writes from draws of its prior."""
    longest = int(data.train.lengths.max()) - 1  # BOS is given
    # Measures of variety fall as a text grows: real and generated text have equally many sentences.
    several = min(wording.generated, len(data.test))
    total = Measured({}, {})
    if judge is not None:
        total += Measured({"real_perplexity": text_metrics.perplexity(judge, data.test)}, {})
    for name, way in _WAYS.items():
        prefix = f"{name}_"
        decode = partial(way, max_length=longest)
        codes = tasks.prior_codes(model, wording.generated, generator)
        written = _back(decode(model, codes, generator))
        arrays = {f"text_{name}": np.array(_shown(data, written))}
        measures = _variety(_head(written, several), data.train, prefix) | _faults(written, prefix)
        total += Measured(measures, arrays)
        if judge is not None:
            total += _judged(spec, wording, judge, written, data, prefix)
    real = text_metrics.of_split(_head(data.test, several))
    known = text_metrics.of_split(data.train)
    people = {f"real_distinct_{n}": text_metrics.distinct(real, n) for n in (1, 2, 3)}
    people |= {f"real_gram_{n}": text_metrics.gram(real, known, n) for n in (2, 3, 4)}
    return total + Measured(people | {"real_entropy": text_metrics.entropy(real)}, {})


def _shape(model: VAE, part: Split) -> dict[str, float]:
    """Log-determinant of q(z)'s covariance and its squared mean (Zhang et al. 2021, table 8).

    Both are closed forms; the paper takes them from draws, which add the trace of the covariance
    over their number to the squared mean.
    Empty for a posterior that is no diagonal Gaussian.
    """
    with evaluating(model):
        codes = [gaussian_code(model.posterior(x)) for x in part.batches(256)]
    known = [code for code in codes if code is not None]
    if not known:
        return {}
    mean, logvar = (torch.cat(values).double() for values in zip(*known, strict=True))
    log_det, norm = aggregate_moments(mean, logvar)
    return {"log_det_covariance": float(log_det), "squared_mean": float(norm)}


def _reader(train: Split) -> Pipeline:
    """A classifier of sentences that knows nothing of any VAE: words and pairs of words.

    The paper trains an LSTM; a linear model on counts does as well on topics, in a second.
    """
    counts = CountVectorizer(
        analyzer=lambda row: [*row, *map(" ".join, itertools.pairwise(row))], binary=True
    )
    fit = make_pipeline(counts, LogisticRegression(C=1.0, max_iter=300))
    return fit.fit(text_metrics.of_split(train), np.asarray(train.labels))


def _agreement(train: Split, part: Split, written: Split, imputed: Split) -> dict[str, float]:
    """Macro-F1 of the labels that a classifier reads from sentences and from what they became."""
    reader, wanted = _reader(train), np.asarray(part.labels)
    texts = {"original": part, "reconstruction": written, "imputed": imputed}
    return {
        f"agreement_{name}": float(
            f1_score(wanted, reader.predict(text_metrics.of_split(text)), average="macro")
        )
        for name, text in texts.items()
    }


def labels_of(share: float, examples: int, classes: int) -> int:
    """How many labelled examples a share is: never fewer than there are classes."""
    return max(classes, round(share * examples))


def _few_shot(train: Tensor, labels: Tensor, test: Tensor, wanted: Tensor) -> dict[str, float]:
    """Accuracies of a linear probe with a share of the labels, at least as many as classes.

    Which examples are labelled matters more than the seed of a model where they are few, so an
    accuracy is the mean over several choices; these are the same for all models.
    """
    classes = int(labels.max()) + 1
    chooser = torch.Generator().manual_seed(0)
    means = {}
    for share in SHARES:
        count = labels_of(share, len(train), classes)
        times = _SUBSETS if count < len(train) else 1
        accuracies = []
        for _ in range(times):
            some = torch.randperm(len(train), generator=chooser)[:count]
            accuracies.append(
                linear_probe(train[some], labels[some], test, wanted, (1.0,)).accuracy
            )
        means[f"few_shot_{share:g}"] = float(np.mean(accuracies))
    return means


def _labelled(
    spec: Spec, data: TextDataset, model: VAE, test: Split, generator: torch.Generator
) -> Measured:
    """What codes tell of labels: classifiers, robustness and clusters in a map of the plane."""
    device = test.tokens.device
    train = _on(data.train, device)
    codes = {
        "train": tasks.encode(model, train, generator).cpu(),
        "test": tasks.encode(model, test, generator).cpu(),
        "dropped": tasks.encode(
            model, tasks.drop_words(test, generator, share=0.3), generator
        ).cpu(),
    }
    labels, wanted = data.train.labels, data.test.labels
    assert labels is not None and wanted is not None
    both = classify_codes(standardised(codes["test"], codes["train"]), wanted, _STARTS, _BATCH)
    metrics = {
        "codes_linear": both.linear,
        "codes_perceptron": both.perceptron,
        "robust_dropped": linear_probe(
            codes["train"], labels, codes["dropped"], wanted, (1.0,)
        ).accuracy,
    }
    metrics |= _few_shot(codes["train"], labels, codes["test"], wanted)
    metrics["robust_clean"] = metrics["few_shot_1"]  # the same probe on whole sentences
    shown = codes["test"][: _JUDGED // 2].double().numpy()
    names = wanted[: len(shown)].numpy()
    if np.ptp(shown) <= 0.0 or len(shown) < 10:  # a constant code is one point
        return Measured(metrics, {})
    plane = TSNE(
        random_state=spec.seed, perplexity=min(30.0, len(shown) / 4), init="pca"
    ).fit_transform(shown)
    metrics |= {
        "silhouette_codes": float(silhouette_score(shown, names)),
        "silhouette_plane": float(silhouette_score(plane, names)),
    }
    return Measured(metrics, {"tsne": plane.astype(np.float32), "tsne_label": names})


@torch.no_grad()
def _written(
    spec: Spec, wording: Wording, data: TextDataset, model: VAE, generator: torch.Generator
) -> Measured:
    """Everything that needs the encoder."""
    device = next(model.parameters()).device
    test = _on(data.test, device)
    part = _head(test, wording.reconstructed)
    total, written = _reconstructed(data, model, part, generator)
    completed, cut = _imputed(data, model, part, generator)
    total += completed
    total += _between(data, model, _head(part, 200), generator)
    total += Measured(_shape(model, test), {})
    if data.train.labels is None or data.test.labels is None:
        return total
    original = _on(part, torch.device("cpu"))
    total += Measured(_agreement(data.train, original, written, cut), {})
    return total + _labelled(spec, data, model, test, generator)


def measure_text(
    spec: Spec, model: VAE, generator: torch.Generator, judge: Callable[[], VAE]
) -> Measured:
    """Measures of a text model's words and codes, where its recipe asks for them.

    Args:
        spec: of the run.
        model: trained, in evaluation mode.
        generator: on the model's device.
        judge: gives a language model trained on the recipe's own text; called where it is needed.
            A language model does not judge itself.
    """
    wording, data = spec.setup.wording, load_data(spec.setup)
    if wording is None or not isinstance(data, TextDataset):
        return Measured({}, {})
    total = Measured({}, {})
    latent = spec.choices.latent is not Latent.NONE
    if latent and wording.reconstructed:
        total += _written(spec, wording, data, model, generator)
    if wording.generated:
        judged = latent and wording.judge_epochs
        total += _generated(spec, wording, data, model, generator, judge() if judged else None)
    return total
