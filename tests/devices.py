"""A device apart from the CPU, on a machine that has no other.

Its tensors say that they are on ``meta`` and hold their numbers aside, so all there is can run on
it to the end, also what has to look at numbers.
As on a GPU, a tensor of the CPU with at least one dimension is refused beside one of the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")
aten = torch.ops.aten
# What carries numbers from one device to the other; places may be given from the CPU.
_CARRIERS = (aten._to_copy.default, aten.copy_.default)
_INDEXED = (aten.index.Tensor, aten.index_put_.default)


class Away(Tensor):
    """A tensor of the device."""

    held: Tensor  # the same, on the CPU

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=META,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Away({self.held!r})"

    def tolist(self) -> Any:
        """torch has it for its own tensors alone."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})


def carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, with the rules of two devices."""
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    away = any(isinstance(x, Away) for x in given)
    here = [x for x in given if not isinstance(x, Away) and x.dim() > 0]
    places = func in _INDEXED and isinstance(args[0], Away)
    if away and here and not places and func not in _CARRIERS:
        raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(here[0].shape)}, beside others")
    target = kwargs.get("device")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
        away = torch.device(target).type == "meta"
    elif func is aten.copy_.default:
        away = isinstance(args[0], Away)
    held = tree_map(lambda x: x.held if isinstance(x, Away) else x, (args, kwargs))
    out = func(*held[0], **held[1])
    if not away:
        return out
    made = tree_map(lambda x: Away(x) if isinstance(x, Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, made)


class Device(TorchDispatchMode):
    """Inside, ``device="meta"`` is the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})
