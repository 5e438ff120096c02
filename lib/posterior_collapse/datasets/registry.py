"""What is known of every data set before it is opened: cards, checksums, licences, citations.

The cards are written in ``cards.toml``, which is part of the package, so an installed library has
them without the repository.
No corpus is shipped.  Text that is not generated is read from the folder that the environment
variable ``POSTERIOR_COLLAPSE_DATA`` names, and only after its checksum has been compared with
the one in its card.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.places import named_path

DATA_VARIABLE = "POSTERIOR_COLLAPSE_DATA"


class DataMissing(BadInput):
    """A corpus that is not on this machine; the message says where it was looked for."""


class Sizes(NamedTuple):
    """Number of sentences, or of images, in each split."""

    train: int
    valid: int
    test: int


class Original(NamedTuple):
    """What a publisher serves: its SHA-256, and addresses of it, the first one preferred."""

    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader must know of a data set to judge a result on it.

    Attributes:
        name: the name that ``load`` takes.
        title: one line for headings.
        licence: terms of the data, or that the source states none.
        citation: the publication to cite.
        source: where the data come from, repository and commit for files.
        files: path below the data folder -> SHA-256 of the file there; empty if generated.
        originals: path of a file -> what it is made of by packing, or in place of which it is
            accepted; empty if it cannot be downloaded.
        terms: why it cannot, and what to do; empty if it can, or need not.
        splits: sentences or images that ``load`` gives without ``sizes``.
        paper_splits: those in the papers' own splits, None if no paper uses the set.
        differs: how the set differs from the papers' corpus, in sentences.
        digest: the ``digest`` of the whole set on the machine of reference (see the module
            that makes it for how far it can be expected elsewhere).
        labels: what the labels mean; empty if there are none.
        counts: what reading did to the lines, such as how many were skipped or dropped.
            Empty in the registry; filled in the card of a loaded data set.
    """

    name: str
    title: str
    licence: str
    citation: str
    source: str
    files: Mapping[str, str] = field(default_factory=dict)
    originals: Mapping[str, Original] = field(default_factory=dict)
    terms: str = ""
    splits: Sizes
    paper_splits: Sizes | None = None
    differs: str
    digest: str
    labels: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def _cards() -> dict[str, Card]:
    """The cards of ``cards.toml``, a format that Python reads without another package."""
    cards = tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))
    for card in cards.values():
        for splits in ("splits", "paper_splits"):
            if splits in card:
                card[splits] = Sizes(**card[splits])
        given = card.get("originals", {}).items()
        card["originals"] = {file: Original(o["sha256"], tuple(o["urls"])) for file, o in given}
    return {name: Card(name=name, **card) for name, card in cards.items()}


CARDS = _cards()


def find(name: str) -> Card:
    """The card called ``name``; BadInput with the nearest name if there is none."""
    try:
        return CARDS[name]
    except (KeyError, TypeError):
        raise BadInput(nearest(name, CARDS, "dataset")) from None


@contextmanager
def opened(path: Path, *sha256: str) -> Iterator[io.BufferedReader]:
    """A file that has a checksum of the registry.

    Raises:
        BadInput: it has another one.
        DataMissing: it cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataMissing(f"cannot open {path}: {error.strerror}") from error
    with stream:
        given = hashlib.file_digest(stream, "sha256").hexdigest()
        if given not in sha256:
            expected = " or ".join(sha256)
            raise BadInput(f"{path} has SHA-256 {given}, expected {expected}; fetch the file again")
        stream.seek(0)
        yield stream


def data_folder() -> Path | None:
    """The folder that ``POSTERIOR_COLLAPSE_DATA`` names, or None if the variable is not set."""
    return named_path(DATA_VARIABLE)
