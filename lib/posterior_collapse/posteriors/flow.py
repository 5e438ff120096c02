"""The inverse autoregressive flow (IAF): a posterior that is not Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.errors import BadInput, whole
from posterior_collapse.layers import keeps_initial_values, starts_as_in_torch
from posterior_collapse.posteriors.distributions import DiagonalNormal, Flowed, ScaledNormal
from posterior_collapse.posteriors.heads import PointMass, Posterior, SoftplusDiagonal
from posterior_collapse.posteriors.scaled import Scaled

_GATE_BIAS = 2.0  # at first: a new block keeps most of z (Shen et al. 2021, code)


class _MaskedLinear(nn.Linear):
    """Linear map without the weights outside a mask (out, in).

    The mask is inside the graph: a missing weight gets no gradient, and so does not count in a
    clipped norm.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        # In the dtype of the weights: a product with bools costs three times as much.
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Values (..., in) to (..., out), by the weights inside the mask."""
        return F.linear(values, self.weight * self.mask, self.bias)

    def part(self, values: Tensor, rows: slice | list[int]) -> Tensor:
        """Some outputs, from the first inputs; those rows must see all these and no others."""
        return F.linear(values, self.weight[rows, : values.shape[-1]], self.bias[rows])


class _Made(nn.Module):
    """Two numbers for every dimension, from the dimensions before it and a context.

    A masked perceptron with two hidden layers (Germain et al. 2015).
    A hidden unit of degree k sees the first k dimensions, and dimension d sees the units of degree
    up to d, counted from 0.
    Units of degree 0 see the context alone; through them it reaches every dimension.

    Args:
        latent_dim: D.
        context: F.
        hidden: units in each hidden layer, at least D.
    """

    def __init__(self, latent_dim: int, context: int, hidden: int) -> None:
        super().__init__()
        place = torch.arange(latent_dim)
        degree = torch.arange(hidden) * latent_dim // hidden  # 0 to D - 1, in order
        self.context = nn.Linear(context, hidden, bias=False)
        self.first = _MaskedLinear(degree[:, None] > place)
        self.second = _MaskedLinear(degree[:, None] >= degree)
        self.last = _MaskedLinear((place[:, None] >= degree).repeat(2, 1))
        edges = torch.searchsorted(degree, torch.arange(latent_dim + 1)).tolist()
        self.units = [slice(start, stop) for start, stop in pairwise(edges)]  # of each degree

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., B, D) and context (B, F) to two tensors (..., B, D)."""
        hidden = torch.relu(self.first(z) + self.context(context))
        one, two = self.last(torch.relu(self.second(hidden))).chunk(2, dim=-1)
        return one, two

    def unroll(
        self, like: Tensor, context: Tensor, solve: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The z (..., B, D) whose dimension d is ``solve(d, one_d, two_d)``, from the first on.

        Each hidden unit is computed once, as soon as the dimensions it sees are known, so that
        all D steps together cost about one pass.
        """
        from_context = self.context(context)
        z = like[..., :0]
        first, second = from_context[..., :0].expand(*like.shape[:-1], 0), z
        for d, units in enumerate(self.units):
            new = torch.relu(self.first.part(z, units) + from_context[..., units])
            first = torch.cat([first, new], dim=-1)
            second = torch.cat([second, torch.relu(self.second.part(first, units))], dim=-1)
            one, two = self.last.part(second, [d, like.shape[-1] + d]).unbind(-1)
            z = torch.cat([z, solve(d, one, two)[..., None]], dim=-1)
        return z


class _GateBias(nn.Module):
    """A learned number for every gate, which starts at 2 whatever the recipe says."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((latent_dim,), _GATE_BIAS))
        keeps_initial_values(self)

    def forward(self, raw: Tensor) -> Tensor:
        """log sigmoid(raw + bias), (..., D)."""
        return F.logsigmoid(raw + self.bias)


class _Block(nn.Module):
    """z_d -> gate_d z_d + (1 - gate_d) shift_d, gate and shift from the dimensions before d.

    A sigmoid gate is below 1, so every block shrinks volume (Kingma et al. 2016, section 4).

    Args:
        latent_dim: D.
        context: F.
        hidden: see :class:`_Made`.
        backwards: the dimensions before d are those of a higher index.
    """

    def __init__(self, latent_dim: int, context: int, hidden: int, backwards: bool) -> None:
        super().__init__()
        self.made = _Made(latent_dim, context, hidden)
        self.gate = _GateBias(latent_dim)
        self.backwards = backwards

    def _ordered(self, values: Tensor) -> Tensor:
        return values.flip(-1) if self.backwards else values

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., B, D) to its image and the logarithm of the gates."""
        z = self._ordered(z)
        raw, shift = self.made(z, context)
        log_gate = self.gate(raw)
        image = torch.lerp(shift, z, torch.exp(log_gate))
        return self._ordered(image), self._ordered(log_gate)

    def inverse(self, image: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The image (..., B, D) to z and the logarithm of the gates."""
        image = self._ordered(image)
        log_gates = []

        def solve(d: int, raw: Tensor, shift: Tensor) -> Tensor:
            log_gates.append(F.logsigmoid(raw + self.gate.bias[d]))
            return shift + (image[..., d] - shift) * torch.exp(-log_gates[-1])

        z = self.made.unroll(image, context, solve)
        return self._ordered(z), self._ordered(torch.stack(log_gates, dim=-1))


