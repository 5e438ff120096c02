"""LSTM encoder and decoder for text (He et al. 2019, appendix B; Kim et al. 2018)."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.layers import (
    Dropout,
    FirstValues,
    WordDropout,
    initialised_by_recipe,
    start_as_in_torch,
)
from posterior_collapse.networks.base import VAE, Latent, build_vae
from posterior_collapse.posteriors import Posterior
from posterior_collapse.precision import Precision, available, lowered, present, products
from posterior_collapse.priors import Prior

# Logits held at once where no gradient is wanted: 1 MB in float32, a share of a core's own cache.
_CACHED_LOGITS = 2**18


class TextEncoder(nn.Module):
    """Sentence to features: the last hidden state of an LSTM that reads all of it.

    Args:
        vocabulary: number of words, special ones included.
        embedding: size of the word embeddings.
        hidden: size of the LSTM's state.
        precision: of the products, in training.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Sentences of one length (B, T) -> (B, hidden)."""
        embedded = self.embedding(x.t())
        with lowered(present(self, self.precision), x.device):
            _, (last, _) = self.lstm(embedded)
        return cast(Tensor, last[0].to(embedded.dtype))


# Ids of :mod:`posterior_collapse.datasets`, which this module does not import: UNK; PAD and BOS.
HIDDEN = 3
SPARED = (0, 1)


class Way(enum.StrEnum):
    """The ways by which z reaches an LSTM decoder."""

    STATE_AND_INPUT = "state and input"  # He et al. 2019, and Shen et al. 2021
    INPUT = "input"  # beside the words only; the first state is 0 (Zhang et al. 2021, code)


class TextState(NamedTuple):
    """Where a decoder stands in each of B sentences."""

    z: Tensor  # (B, D)
    hidden: Tensor  # (B, H)
    cell: Tensor  # (B, H)


class TextDecoder(nn.Module):
    """p(x|z): an LSTM that sees z at every step and in its first state.

    The input is [embedding; z], c0 = W z and h0 = tanh(c0); with ``Way.INPUT`` both are 0.
    z does not reach the softmax by any other way, so a strong LSTM can do without it; with
    ``Latent.SKIP`` the softmax sees [output; z] (Dieng et al. 2019).
    Linear maps carry no bias; dropout acts on the embeddings and on the outputs.

    Args:
        vocabulary: number of words.
        embedding: size of the word embeddings.
        hidden: size of the LSTM's state.
        latent_dim: D.
        dropout: probability of both dropouts.
        latent: whether z also skips the LSTM.
        word_dropout: probability that a word read is hidden, in training.
        way: whether z sets the first state.
        precision: of the products, in training.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        latent_dim: int,
        dropout: float,
        latent: Latent = Latent.INPUT,
        word_dropout: float = 0.0,
        way: Way = Way.STATE_AND_INPUT,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.word_dropout = WordDropout(word_dropout, HIDDEN, SPARED)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.dropout_in = Dropout(dropout)
        self.dropout_out = Dropout(dropout)
        self.way = way
        # A map from no number at all gives zeros.
        from_z = latent_dim if way is Way.STATE_AND_INPUT else 0
        self.state = nn.Linear(from_z, hidden, bias=False)
        self.lstm = nn.LSTM(embedding + latent_dim, hidden)
        self.skip = latent is Latent.SKIP
        self.words = nn.Linear(hidden + self.skip * latent_dim, vocabulary, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats per sentence: x (B, T), z (S, B, D) -> (S, B)."""
        samples, batch, latent_dim = z.shape
        inputs, targets = x[:, :-1].t(), x[:, 1:].t()  # (T-1, B)
        steps = inputs.shape[0]
        embedded = self.dropout_in(self.embedding(self.word_dropout(inputs)))  # (T-1, B, E)
        joined = torch.cat(
            [
                embedded.unsqueeze(1).expand(steps, samples, batch, -1),
                z.unsqueeze(0).expand(steps, samples, batch, latent_dim),
            ],
            dim=-1,
        ).flatten(1, 2)  # (T-1, S*B, E+D)
        cell = self._first_cell(z.flatten(0, 1)).unsqueeze(0)  # (1, S*B, H)
        precision = present(self, self.precision)
        with lowered(precision, x.device):
            outputs, _ = self.lstm(joined, (torch.tanh(cell), cell))
        outputs = self.dropout_out(outputs.to(joined.dtype))
        if self.skip:
            outputs = torch.cat([outputs, z.flatten(0, 1).expand(steps, -1, -1)], dim=-1)
        wanted = targets.unsqueeze(1).expand(steps, samples, batch).reshape(-1)
        losses = word_losses(outputs.flatten(0, 1), self.words.weight, wanted, precision)
        return -losses.view(steps, samples, batch).sum(0)

    def _first_cell(self, z: Tensor) -> Tensor:
        """c0 of each sentence: (B, D) to (B, H)."""
        return torch.as_tensor(self.state(z[:, : self.state.in_features]))

    def start(self, z: Tensor) -> TextState:
        """The state before the first word of each sentence, z (B, D)."""
        cell = self._first_cell(z)
        return TextState(z, torch.tanh(cell), cell)

    def step(self, words: Tensor, state: TextState) -> tuple[Tensor, TextState]:
        """Read one word of each sentence; summed over its words this is :meth:`forward`.

        Args:
            words: (B,), the ids of the words read.
            state: before them.

        Returns:
            log p(next word | words so far, z) (B, V) in nats, and the state after the words.
        """
        read = self.dropout_in(self.embedding(self.word_dropout(words)))
        joined = torch.cat([read, state.z], dim=-1)
        weights = self.lstm.all_weights[0]
        # The cell of the LSTM by itself: nn.LSTM repacks its weights at every call.
        hidden, cell = torch.lstm_cell(joined, (state.hidden, state.cell), *weights)
        outputs = self.dropout_out(hidden)
        if self.skip:
            outputs = torch.cat([outputs, state.z], dim=-1)
        return self.words(outputs).log_softmax(-1), TextState(state.z, hidden, cell)


class _WordLosses(torch.autograd.Function):
    """:func:`word_losses` and its gradient, on the CPU.

    The exponentials of the logits are kept.  A row's share of the gradient is them times a number,
    and the number can be applied after the matrix products, to rows of H instead of V.
    So the logits are passed over twice, where torch's cross-entropy writes three more arrays of
    their size.
    """

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, weight: Tensor, wanted: Tensor, precision: Precision
    ) -> Tensor:
        """See :func:`word_losses`."""
        with products(precision):
            logits = outputs @ weight.t()
            own = logits.gather(1, wanted[:, None])[:, 0]
            total = logits.exp_().sum(-1)
            if not _is_safe(total):
                logits = outputs @ weight.t()
                top = logits.amax(-1)
                own -= top
                total = logits.sub_(top[:, None]).exp_().sum(-1)
        ctx.save_for_backward(outputs, weight, wanted, logits, total)
        ctx.precision = precision
        return total.log() - own

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradient of the outputs and of the weight; it can itself be differentiated."""
        outputs, weight, wanted, exponentials, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted, and what is kept has none
            share = torch.softmax(outputs @ weight.t(), -1) - F.one_hot(wanted, len(weight))
            share = slope[:, None] * share
            return share @ weight, share.t() @ outputs, None, None
        scale, slope = (slope / total)[:, None], slope[:, None]
        with products(ctx.precision):
            of_outputs = (exponentials @ weight).mul_(scale)
            of_weight = exponentials.t() @ (scale * outputs)
        of_outputs.sub_(slope * weight.index_select(0, wanted))
        return of_outputs, of_weight.index_add_(0, wanted, slope * outputs, alpha=-1), None, None


def word_losses(
    outputs: Tensor, weight: Tensor, wanted: Tensor, precision: Precision = Precision.FLOAT32
) -> Tensor:
    """-log p(word) under a softmax over ``outputs @ weight.T``, nats.

    Without gradients the logits are made and used up a few rows at a time, in one buffer that
    stays in the processor's cache: several times faster than through memory, where the rows are
    many (importance samples), and in memory that does not grow with them.

    Args:
        outputs: (R, H).
        weight: (V, H).
        wanted: (R,), numbers of the words.
        precision: of the products where a gradient is wanted; without one they are in float32.

    Returns:
        (R,).
    """
    if not outputs.is_cpu:
        with lowered(precision, outputs.device):
            logits = outputs @ weight.t()
        return F.cross_entropy(logits.to(outputs.dtype), wanted, reduction="none")
    if torch.is_grad_enabled():
        used = available(precision, outputs.device)
        return torch.as_tensor(_WordLosses.apply(outputs, weight, wanted, used))
    rows = max(1, _CACHED_LOGITS // len(weight))
    logits = outputs.new_empty(min(rows, len(outputs)), len(weight))
    losses = outputs.new_empty(len(outputs))
    log_total = _log_total_of_small if _exponentials_fit(outputs, weight) else _log_total
    parts = zip(outputs.split(rows), wanted.split(rows), losses.split(rows), strict=True)
    for part, words, loss in parts:
        here = torch.mm(part, weight.t(), out=logits[: len(part)])
        own = here.gather(1, words[:, None])[:, 0]
        torch.sub(log_total(here), own, out=loss)
    return losses


def _is_safe(total: Tensor) -> bool:
    """Whether sums of exponentials (R,) are far from over- and underflow.

    So are then products of the exponentials with gradients. An exponential that is 0 or loses
    digits is none that counts in such a sum. Not a number is not safe.
    """
    low, high = torch.aminmax(total)
    room = math.sqrt(torch.finfo(total.dtype).max)
    return low.item() > 1.0 / room and high.item() < room


def _exponentials_fit(outputs: Tensor, weight: Tensor) -> bool:
    """Whether no logit is so large or small that a sum of exponentials could over- or underflow.

    An LSTM's outputs lie in (-1, 1), so this is the rule and not the exception.
    """
    largest = outputs.abs().amax() * weight.abs().sum(1).amax()
    room = math.log(torch.finfo(outputs.dtype).max) - math.log(len(weight)) - 1.0
    return bool(largest < room)


def _log_total_of_small(logits: Tensor) -> Tensor:
    """log of the sum of exponentials of each row, in place."""
    return logits.exp_().sum(-1).log_()


def _log_total(logits: Tensor) -> Tensor:
    """The same where exponentials may overflow."""
    top = logits.amax(-1, keepdim=True)
    return logits.sub_(top).exp_().sum(-1).log_().add_(top[:, 0])


@torch.no_grad()
def uniform_(
    model: nn.Module,
    generator: torch.Generator,
    parameters: tuple[float, float],
    embeddings: tuple[float, float],
    first_values: FirstValues = FirstValues.PUBLISHED,
) -> None:
    """Initialise parameters uniformly, in place (He et al. 2019, appendix B.1 and G).

    All but those of modules that keep their own, see
    :func:`posterior_collapse.layers.keeps_initial_values`, or start as in PyTorch, see
    :func:`posterior_collapse.layers.starts_as_in_torch`.
    The latter are drawn last, so that with one seed the decoder of a method with a batch norm
    starts as that of the others.

    Args:
        model: any module on the CPU; biases are treated like weights, as the paper does.
        generator: source of randomness, on the CPU.
        parameters: (low, high) for everything but embeddings.
        embeddings: (low, high) for the weights of embeddings.
        first_values: whether modules that start as in PyTorch do.
    """
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in initialised_by_recipe(model):
        low, high = embeddings if id(parameter) in embedded else parameters
        parameter.uniform_(low, high, generator=generator)
    if first_values is FirstValues.PUBLISHED:
        start_as_in_torch(model, generator)


@dataclass(frozen=True)
class TextNetwork:
    """LSTM encoder and decoder (He et al. 2019, appendix B; its sizes are 512 and 1024)."""

    embedding: int
    hidden: int
    dropout: float
    init_parameters: tuple[float, float] = (-0.01, 0.01)
    init_embeddings: tuple[float, float] = (-0.1, 0.1)
    word_dropout: float = 0.0  # of the words that the decoder reads
    first_values: FirstValues = FirstValues.PUBLISHED  # of batch-normed posteriors and flows
    way: Way = Way.STATE_AND_INPUT  # by which z reaches the decoder
    precision: Precision = Precision.FLOAT32  # of the products, in training

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))  # or BadInput

    @property
    def features(self) -> int:
        """See :class:`posterior_collapse.networks.base.Network`, as for the other methods."""
        return self.hidden

    def encoder(self, size: int) -> TextEncoder:
        """``size`` is the number of words."""
        return TextEncoder(size, self.embedding, self.hidden, self.precision)

    def decoder(self, size: int, latent_dim: int, latent: Latent) -> TextDecoder:
        """``size`` is the number of words."""
        sizes = size, self.embedding, self.hidden, latent_dim
        ways = self.word_dropout, self.way, self.precision
        return TextDecoder(*sizes, self.dropout, latent, *ways)

    def initialise(self, model: nn.Module, generator: torch.Generator) -> None:
        """Uniformly; see :func:`uniform_`."""
        ranges = self.init_parameters, self.init_embeddings
        uniform_(model, generator, *ranges, self.first_values)


def text_vae(
    vocabulary: int,
    embedding: int,
    hidden: int,
    latent_dim: int,
    dropout: float,
    posterior: Posterior,
    prior: Prior,
) -> VAE:
    """The LSTM text VAE with the posterior and the prior of a method."""
    network = TextNetwork(embedding, hidden, dropout)
    return build_vae(network, vocabulary, latent_dim, posterior, prior)
