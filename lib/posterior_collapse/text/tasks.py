"""What the papers do with sentences: rebuild, generate, interpolate and impute them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterior_collapse import gaussian
from posterior_collapse.datasets.arrays import PAD, UNK, Split
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.estimators import evaluating
from posterior_collapse.networks.base import VAE
from posterior_collapse.posteriors import Flowed, ScaledHead, draw
from posterior_collapse.priors import ScaledStandardNormalPrior
from posterior_collapse.text.decoding import (
    SENTENCES_PER_ENCODING,
    Decode,
    Generated,
    greedy,
    require_latent,
    text_decoder,
)

# --- codes ----------------------------------------------------------------------------------------


def posterior_mean(posterior: Distribution, generator: torch.Generator | None = None) -> Tensor:
    """The mean of q(z|x), (B, D); of a flow, what it makes of the mean of z^0.

    A Scale-VAE's is f mu, which its decoder sees.
    """
    if isinstance(posterior, Flowed):
        return posterior.push(posterior.mean)
    return posterior.mean


def posterior_draw(posterior: Distribution, generator: torch.Generator) -> Tensor:
    """One draw of q(z|x), (B, D), as AutoGen reconstructs."""
    return draw(posterior, (), generator)


def encode(
    model: VAE,
    split: Split,
    generator: torch.Generator,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
) -> Tensor:
    """Codes of sentences, in their order.

    Args:
        model: with a text decoder and a latent variable.
        split: N sentences, of any lengths, on the model's device.
        generator: for ``code``, on the model's device.
        code: :func:`posterior_mean` or :func:`posterior_draw`.

    Returns:
        (N, D).

    Raises:
        BadInput: an image model, or one without a latent variable.
    """
    require_latent(model, "a code")
    batches = split.batches(SENTENCES_PER_ENCODING)
    with evaluating(model):
        codes = [code(model.posterior(x), generator) for x in batches]
    return torch.cat(codes)[torch.cat(split.batch_rows(SENTENCES_PER_ENCODING)).argsort()]


def prior_codes(model: VAE, count: int, generator: torch.Generator) -> Tensor:
    """Draws of z as the decoder sees them, (count, D).

    A Scale-VAE generates from f z with z ~ N(0, I) (Song et al. 2024).
    Its prior N(0, f^2) gives just that; under another prior the draws are multiplied by f here.

    Args:
        model: with a text decoder; without a latent variable, D is 0.
        count: at least 1.
        generator: on the model's device.
    """
    text_decoder(model)
    whole("count", count)
    with evaluating(model):
        z = draw(model.prior, (count,), generator)
        head = model.posterior_head
        scaled = isinstance(model.prior_head, ScaledStandardNormalPrior)
        return head.factor * z if isinstance(head, ScaledHead) and not scaled else z


def linear(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Points on straight lines, ends included: (N, D) twice to (N, points, D)."""
    weight = _weights(start, end, points)
    return torch.lerp(start[:, None], end[:, None], weight)


