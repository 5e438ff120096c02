"""Other ways to compute the training step of the text VAE, for ``bench_training_step.py``.

The drop-in ones stand where the library has ``nn.LSTM`` and use its parameters.
The stacked ones train S seeds at once: every parameter has a leading dimension S.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.layers import dropout_mask
from posterior_collapse.networks import VAE, TextDecoder, TextEncoder
from posterior_collapse.training import State

Recurrence = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def unrolled(projected: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> Tensor:
    """LSTM step by step in plain operations; the input's product is done for all steps before.

    Args:
        projected: (T, S, B, 4H), input product and biases, gates in torch's order i, f, g, o.
        hidden: (S, B, H).
        cell: (S, B, H).
        weight: (S, 4H, H), recurrent.

    Returns:
        (T, S, B, H).
    """
    outputs = []
    across = weight.transpose(1, 2)
    for step in projected.unbind(0):
        i, f, g, o = torch.baddbmm(step, hidden, across).chunk(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs)


class HandWritten(torch.autograd.Function):
    """The same with its own backward pass: few operations a step, one product for the weights.

    Gates are in the order i, f, o, g here, so that one sigmoid covers three of them.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor
    ) -> Tensor:
        """See :func:`unrolled`."""
        steps, seeds, batch, _ = projected.shape
        size = hidden.shape[-1]
        hiddens = projected.new_empty(steps + 1, seeds, batch, size)
        cells, squashed = torch.empty_like(hiddens), torch.empty_like(hiddens[1:])
        gates = torch.empty_like(projected)
        hiddens[0], cells[0] = hidden, cell
        across = weight.transpose(1, 2)
        for t in range(steps):
            step = torch.baddbmm(projected[t], hiddens[t], across, out=gates[t])
            step[..., : 3 * size].sigmoid_()
            i, f, o, g = step.chunk(4, -1)
            g.tanh_()
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
            torch.tanh(cells[t + 1], out=squashed[t])
            torch.mul(o, squashed[t], out=hiddens[t + 1])
        ctx.save_for_backward(hiddens, cells, gates, squashed, weight)
        return hiddens[1:]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of the four inputs."""
        hiddens, cells, gates, squashed, weight = ctx.saved_tensors
        (outputs,) = outer
        steps, seeds, batch, _ = gates.shape
        i, f, o, g = gates.chunk(4, -1)
        # What does not depend on later steps is computed for all steps at once.
        to_cell = o * (1.0 - squashed.square())
        local = torch.stack(
            [
                g * i * (1.0 - i),
                cells[:-1] * f * (1.0 - f),
                squashed * o * (1.0 - o),
                i - i * g * g,
            ],
            dim=-2,
        )
        before = torch.empty_like(local)  # gradient before the gates' nonlinearities
        hidden, cell = torch.zeros_like(hiddens[0]), torch.zeros_like(hiddens[0])
        for t in range(steps - 1, -1, -1):
            hidden = hidden + outputs[t]
            cell.addcmul_(hidden, to_cell[t])
            torch.mul(cell.unsqueeze(-2), local[t], out=before[t])
            torch.mul(hidden, local[t, ..., 2, :], out=before[t, ..., 2, :])
            hidden = torch.bmm(before[t].flatten(-2), weight)
            cell = cell * f[t]
        projected = before.flatten(-2)
        # (T, S, B, .) to (S, T*B, .): one product gives the weight's gradient over all steps.
        left = projected.transpose(0, 1).reshape(seeds, steps * batch, -1)
        right = hiddens[:-1].transpose(0, 1).reshape(seeds, steps * batch, -1)
        return projected, hidden, cell, torch.bmm(left.transpose(1, 2), right)


def hand_written(projected: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> Tensor:
    """See :class:`HandWritten`."""
    return HandWritten.apply(projected, hidden, cell, weight)


def _sigmoids_first(weight: Tensor) -> Tensor:
    """Rows of torch's gates i, f, g, o (along dimension 1) in the order i, f, o, g."""
    i, f, g, o = weight.chunk(4, 1)
    return torch.cat([i, f, o, g], 1)


