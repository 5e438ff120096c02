"""Mixed precision: matrix products of training in bfloat16, everything else in float32.

A bfloat16 number has float32's range and 8 significant bits.
Rounding the factors of a product to it changes a gradient by some thousandths, and processors
with bfloat16 units multiply several times as fast.
Weights, sums, exponentials and the optimiser stay in float32, and so does evaluation.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from posterior_collapse.errors import BadInput, nearest


class Precision(enum.StrEnum):
    """In which numbers a network multiplies while it is trained: a constant of a recipe."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @classmethod
    def _missing_(cls, value: object) -> Precision:
        raise BadInput(nearest(value, list(cls), "precision"))


def available(precision: Precision, device: torch.device) -> Precision:
    """What a device can do of a precision: where it has no bfloat16 products, float32.

    The results are then those of float32, which bfloat16 approximates.
    """
    if precision is Precision.FLOAT32:
        return precision
    known = {"cpu": _cpu_has_bfloat16, "cuda": torch.cuda.is_bf16_supported}
    there = known.get(device.type, bool)()
    return precision if there else Precision.FLOAT32


def _cpu_has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor; without it torch would be slow."""
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def present(network: nn.Module, precision: Precision) -> Precision:
    """The precision of a network's products now: all but training is in float32."""
    trains = network.training and torch.is_grad_enabled()
    return precision if trains else Precision.FLOAT32


def lowered(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, torch's layers read float32 tensors and multiply in ``precision``.

    What comes out of a layer may be of the lower precision too. Tensors in float64 stay so.
    """
    if available(precision, device) is Precision.FLOAT32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextlib.contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Inside, the CPU's float32 matrix products round their factors to ``precision``.

    Sums and results are in float32, so no tensor changes its type.
    """
    if precision is Precision.FLOAT32:
        yield
        return
    settings: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if settings is None:  # before torch 2.9 one setting was for all devices
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