def spherical(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Points whose direction turns at an even rate, and whose norm changes at an even rate.

    Draws of N(0, I) in many dimensions lie near a sphere, and the line between two of them does
    not. For equal norms these are the points of the great circle.

    Args:
        start, end: (N, D), none of them 0, no pair opposite to each other.
        points: at least 2, ends included.

    Returns:
        (N, points, D).

    Raises:
        BadInput: shapes, or a pair without one shortest way.
    """
    weight = _weights(start, end, points)
    norms = [side.norm(dim=-1, keepdim=True) for side in (start, end)]
    if any((norm == 0.0).any() for norm in norms):
        raise BadInput("the spherical path needs codes other than 0, which has no direction")
    first, second = start / norms[0], end / norms[1]
    # The angle by half-angles: the inverse cosine loses half of the digits near 0 and pi.
    apart, along = (first - second).norm(dim=-1), (first + second).norm(dim=-1)
    opposite = along < 4.0 * torch.finfo(start.dtype).eps
    if opposite.any():
        row = int(opposite.nonzero()[0])
        raise BadInput(
            f"the codes of pair {row} are opposite to each other, so no direction of turning is "
            "the shortest; the linear path needs none"
        )
    angle = 2.0 * torch.atan2(apart, along)[:, None, None]
    shares = [_sine_ratio(1.0 - weight, angle), _sine_ratio(weight, angle)]
    direction = shares[0] * first[:, None] + shares[1] * second[:, None]
    return direction * torch.lerp(norms[0][:, None], norms[1][:, None], weight)


def _sine_ratio(weight: Tensor, angle: Tensor) -> Tensor:
    """sin(weight angle) / sin(angle), and its limit at 0."""
    # sinc keeps the ratio where both sines vanish.
    return weight * torch.sinc(weight * angle / math.pi) / torch.sinc(angle / math.pi)


def _weights(start: Tensor, end: Tensor, points: int) -> Tensor:
    """0 to 1 in even steps, (points, 1), after a look at what is to be joined."""
    whole("points", points, 2)
    if start.dim() != 2 or start.shape != end.shape:
        raise BadInput(
            f"start and end are both (N, D), given {tuple(start.shape)} and {tuple(end.shape)}"
        )
    gaussian.require_finite(start=start, end=end)
    return torch.linspace(0.0, 1.0, points, dtype=start.dtype, device=start.device)[:, None]


# --- what the papers show -------------------------------------------------------------------------


def reconstruct(
    model: VAE,
    split: Split,
    generator: torch.Generator,
    *,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
    decode: Decode = greedy,
) -> Generated:
    """Sentences encoded and decoded again.

    IGP decodes the mean greedily, AutoGen a draw by beam search.

    Args:
        model, split, generator, code: see :func:`encode`.
        decode: one of the decoders.
    """
    return decode(model, encode(model, split, generator, code), generator)


def from_prior(
    model: VAE, count: int, generator: torch.Generator, *, decode: Decode = greedy
) -> Generated:
    """Sentences from draws of the prior; see :func:`prior_codes`.

    A language model has no z: ``decode=sample`` draws from it, and the other decoders give one
    sentence again and again.

    Args:
        model, count, generator: see :func:`prior_codes`.
        decode: one of the decoders.
    """
    return decode(model, prior_codes(model, count, generator), generator)


def interpolate(
    model: VAE,
    start: Tensor,
    end: Tensor,
    points: int,
    generator: torch.Generator,
    *,
    path: Callable[[Tensor, Tensor, int], Tensor] = linear,
    decode: Decode = greedy,
) -> Generated:
    """Sentences on the way from one code to another (Mansbridge et al. 2018, section 3.4).

    Args:
        model: with a text decoder and a latent variable.
        start, end: (N, D), from :func:`encode` or :func:`prior_codes`.
        points: at least 2, ends included.
        generator: for ``decode``.
        path: :func:`linear` or :func:`spherical`.
        decode: one of the decoders.

    Returns:
        N * points sentences, those of one pair after each other.
    """
    require_latent(model, "interpolation")
    return decode(model, path(start, end, points).flatten(0, 1), generator)


class Imputed(NamedTuple):
    """What the encoder read, and what the decoder made of it."""

    corrupted: Split
    generated: Generated


def impute(
    model: VAE,
    split: Split,
    corrupt: Callable[[Split, torch.Generator], Split],
    generator: torch.Generator,
    *,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
    decode: Decode = greedy,
) -> Imputed:
    """Take words away, encode what is left, and let the decoder complete it.

    IGP's text says that 75 % of the words are imputed; in its examples it is the first quarter of
    a sentence that stays (Zhang et al. 2021, table 5), which is :func:`cut_ends`.

    Args:
        model, split, generator, code, decode: see :func:`reconstruct`.
        corrupt: :func:`cut_ends`, :func:`hide_words` or :func:`drop_words`.
    """
    corrupted = corrupt(split, generator)
    return Imputed(corrupted, reconstruct(model, corrupted, generator, code=code, decode=decode))


def cut_ends(
    split: Split, generator: torch.Generator | None = None, *, share: float = 0.75
) -> Split:
    """Sentences without their last words; of n words the first int((1 - share) n) stay.

    Args:
        split: N sentences.
        generator: is left as it was.
        share: in [0, 1].
    """
    return _without(split, _places(split) <= _kept(split, share)[:, None])


def drop_words(split: Split, generator: torch.Generator, *, share: float = 0.3) -> Split:
    """Sentences without some words; int((1 - share) n) random ones stay, in their order.

    IGP's test of robustness has a share of 0.3 (Zhang et al. 2021, section 4.2).

    Args:
        split: N sentences.
        generator: chooses the words.
        share: in [0, 1].
    """
    return _without(split, _random_places(split, _kept(split, share), generator))


def hide_words(split: Split, generator: torch.Generator, *, share: float = 0.75) -> Split:
    """Sentences with UNK in place of some words; int((1 - share) n) random ones stay.

    Args:
        split: N sentences.
        generator: chooses the words.
        share: in [0, 1].
    """
    stays = _random_places(split, _kept(split, share), generator)
    hidden = _is_word(split) & ~stays
    return Split(split.tokens.masked_fill(hidden, UNK), split.lengths, split.labels)


def _kept(split: Split, share: float) -> Tensor:
    """How many words of each sentence stay, (N,)."""
    if not 0.0 <= share <= 1.0:
        raise BadInput(f"share is in [0, 1], given {share!r}")
    # A product that should be whole may lie just below; float32 would not see the difference.
    words = (split.lengths - 2).cpu().double()
    return (words * (1.0 - share) + 1e-9).floor().long().to(split.lengths.device)


def _places(split: Split) -> Tensor:
    """Place of each token in its sentence, (1, T); BOS has 0 and the first word 1."""
    return torch.arange(split.tokens.shape[1], device=split.tokens.device)[None]


def _is_word(split: Split) -> Tensor:
    """Where a word stands, neither BOS, nor EOS, nor PAD, (N, T) bool."""
    place = _places(split)
    return (place > 0) & (place < split.lengths[:, None] - 1)


def _random_places(split: Split, count: Tensor, generator: torch.Generator) -> Tensor:
    """``count`` (N,) random words of each sentence, (N, T) bool."""
    keys = torch.rand(split.tokens.shape, generator=generator, device=generator.device)
    keys = keys.to(split.tokens.device).masked_fill(~_is_word(split), 2.0)
    return keys.argsort(1).argsort(1) < count[:, None]


def _without(split: Split, stays: Tensor) -> Split:
    """The words that stay, (N, T) bool, moved together between BOS and EOS."""
    place, lengths = _places(split), split.lengths[:, None]
    stays = (stays & _is_word(split)) | (place == 0) | (place == lengths - 1)
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)
    left = stays.sum(1)
    tokens = split.tokens.gather(1, order).masked_fill(place >= left[:, None], PAD)
    return Split(tokens[:, : int(left.max())], left, split.labels)
