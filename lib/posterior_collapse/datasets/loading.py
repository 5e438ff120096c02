"""One door to every data set: names, cards, what is here, and loading."""

from __future__ import annotations

from torch import Tensor

from posterior_collapse.datasets import five_gaussians, grammar, images, omniglot, synthetic, text
from posterior_collapse.datasets.arrays import Split, TextDataset, check_sizes
from posterior_collapse.datasets.images import ImageDataset, ImageSplit
from posterior_collapse.datasets.registry import CARDS, Card, Sizes, data_folder, find
from posterior_collapse.errors import BadInput

_MIXTURES = {mixture.name: mixture for mixture in (synthetic.MIXTURE, five_gaussians.MIXTURE)}


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


def load(
    name: str,
    sizes: Sizes | None = None,
    *,
    max_length: int | None = None,
    max_vocabulary: int | None = None,
) -> TextDataset | ImageDataset:
    """Generate a data set, or read it from the data folder.

    The splits and the vocabulary are always made from the whole data set, so that a smaller
    load is a prefix of a larger one.

    Args:
        name: one of ``names()``.
        sizes: how many sentences or images of each split to keep, from its start; all if None.
        max_length: words kept of each sentence; real text only, all if None.
        max_vocabulary: most ids, the four marks included; the most frequent words of the
            training part stay and the others become UNK.  Real text only, all if None.

    Returns:
        The data set, of text or of images.  ``digest`` is that of what was made;
        ``card.digest`` is the registry's for the whole set without options.

    Raises:
        BadInput: an unknown name (with the nearest one), more sentences than there are, an
            option out of range or not for this data set, a file that is not what the registry
            says.
        DataMissing: files that are not there; the message names the variable and the files.
    """
    own = find(name)
    if name in text.SOURCES:
        whole = text.build(own, max_length, max_vocabulary)
        return whole if sizes is None else whole.head(sizes)
    for option, value in (("max_length", max_length), ("max_vocabulary", max_vocabulary)):
        if value is not None:
            raise BadInput(
                f"{option} is for text from files ({', '.join(text.SOURCES)}), not for {name}"
            )
    wanted = own.splits if sizes is None else check_sizes(sizes, own.splits, name)
    if name in images.SOURCES:
        return images.build(own).head(wanted)
    if name == omniglot.NAME:
        return omniglot.build(own).head(wanted)
    if name in (grammar.NAME, grammar.SHORT):
        return grammar.build(name).head(wanted)
    return synthetic.build(_MIXTURES[name], wanted)


def batches(split: Split | ImageSplit, batch_size: int) -> list[Tensor]:
    """Cut a split into the batches that networks read.

    Args:
        split: N sentences or images.
        batch_size: most of them in a batch, at least 1.

    Returns:
        Sentences of one length (B, T_b) int64, see :meth:`Split.batches`; or consecutive
        images (B, P) float32.  ``split.batch_rows(batch_size)`` gives the rows (B,) of each
        batch in the split, so that labels can follow.

    Raises:
        BadInput: ``batch_size`` is no integer of at least 1.
    """
    return split.batches(batch_size)
