"""Data sets that may be downloaded, checked: ``python -m companion.build.fetch mnist``.

What a publisher serves is compared with the checksum in the data set's card, and put where
``POSTERIOR_COLLAPSE_DATA`` says, text packed as the card's files are. A download that was cut goes
on where it ended. Of a set that may not be passed on it says what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import lzma
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from posterior_collapse import datasets
from posterior_collapse.datasets.registry import Card, Original, data_folder
from posterior_collapse.errors import BadInput, PosteriorCollapseError, program
from posterior_collapse.places import move, writing

_SECONDS = 20  # without an answer
_CHUNK = 1 << 16
_RANGE_ENDS = 416  # the status of a server that is asked for what comes after the end


class NotFetched(PosteriorCollapseError):
    """A file that could not be had, or is not the one that was recorded."""


def download(url: str, target: Path) -> None:
    """Download an address to a file; what an earlier call got is kept in ``.cut`` and goes on.

    Raises:
        requests.RequestException: nobody answers, or the connection breaks.
    """
    import requests

    cut = target.with_name(f"{target.name}.cut")
    have = cut.stat().st_size if cut.exists() else 0
    ask = {"Range": f"bytes={have}-"} if have else {}
    # packed on its way, a file could not go on where it was cut
    ask["Accept-Encoding"] = "identity"
    with requests.get(url, headers=ask, stream=True, timeout=_SECONDS) as answer:
        if answer.status_code != _RANGE_ENDS:  # else all of it is here
            answer.raise_for_status()
            have = have if answer.status_code == requests.codes.partial_content else 0
            total = have + int(answer.headers.get("Content-Length", 0)) or None
            bar = tqdm(
                total=total, initial=have, desc=target.name, disable=None, unit="B", unit_scale=True
            )
            with cut.open("ab" if have else "wb") as file, bar:
                for chunk in answer.iter_content(_CHUNK):
                    bar.update(file.write(chunk))
    os.replace(cut, target)


def _retrieve(original: Original, place: Path) -> None:
    """The original at a place, from the first address that gives it.

    Raises:
        NotFetched: none does, or what it gives is another file.
    """
    import pooch
    import requests

    for number, url in enumerate(original.urls, 1):
        try:
            pooch.retrieve(
                url,
                f"sha256:{original.sha256}",
                fname=place.name,
                path=place.parent,
                downloader=lambda url, target, _: _resumed(url, Path(target), place),
            )
            return
        except requests.RequestException as error:
            problem = f"{url} gives no file: {_reason(error)}"
        except ValueError as error:  # of pooch, with both checksums
            problem = f"{url} gives another file than the recorded one, which is not used: {error}"
        if number < len(original.urls):
            print(f"[fetch] {problem}; asking elsewhere", flush=True)
    raise NotFetched(f"{problem}. The same command goes on from what is here.")


def _resumed(url: str, target: Path, place: Path) -> None:
    """Download to the temporary file that pooch checks, by way of one that outlives a cut."""
    kept = place.with_name(f"{place.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}")
    download(url, kept)
    os.replace(kept, target)


def _reason(error: Exception) -> str:
    """In one line why nothing came."""
    from requests.exceptions import ChunkedEncodingError, ConnectionError, HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, ConnectionError | Timeout):
        return "no network, or nobody answers there"
    return str(error)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_there(card: Card, file: str, folder: Path) -> bool:
    """Whether a file is there, and is what the card says."""
    path, allowed = folder / file, [card.files[file]]
    if not file.endswith(".xz"):
        allowed.append(card.originals[file].sha256)
    return path.is_file() and _digest(path) in allowed


def _fetch_file(card: Card, file: str, folder: Path) -> None:
    """One file of a data set, in its place.

    Raises:
        NotFetched: it could not be had, or this machine's xz packs it to another file.
    """
    place, original = folder / file, card.originals[file]
    if not file.endswith(".xz"):
        _retrieve(original, place)
        return
    raw = place.with_suffix("")
    _retrieve(original, raw)
    packed = place.with_name(f"{place.name}.part")
    strongest = 9 | lzma.PRESET_EXTREME  # as xz -9e, which packed the card's files
    packed.write_bytes(lzma.compress(raw.read_bytes(), preset=strongest))
    if _digest(packed) != card.files[file]:
        packed.unlink()
        raise NotFetched(f"{raw} is right, but this liblzma packs it otherwise than the card's")
    move(packed, place)
    raw.unlink()


def fetch(card: Card, folder: Path) -> list[str]:
    """Put the files of a data set where they belong, except those that are there.

    Returns:
        What was fetched.

    Raises:
        BadInput: it is generated, or its terms forbid a download; the message says what to do.
        NotFetched: a file could not be had; those before it are in their places.
    """
    if not card.files:
        raise BadInput(f"{card.name} needs no download: {card.source}")
    if not card.originals:
        raise BadInput(_instructions(card, folder))
    missing = [file for file in card.files if not _is_there(card, file, folder)]
    for file in missing:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        _fetch_file(card, file, folder)
        print(f"[fetch] {folder / file}", flush=True)
    return missing


def _instructions(card: Card, folder: Path) -> str:
    """What to do for a data set that is not downloaded."""
    files = "\n".join(f"  {sha256}  {file}" for file, sha256 in card.files.items())
    return (
        f"{card.name} is not downloaded. {card.terms}\n"
        f"The files that are read come from {card.source}.\n"
        "Text is packed with xz -9e, and otherwise unchanged.\n"
        f"Under {folder} they are, with their SHA-256:\n{files}"
    )


def _overview() -> str:
    """Every data set from files: whether it is here, and whether it can be fetched."""
    lines = []
    for name in datasets.names():
        card = datasets.card(name)
        if card.files:
            state = "is here" if datasets.available(name) else "not here"
            how = "make fetch" if card.originals else "by hand"
            lines.append(f"  {name:16} {state:9} {how:11} {card.licence}")
    return "\n".join(lines)


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.fetch", description=__doc__)
    parser.add_argument("dataset", nargs="?", help="a data set; without one, all are listed")
    given = parser.parse_args(arguments)
    if given.dataset is None:
        print(f"[fetch] data sets from files; make fetch DATASET=name\n{_overview()}")
        return 0
    card, folder = datasets.card(given.dataset), data_folder()
    if folder is None:
        raise BadInput(
            f"let {datasets.DATA_VARIABLE} name the folder for data, such as ~/posterior-data"
        )
    print(f"[fetch] {card.name}: {card.title}\n[fetch] licence: {card.licence}", flush=True)
    print(f"[fetch] to cite: {card.citation}", flush=True)
    import pooch

    with contextlib.suppress(AttributeError):
        pooch.get_logger().setLevel("WARNING")
    with writing("the data", f"let {datasets.DATA_VARIABLE} name a folder elsewhere"):
        new = fetch(card, folder)
    print(f"[fetch] {len(new)} of {len(card.files)} files fetched; the others were here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
