"""Encoders, decoders and the model that joins them to the slots of a method."""

from posterior_collapse.networks.base import VAE, Dropout, use_generator
from posterior_collapse.networks.linear import LinearOptimum, linear_optimum, linear_vae
from posterior_collapse.networks.text import TextDecoder, TextEncoder, text_vae, uniform_

__all__ = [
    "VAE",
    "Dropout",
    "LinearOptimum",
    "TextDecoder",
    "TextEncoder",
    "linear_optimum",
    "linear_vae",
    "text_vae",
    "uniform_",
    "use_generator",
]