def stacked_lstm(
    recurrence: Recurrence,
    inputs: Tensor,
    state: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor],
) -> Tensor:
    """LSTM of S seeds: inputs (T, S, B, E), state (S, B, H) each -> (T, S, B, H)."""
    input_weight, weight, input_bias, bias = weights
    biases = (input_bias + bias).unsqueeze(1)  # (S, 1, 4H)
    if recurrence is hand_written:
        input_weight, weight = _sigmoids_first(input_weight), _sigmoids_first(weight)
        biases = _sigmoids_first(biases.transpose(1, 2)).transpose(1, 2)
    steps, seeds, batch, features = inputs.shape
    flat = inputs.transpose(0, 1).reshape(seeds, steps * batch, features)
    projected = torch.baddbmm(biases, flat, input_weight.transpose(1, 2))
    projected = projected.view(seeds, steps, batch, -1).transpose(0, 1)
    if state is None:
        zero = inputs.new_zeros(seeds, batch, weight.shape[-1])
        state = (zero, zero)
    return recurrence(projected, *state, weight)


class DropIn(nn.Module):
    """Stands for an ``nn.LSTM`` of one layer, with its parameters and another recurrence."""

    def __init__(self, plain: nn.LSTM, recurrence: Recurrence) -> None:
        super().__init__()
        self.plain, self.recurrence = plain, recurrence

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
        """As ``nn.LSTM``, but for the last cell state, which the library does not use."""
        weights = [weight.unsqueeze(0) for weight in self.plain.parameters()]
        outputs = stacked_lstm(self.recurrence, inputs.unsqueeze(1), state, weights).squeeze(1)
        return outputs, (outputs[-1:], None)


class BatchFirstEncoder(TextEncoder):
    """The library's encoder with the batch in front."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, hidden)."""
        self.lstm.batch_first = True
        _, (last, _) = self.lstm(self.embedding(x))
        return last[0]


class BatchFirstDecoder(TextDecoder):
    """The library's decoder with the batch in front; one sample a sentence."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, T) and (1, B, D) -> (1, B)."""
        self.lstm.batch_first = True
        inputs, targets = x[:, :-1], x[:, 1:]
        # The mask is drawn in the library's order of steps, so that both drop the same entries.
        embedded = self.dropout_in(self.embedding(inputs.t())).transpose(0, 1)
        joined = torch.cat([embedded, z[0].unsqueeze(1).expand(-1, inputs.shape[1], -1)], dim=-1)
        cell = self.state(z)
        outputs, _ = self.lstm(joined, (torch.tanh(cell), cell))
        kept = self.dropout_out(outputs.transpose(0, 1)).transpose(0, 1)
        losses = F.cross_entropy(
            self.words(kept).flatten(0, 1), targets.reshape(-1), reduction="none"
        )
        return -losses.view(targets.shape).sum(1).unsqueeze(0)


class CrossEntropyDecoder(TextDecoder):
    """The library's decoder with torch's cross-entropy; one sample a sentence."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, T) and (1, B, D) -> (1, B)."""
        inputs, targets = x[:, :-1].t(), x[:, 1:].t()
        embedded = self.dropout_in(self.embedding(inputs))
        joined = torch.cat([embedded, z.expand(inputs.shape[0], -1, -1)], dim=-1)
        cell = self.state(z)
        outputs, _ = self.lstm(joined, (torch.tanh(cell), cell))
        logits = self.words(self.dropout_out(outputs)).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.reshape(-1), reduction="none")
        return -losses.view(targets.shape).sum(0).unsqueeze(0)


class FlatStep:
    """Joint step whose parameters and gradients are slices of two vectors."""

    def __init__(self, state: State) -> None:
        self.state, self.parameters = state, list(state.model.parameters())
        self.values = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self.gradient = torch.zeros_like(self.values)
        start = 0
        for p in self.parameters:
            p.data = self.values[start : start + p.numel()].view_as(p)
            p.grad = self.gradient[start : start + p.numel()].view_as(p)
            start += p.numel()

    def gradients(self, batch: Tensor) -> Tensor:
        """Clipped gradient into ``self.gradient``; returns the loss."""
        self.gradient.zero_()
        state = self.state
        terms = state.objective(state.model, batch, state.progress, state.noise)
        terms.loss.backward()
        norm = self.gradient.norm().item()
        if norm > state.clip_norm:
            self.gradient.mul_(state.clip_norm / (norm + 1e-6))
        return terms.loss.detach()

    def __call__(self, batch: Tensor) -> None:
        """One update."""
        self.gradients(batch)
        self.values.sub_(self.gradient, alpha=self.state.learning_rate)


Masks = tuple[Tensor, Tensor, Tensor]


