"""Encoders, decoders and the model that joins them to the slots of a method."""

from posterior_collapse.networks.base import VAE, Latent, Network, build_vae
from posterior_collapse.networks.images import ImageDecoder, ImageNetwork
from posterior_collapse.networks.linear import LinearOptimum, linear_optimum, linear_vae
from posterior_collapse.networks.pixelcnn import MaskedConv, PixelDecoder, PixelNetwork
from posterior_collapse.networks.text import (
    TextDecoder,
    TextEncoder,
    TextNetwork,
    Way,
    text_vae,
    uniform_,
)

__all__ = [
    "VAE",
    "ImageDecoder",
    "ImageNetwork",
    "Latent",
    "LinearOptimum",
    "MaskedConv",
    "Network",
    "PixelDecoder",
    "PixelNetwork",
    "TextDecoder",
    "TextEncoder",
    "TextNetwork",
    "Way",
    "build_vae",
    "linear_optimum",
    "linear_vae",
    "text_vae",
    "uniform_",
]
