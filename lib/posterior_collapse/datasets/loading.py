"""One door to every data set: names, cards, what is here, and loading."""

from __future__ import annotations

from posterior_collapse.datasets import synthetic
from posterior_collapse.datasets.arrays import TextDataset, check_sizes
from posterior_collapse.datasets.registry import CARDS, Card, Sizes, data_folder, find

__all__ = ["available", "card", "load", "names"]


def names() -> tuple[str, ...]:
    """Every name that ``load`` takes."""
    return tuple(CARDS)


def card(name: str) -> Card:
    """The registry's card for ``name``; BadInput with the nearest name if there is none."""
    return find(name)


def available(name: str) -> bool:
    """Whether ``load(name)`` finds its files here; generated sets are always available."""
    files = find(name).files
    folder = data_folder()
    return not files or (folder is not None and all((folder / f).is_file() for f in files))


def load(name: str, sizes: Sizes | None = None) -> TextDataset:
    """Load or generate a data set."""
    found = find(name)
    wanted = found.splits if sizes is None else check_sizes(sizes, found.splits, name)
    return synthetic.build(wanted)
