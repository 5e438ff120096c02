"""A ResNet encoder and a PixelCNN decoder for binary images (He et al. 2019, appendix B.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import (
    initialised_by_recipe,
    keeps_initial_values,
    start_as_in_torch,
)
from posterior_collapse.networks.base import Latent
from posterior_collapse.precision import Precision, lowered, present

_PIECE = 128  # images that are decoded at once where no gradient is asked for: they fit a cache


class _Norm(nn.BatchNorm2d):
    """Batch norm of maps; a single value a map, which has no spread, takes the running averages."""

    def __init__(self, maps: int) -> None:
        super().__init__(maps)
        keeps_initial_values(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W), normalised."""
        if self.training and maps.numel() > maps.shape[1]:
            return super().forward(maps)
        return F.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def _maps_last(maps: Tensor) -> Tensor:
    """The same maps, a pixel's values side by side: convolutions and norms are quicker so."""
    return maps.contiguous(memory_format=torch.channels_last)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias: a norm follows it."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


# --- encoder --------------------------------------------------------------------------------------


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions of stride 2 and 1 beside one of 1 x 1, each with a norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _conv(inputs, outputs, 3, 2),
            _Norm(outputs),
            nn.ELU(inplace=True),
            _conv(outputs, outputs, 3),
            _Norm(outputs),
        )
        self.beside = nn.Sequential(_conv(inputs, outputs, 1, 2), _Norm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to maps of half the size."""
        return F.elu(self.main(maps) + self.beside(maps), inplace=True)


class ResNetEncoder(nn.Module):
    """Images to features: residual blocks that halve the sides, then all that is left at once.

    Args:
        side: pixels along a side of an image.
        maps: of each block.
        features: F.
        precision: of the products, in training.
    """

    def __init__(
        self,
        side: int,
        maps: tuple[int, ...],
        features: int,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        super().__init__()
        self.side, self.precision = side, precision
        blocks = [_ResidualBlock(a, b) for a, b in zip((1, *maps), maps, strict=False)]
        left = -(-side // 2 ** len(maps))
        self.layers = nn.Sequential(
            *blocks,
            nn.Conv2d(maps[-1], features, left, bias=False),
            _Norm(features),
            nn.ELU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, P) to features (B, F)."""
        planes = _maps_last(x.view(-1, 1, self.side, self.side))
        with lowered(present(self, self.precision), x.device):
            features = torch.as_tensor(self.layers(planes))
        return features.flatten(1).to(x.dtype)


# --- decoder --------------------------------------------------------------------------------------


class MaskedConv(nn.Module):
    """A convolution that sees what comes before a pixel, line by line from the top.

    Of a k x k kernel the rows below the pixel's own are not stored. In its own row a mask, which
    is part of the graph, closes what is to the right of the pixel, and the pixel itself where
    the input is the image (van den Oord et al. 2016). So no closed weight gets a gradient.

    Args:
        inputs, outputs: maps.
        kernel: k, odd.
        image: how many of the inputs, the first ones, are planes of the image itself, whose own
            pixel is closed. The others of such a layer are maps of z, which are open everywhere.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, image: int = 0) -> None:
        super().__init__()
        self.reach = kernel // 2  # pixels above, to the left and to the right
        self.weight = nn.Parameter(torch.empty(outputs, inputs, self.reach + 1, kernel))
        nn.init.kaiming_normal_(self.weight)
        mask = torch.ones(1, inputs, self.reach + 1, kernel)
        mask[:, : image or inputs, -1, self.reach + (not image) :] = 0.0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to maps (N, O, H, W)."""
        above = F.pad(maps, (0, 0, self.reach, 0))  # below, nothing is computed in vain
        return F.conv2d(above, self.weight * self.mask, padding=(0, self.reach))


Apply = Callable[[MaskedConv, Tensor], Tensor]  # a layer on its input


class _GatedBlock(nn.Module):
    """A gated masked convolution of half as many maps between two 1 x 1 ones, beside the input.

    The gate is tanh(a) sigmoid(b) (van den Oord et al. 2016, equation 2).
    """

    def __init__(self, maps: int, kernel: int) -> None:
        super().__init__()
        half = maps // 2
        self.narrow = nn.Sequential(_conv(maps, half), _Norm(half), nn.ELU(inplace=True))
        self.masked = MaskedConv(half, 2 * half, kernel)
        self.norm = _Norm(2 * half)
        self.widen = nn.Sequential(_conv(half, maps), _Norm(maps))

    def forward(self, maps: Tensor, apply: Apply) -> Tensor:
        """Maps (N, C, H, W) to as many; ``apply`` applies the masked layer."""
        halves = self.norm(apply(self.masked, self.narrow(maps))).chunk(2, dim=1)
        signal, gate = map(_maps_last, halves)  # whole tensors: tanh of every other piece is slow
        return F.elu(maps + self.widen(torch.tanh(signal) * torch.sigmoid(gate)), inplace=True)


class _Cache:
    """Applies masked layers pixel by pixel, on what is kept of the pixels before.

    What the lines above contribute to a line is computed for all of the line at its beginning,
    one convolution a layer. A pixel then costs the products with what is to its left.
    """

    def __init__(self, decoder: PixelDecoder, planes: Tensor) -> None:
        count, self.side = len(planes), decoder.side
        self.weights, self.inputs, self.above = {}, {}, dict[MaskedConv, Tensor]()
        for layer in decoder.masked_layers():
            weight, reach = layer.weight * layer.mask, layer.reach
            shape = (count, weight.shape[1], self.side + reach, self.side + 2 * reach)
            self.weights[layer] = weight[:, :, :-1], weight[:, :, -1, :].flatten(1).t()
            self.inputs[layer] = weight.new_zeros(shape)  # its input, with a border
        first, reach = self.inputs[decoder.first], decoder.first.reach
        # Planes of z are seen to the right of a pixel as well, before their turn.
        first[:, 1:, reach:, reach : reach + self.side] = planes
        self.row = self.column = 0

    def begin(self, row: int) -> None:
        """Turn to a line."""
        self.row = row
        for layer, inputs in self.inputs.items():
            lines = inputs[:, :, row : row + layer.reach]
            self.above[layer] = F.conv2d(lines, self.weights[layer][0])[:, :, 0]

    def write(self, layer: MaskedConv, values: Tensor) -> None:
        """Keep the first planes of a layer's input at the present pixel, values (N, C)."""
        place = self.row + layer.reach, self.column + layer.reach
        self.inputs[layer][:, : values.shape[1], place[0], place[1]] = values

    def __call__(self, layer: MaskedConv, maps: Tensor) -> Tensor:
        """Input (N, C, 1, 1) at the present pixel to the output there."""
        self.write(layer, maps.flatten(1))
        columns = slice(self.column, self.column + 2 * layer.reach + 1)
        line = self.inputs[layer][:, :, self.row + layer.reach, columns].flatten(1)
        left = line @ self.weights[layer][1]
        return (left + self.above[layer][:, :, self.column])[:, :, None, None]


class PixelDecoder(nn.Module):
    """p(x|z) = product over pixels of p(pixel | pixels before, z): a gated PixelCNN.

    A linear map turns z into planes as large as the image, which the first layer sees beside it.
    In training the norms see the whole batch; in evaluation a pixel depends on those before only.

    Args:
        side: pixels along a side of an image.
        maps: of every layer.
        kernels: sizes of the masked layers; the first one sees the image.
        planes: of z.
        latent_dim: D; 0 for a model without a latent variable, whose planes are constants: they say
            where a pixel is, as those of z can.
        latent: whether the planes also go to the output layer.
        precision: of the products, in training.
    """

    def __init__(
        self,
        side: int,
        maps: int,
        kernels: tuple[int, ...],
        planes: int,
        latent_dim: int,
        latent: Latent = Latent.INPUT,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        super().__init__()
        self.side, self.skip, self.precision = side, latent is Latent.SKIP, precision
        self.planes = nn.Linear(latent_dim, planes * side * side)
        self.first = MaskedConv(1 + planes, maps, kernels[0], image=1)
        self.first_norm = _Norm(maps)
        self.blocks = nn.ModuleList(_GatedBlock(maps, kernel) for kernel in kernels[1:])
        self.last = nn.Sequential(_conv(maps, maps), _Norm(maps), nn.ELU(inplace=True))
        self.pixel = nn.Conv2d(maps + self.skip * planes, 1, 1)

    def masked_layers(self) -> list[MaskedConv]:
        """All masked layers, the first one first."""
        return [module for module in self.modules() if isinstance(module, MaskedConv)]

    def _planes(self, z: Tensor) -> Tensor:
        """z (N, D) to planes (N, C, H, W)."""
        return torch.as_tensor(self.planes(z)).view(len(z), -1, self.side, self.side)

    def _logits(self, image: Tensor, planes: Tensor, apply: Apply) -> Tensor:
        """Logits of ink (N, 1, H, W) from the image (N, 1, H, W) and the planes of z."""
        maps = apply(self.first, _maps_last(torch.cat([image, planes], dim=1)))
        maps = F.elu(self.first_norm(maps), inplace=True)
        for block in self.blocks:
            maps = block(maps, apply)
        maps = self.last(maps)
        return torch.as_tensor(self.pixel(torch.cat([maps, planes], 1) if self.skip else maps))

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Logits of every pixel given those before: x (N, P), z (N, D) -> (N, P)."""
        image = x.view(-1, 1, self.side, self.side)
        with lowered(present(self, self.precision), x.device):
            logits = self._logits(image, self._planes(z), lambda layer, maps: layer(maps))
        return logits.flatten(1).to(x.dtype)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats per image: x (B, P) of 0 and 1, z (S, B, D) -> (S, B)."""
        images = x.expand(len(z), *x.shape).flatten(0, 1)
        size = len(images) if torch.is_grad_enabled() else _PIECE
        pairs = zip(images.split(size), z.flatten(0, 1).split(size), strict=True)
        return torch.cat([self._log_likelihood(*pair) for pair in pairs]).view(z.shape[:2])

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(self.logits(x, z), x, reduction="none")
        return -losses.sum(-1)

    @torch.no_grad()
    def sample(self, z: Tensor, uniform: Tensor) -> Tensor:
        """Draw images pixel by pixel; a pixel is ink where its number is below its chance of ink.

        The activations of earlier pixels are kept, so a pixel costs one column of each layer.
        Call it in evaluation mode: in training the norms would see one pixel of each image.

        Args:
            z: (N, D).
            uniform: numbers in [0, 1), (N, P); the same ones for several z show what z changes.

        Returns:
            Images (N, P) of 0 and 1.

        Raises:
            BadInput: the decoder is in training mode, or the shapes do not fit.
        """
        if self.training or uniform.shape != (len(z), self.side**2):
            raise BadInput(
                f"sampling takes a decoder in evaluation mode and numbers ({len(z)}, "
                f"{self.side**2}), given {tuple(uniform.shape)} and "
                f"{'training' if self.training else 'evaluation'} mode"
            )
        images, planes = torch.zeros_like(uniform), self._planes(z)
        cache, unknown = _Cache(self, planes), planes.new_zeros(len(z), 1, 1, 1)
        for row in range(self.side):
            cache.begin(row)
            for column in range(self.side):
                cache.column, place = column, row * self.side + column
                here = planes[:, :, row, column, None, None]
                chance = torch.sigmoid(self._logits(unknown, here, cache)).flatten()
                images[:, place] = (uniform[:, place] < chance).to(images)
                cache.write(self.first, images[:, place, None])
        return images

    def pictures(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, P) drawn for z (N, D)."""
        shape = len(z), self.side**2
        uniform = torch.rand(shape, generator=generator, device=z.device, dtype=z.dtype)
        return self.sample(z, uniform)


# --- both together --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PixelNetwork:
    """ResNet encoder and gated PixelCNN decoder for square images.

    The defaults are those of He et al. 2019, appendix B.3, and of their code: three blocks of 64
    maps, and 13 masked layers of 64 maps.
    """

    maps: int = 64
    kernels: tuple[int, ...] = (7,) * 5 + (5,) * 4 + (3,) * 4
    planes: int = 4  # of z (code)
    encoder_maps: tuple[int, ...] = (64, 64, 64)
    features: int = 512  # code
    precision: Precision = Precision.FLOAT32  # of the products, in training

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", Precision(self.precision))  # or BadInput
        if not self.kernels or any(k < 3 or k % 2 == 0 for k in self.kernels):
            raise BadInput(f"kernels are odd numbers of at least 3, given {self.kernels}")
        if self.maps < 2 or self.maps % 2 or min(self.planes, self.features) < 1:
            raise BadInput(
                f"maps is an even number, planes and features are at least 1, given {self.maps}, "
                f"{self.planes} and {self.features}"
            )
        if not self.encoder_maps or min(self.encoder_maps) < 1:
            raise BadInput(f"the encoder has blocks of at least 1 map, given {self.encoder_maps}")

    def encoder(self, size: int) -> nn.Module:
        """``size`` is the number of pixels of a square image."""
        return ResNetEncoder(_side(size), self.encoder_maps, self.features, self.precision)

    def decoder(self, size: int, latent_dim: int, latent: Latent) -> PixelDecoder:
        """``size`` is the number of pixels of a square image."""
        sizes = self.maps, self.kernels, self.planes, latent_dim
        return PixelDecoder(_side(size), *sizes, latent, self.precision)

    @torch.no_grad()
    def initialise(self, model: nn.Module, generator: torch.Generator) -> None:
        """As in He et al.'s code: convolutions normal with variance 2 / (k k outputs), linear maps
        uniform with variance 2 / (fan in + fan out), biases 0.

        An encoder before a batch norm of means starts so as well, unlike that for text: the
        public code of those methods gives images the same encoder.
        """
        for parameter in initialised_by_recipe(model):
            if parameter.dim() == 4:
                wide = parameter.shape[0] * parameter.shape[-1] ** 2
                parameter.normal_(0.0, math.sqrt(2.0 / wide), generator=generator)
            elif parameter.dim() == 2:
                bound = (6.0 / max(1, sum(parameter.shape))) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                parameter.zero_()
        for name, part in model.named_children():
            if name != "encoder":
                start_as_in_torch(part, generator)


def _side(size: int) -> int:
    """Pixels along a side of a square image; BadInput if it is not square."""
    side = math.isqrt(size)
    if side * side != size:
        raise BadInput(f"a PixelCNN here takes square images, given {size} pixels")
    return side