def draw_masks(
    generators: Sequence[torch.Generator], x: Tensor, sizes: tuple[int, int, int], keep: float
) -> Masks:
    """Noise of z and both dropout masks of each seed, as the library draws them one seed a time.

    Args:
        generators: one a seed.
        x: (S, B, T).
        sizes: latent, embedding, hidden.
        keep: probability that an entry is kept.

    Returns:
        (S, B, D), (T-1, S, B, E), (T-1, S, B, H).
    """
    seeds, batch, length = x.shape
    noise = torch.empty(seeds, batch, sizes[0])
    inner = torch.empty(length - 1, seeds, batch, sizes[1])
    outer = torch.empty(length - 1, seeds, batch, sizes[2])
    for k, generator in enumerate(generators):
        noise[k] = torch.randn(1, batch, sizes[0], generator=generator)[0]
        for mask in (inner, outer):
            mask[:, k] = dropout_mask(mask[:, k], 1.0 - keep, generator)
    return noise, inner, outer


class StackedStep:
    """Joint step of S seeds at once, each with its own batch, noise, gradient norm and parameters.

    Args:
        states: one a seed; their parameters are copied.
        recurrence: what computes the LSTMs.
        compiled: whether the loss goes through ``torch.compile``.
    """

    def __init__(
        self, states: Sequence[State], recurrence: Recurrence, compiled: bool = False
    ) -> None:
        self.states, self.recurrence = states, recurrence
        each = [list(state.model.parameters()) for state in states]
        self.parameters = [
            torch.stack([p.detach() for p in group]).requires_grad_()
            for group in zip(*each, strict=True)
        ]
        plain: Callable[..., Tensor] = self.loss
        self.compute = torch.compile(plain, dynamic=False) if compiled else plain

    def loss(self, x: Tensor, masks: Masks) -> Tensor:
        """Negative ELBO, mean over each batch: x (S, B, T) -> (S,), nats per sentence."""
        p = self.parameters
        seeds, batch, length = x.shape
        words = p[0].shape[1]
        shifted = x + words * torch.arange(seeds).view(-1, 1, 1)
        ids = shifted.permute(2, 0, 1)  # (T, S, B)
        read = stacked_lstm(self.recurrence, F.embedding(ids, p[0].flatten(0, 1)), None, p[1:5])[-1]
        mean, logvar = torch.bmm(read, p[5].transpose(1, 2)).chunk(2, -1)
        z = mean + torch.exp(0.5 * logvar) * masks[0]
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(-1)
        embedded = F.embedding(ids[:-1], p[6].flatten(0, 1)) * masks[1]
        joined = torch.cat([embedded, z.expand(length - 1, -1, -1, -1)], -1)
        cell = torch.bmm(z, p[7].transpose(1, 2))
        outputs = (
            stacked_lstm(self.recurrence, joined, (torch.tanh(cell), cell), p[8:12]) * masks[2]
        )
        flat = outputs.transpose(0, 1).reshape(seeds, (length - 1) * batch, -1)
        logits = torch.bmm(flat, p[12].transpose(1, 2))
        targets = x[..., 1:].transpose(1, 2).reshape(-1)
        losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
        return losses.view(seeds, length - 1, batch).sum(1).add(kl).mean(1)

    def gradients(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses (S,) and gradients, clipped jointly within each seed."""
        first = self.states[0]
        assert isinstance(first.model, VAE)
        decoder = first.model.decoder
        assert isinstance(decoder, TextDecoder)
        sizes = (
            decoder.state.in_features,
            decoder.embedding.embedding_dim,
            decoder.lstm.hidden_size,
        )
        keep = 1.0 - decoder.dropout_in.probability
        masks = draw_masks([state.noise for state in self.states], x, sizes, keep)
        losses = self.compute(x, masks)
        found = torch.autograd.grad(losses.sum(), self.parameters)
        squares = torch.stack([g.flatten(1).square().sum(1) for g in found]).sum(0)
        scale = (first.clip_norm / (squares.sqrt() + 1e-6)).clamp_max(1.0)
        return losses.detach(), [g.mul_(scale.view(-1, *[1] * (g.dim() - 1))) for g in found]

    @torch.no_grad()
    def _apply(self, found: Sequence[Tensor]) -> None:
        torch._foreach_add_(self.parameters, list(found), alpha=-self.states[0].learning_rate)

    def __call__(self, x: Tensor) -> None:
        """One update of every seed."""
        self._apply(self.gradients(x)[1])