class _Chain(nn.Module):
    """Blocks one after the other, every second one backwards."""

    def __init__(self, blocks: int, latent_dim: int, context: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(latent_dim, context, hidden, backwards=bool(index % 2))
            for index in range(blocks)
        )

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`posterior_collapse.posteriors.distributions.Bijection`."""
        total = torch.zeros_like(z)
        for block in self.blocks:
            z, log_gate = block(z, context)
            total = total + log_gate
        return z, total

    def inverse(self, image: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`posterior_collapse.posteriors.distributions.Bijection`."""
        total = torch.zeros_like(image)
        for block in reversed(self.blocks):
            image, log_gate = block.inverse(image, context)  # type: ignore[operator]
            total = total + log_gate
        return image, total


class FlowHead(nn.Module):
    """A Gaussian head, and the flow that its draws go through; see :class:`Flow`."""

    def __init__(self, features: int, latent_dim: int, choice: Flow) -> None:
        super().__init__()
        self.base = choice.base.build(features, latent_dim)
        context = 2 * latent_dim
        self.context = nn.Linear(features, context, bias=False)
        self.chain = _Chain(choice.blocks, latent_dim, context, choice.width * latent_dim)
        starts_as_in_torch(self.chain)

    def forward(self, features: Tensor) -> Flowed:
        """Features (B, F) to q(z|x).

        Raises:
            BadInput: the base is no diagonal Gaussian.
        """
        base = self.base(features)
        if not isinstance(base, DiagonalNormal) or isinstance(base, ScaledNormal):
            raise BadInput(f"a flow starts from a diagonal Gaussian, given {type(base).__name__}")
        return Flowed(base, self.chain, self.context(features))


@dataclass(frozen=True)
class Flow:
    """Inverse autoregressive flow: z^T from a diagonal Gaussian z^0 (Kingma et al. 2016).

    Each block does z_d -> gate_d z_d + (1 - gate_d) shift_d, where gate and shift come from the
    dimensions before d and from a linear map of the encoder's features to 2 D numbers
    (Shen et al. 2021, section 3.4 and code).
    As in their code the hidden units are rectified, the bias of the gates is learned from 2 on, and
    the masked perceptrons start with PyTorch's own first values.

    They reverse z between blocks; here every second block goes through the dimensions from the
    last to the first instead, which is the same family and leaves dimension d in its place.
    Their first dimension of a block knows nothing of x, as no hidden unit sees the context alone;
    here units do, so that every dimension of every block depends on x.

    Args:
        blocks: at least 1.
        width: units for each of D dimensions in either hidden layer of a block; 60 in the code.
        base: of z^0: :class:`SoftplusDiagonal` for VAE-IAF, :class:`BatchNormed` for IAF+BN,
            :class:`DiversityUncertainty` for DU-IAF, or any other diagonal Gaussian.
    """

    blocks: int = 2
    width: int = 60
    base: Posterior = SoftplusDiagonal()

    def __post_init__(self) -> None:
        for name, value in (("blocks", self.blocks), ("width", self.width)):
            whole(name, value)
        if isinstance(self.base, (Flow, PointMass, Scaled)):
            raise BadInput(f"a flow starts from a diagonal Gaussian, given {self.base}")

    @property
    def least_batch(self) -> int:
        """What the base needs."""
        return int(getattr(self.base, "least_batch", 1))

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`.

        Raises:
            BadInput: no dimensions.
        """
        if latent_dim < 1:
            raise BadInput(f"a flow needs at least 1 dimension, given {latent_dim}")
        return FlowHead(features, latent_dim, self)
