"""Papermill runs of the source notebooks, kept by the digest of everything that decides them.

The table of contents lists the sources. When the book is built, ``read`` is given a source's text
and returns its executed form. That is looked up under a key: the digest of the text, the injected
parameters, the library's sources, the repository's data, the state of the data folder and the
versions of Python and packages. So a page is executed exactly when any of them changed.

``python -m companion.build.reader notebooks/.../page.ipynb`` executes pages beforehand.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import nbformat

import posterior_collapse
from companion.build import kernels, sources, warm
from companion.build import parameters as checks
from posterior_collapse.errors import BadInput, PosteriorCollapseError, program
from posterior_collapse.places import move, named_path, store_root, writing

SCALE_VARIABLE = "POSTERIOR_COLLAPSE_SCALE"
SEEDS_VARIABLE = "POSTERIOR_COLLAPSE_SEEDS"
DATA_VARIABLE = "POSTERIOR_COLLAPSE_DATA"
METHODS_VARIABLE = "POSTERIOR_COLLAPSE_METHODS"

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_log = logging.getLogger(__name__)


class PageFailed(PosteriorCollapseError):
    """A cell of a page raised; the message names the page, the cell and the error."""


def injected_parameters(declared: Mapping[str, object]) -> dict[str, object]:
    """The parameters that the environment replaces on every page that takes them.

    Raises:
        BadInput: if ``POSTERIOR_COLLAPSE_SCALE`` names no scale, or ``POSTERIOR_COLLAPSE_SEEDS``
            is no list of seeds such as ``[0, 1]``.
    """
    scale, seeds = os.environ.get(SCALE_VARIABLE), os.environ.get(SEEDS_VARIABLE)
    injected: dict[str, object] = {}
    if scale and "scale" in declared:
        injected["scale"] = checks.check_scale(scale)
    if seeds and "seeds" in declared:
        injected["seeds"] = list(checks.check_seeds(seeds))
    return injected


def _files_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """Digest of the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    files = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _data_folder_state() -> list[tuple[str, int, int]]:
    """Name, size and time of every file in the data folder; empty without one.

    The corpora are large, so their times stand for their contents: a touched file runs the pages
    again, which is harmless.
    """
    folder = named_path(DATA_VARIABLE)
    if folder is None or not folder.is_dir():
        return []
    state = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            state.append((path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns))
    return state


def _own_methods_digest() -> str:
    """Digest of the file with a reader's own methods, which are in every table."""
    file = named_path(METHODS_VARIABLE)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else "none"


def _code_now() -> dict[str, str]:
    """Digests of the two packages as their files are now."""
    library = Path(posterior_collapse.__file__).resolve().parent
    companion = Path(__file__).resolve().parents[1]
    return {
        "library": _files_digest(library, ("*.py", "*.toml", "*.yml", "*.json")),
        "companion": _files_digest(companion, ("*.py",)),
    }


# Taken once a process, as is what it imports: a later edit is not what runs here.
imported_code = functools.lru_cache(maxsize=1)(_code_now)


def refuse_edited() -> None:
    """Raise, in a process that forks jobs, if a file was edited since it imported the packages."""
    if imported_code() != _code_now():
        raise PosteriorCollapseError("the packages were edited while they were imported")


def decided_by(root: Path, code: Mapping[str, str]) -> dict[str, str]:
    """What decides every page, apart from its own text and parameters, as digests by name."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "papermill")}
    lock = root / "requirements.lock"
    corpora = hashlib.sha256(json.dumps(_data_folder_state()).encode()).hexdigest()
    return {
        **code,
        "data": _files_digest(root / "data", ("*",)),
        "explorers": _files_digest(root / "book" / "static" / "explorers", ("*.js",)),
        "corpora": corpora,
        "own methods": _own_methods_digest(),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none",
        "versions": json.dumps(versions, sort_keys=True),
        "python": sys.version.split()[0],
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def page_parts(
    text: str, injected: Mapping[str, object], root: Path, code: Mapping[str, str] | None = None
) -> dict[str, object]:
    """All that decides the executed form of a source, by name.

    Args:
        text: the source.
        injected: the parameters that replace its own.
        root: the repository.
        code: digests of the packages; None takes those of what this process has imported.
    """
    by = decided_by(root, code or imported_code())
    parts: dict[str, object] = {"text": text, "parameters": dict(injected), **by}
    if '"reads"' in text and sources.reads_pages(sources.parse(text, "a page")):
        parts["pages"] = {name: _digest(root / name) for name in sources.toc_notebooks(root)}
    return parts


def part_digest(part: object) -> str:
    """Digest of a part of the inputs."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def page_key(
    text: str, injected: Mapping[str, object], root: Path, code: Mapping[str, str] | None = None
) -> str:
    """Hex digest of a page's parts, under which its executed form is kept."""
    return part_digest(page_parts(text, injected, root, code))


def why(name: str, parts: Mapping[str, object]) -> str:
    """Why a page has to run: what differs from the stored page of its source that is nearest."""
    now = {part: part_digest(value) for part, value in parts.items()}
    changes: list[list[str]] = []
    for path in (store_root() / "pages").glob("*.ipynb"):
        with contextlib.suppress(OSError, *sources.UNREADABLE):
            page = json.loads(path.read_bytes())["metadata"]["posterior_collapse"]["page"]
            if page["source"] == name:
                changes.append([part for part in now if now[part] != page["parts"].get(part)])
    nearest = min(changes, key=len, default=None)
    if nearest is None:
        return "never executed"
    return f"changed: {', '.join(nearest)}" if nearest else "its copy is missing or changed"


def stored_page(key: str) -> Path:
    """Where the executed page with this key is, or would be."""
    return store_root() / "pages" / f"{key}.ipynb"


def is_stored(key: str) -> bool:
    """Whether the page with this key can be shown; a damaged one is set aside, never shown."""
    path = stored_page(key)
    if not path.exists():
        return False
    reason = _damage(path, key)
    if reason:
        _log.warning("the stored page %s is damaged (%s): set aside, executed again", path, reason)
        with contextlib.suppress(OSError):  # of a store that cannot be written
            os.replace(path, path.with_suffix(".damaged"))
    return not reason


def _damage(path: Path, key: str) -> str:
    """What is wrong with a stored page; empty if nothing is."""
    try:
        if _digest(path) != path.with_suffix(".sha256").read_text(encoding="ascii"):
            return "its digest is wrong"
        own = key_of(nbformat.read(path, as_version=4))
    except (OSError, *sources.UNREADABLE) as error:
        return str(error)
    return "" if own == key else "it is another page's file"


def key_of(page: Any) -> str | None:
    """The key that an executed page carries, if it has one."""
    key: str | None = page.metadata.get("posterior_collapse", {}).get("page", {}).get("key")
    return key


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep papermill's progress and its kernel's remarks off the console."""
    level = logging.getLogger("papermill").level
    logging.getLogger("papermill").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.getLogger("papermill").setLevel(level)


def _papermill(source: Path, target: Path, injected: Mapping[str, object], root: Path) -> None:
    """Execute with papermill, in the root of the repository, with the interpreter that runs."""
    import papermill  # slow to import, and not needed while every page is stored
    from jupyter_client.manager import AsyncKernelManager

    class Kernels(AsyncKernelManager):
        """Starts the kernel with the command that may fork it from the warm process."""

        def __init__(self, **given: object) -> None:
            super().__init__(**given, **reached)

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return warm.command(super().format_kernel_cmd(extra_arguments))

    with _quiet(), kernels.settings() as reached:
        papermill.execute_notebook(
            str(source),
            str(target),
            parameters=dict(injected),
            kernel_name="python3",
            cwd=str(root),
            progress_bar=False,
            log_output=False,
            kernel_manager_class=Kernels,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )


def _literal(path: Path) -> Path:
    """A path as papermill takes it, which fills parameters in between braces."""
    return Path(str(path).replace("{", "{{").replace("}", "}}"))


def _failure(name: str, error: Any, copy: Path) -> PageFailed:
    """The error of a page, from papermill's."""
    trace = _ANSI.sub("", "\n".join(error.traceback[-3:]))
    return PageFailed(
        f"{name} failed in code cell {error.exec_count}: {error.ename}: {error.evalue}\n{trace}\n"
        f"the page up to the error: {copy}"
    )


@writing("the executed page")
def execute(text: str, injected: Mapping[str, object], root: Path, name: str) -> Path:
    """Execute a page unless its run is stored, and return the path of the run.

    The run is written beside its place and moved into it, under a lock: of several processes
    that want one page, one executes it, and none sees half of it.

    Args:
        text: the source notebook's text.
        injected: parameters that replace the source's own.
        root: the repository, in which the page runs.
        name: the page's name for messages.

    Raises:
        PageFailed: if a cell raises; the run up to there is kept under ``pages/failed``.
    """
    key = page_key(text, injected, root)
    place = stored_page(key)
    if is_stored(key):  # as in a store that cannot be written
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    locks = store_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(locks / f"page-{key}.lock"):
        if is_stored(key):
            return place
        folder = place.with_suffix(".part")
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        folder.mkdir()
        try:
            target = _run(text, injected, root, name, folder)
            parts = page_parts(text, injected, root, _code_now())
            if part_digest(parts) != key:
                raise PageFailed(
                    f"{name} is not kept: the packages or the data were changed while it ran, so "
                    "nobody knows which of them it shows; ask again"
                )
            _keep(target, name, parts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return place


def _run(text: str, injected: Mapping[str, object], root: Path, name: str, folder: Path) -> Path:
    """Execute a page in a folder; returns the run.

    Raises:
        PageFailed: a cell raises, or the kernel ends.
    """
    from papermill.exceptions import PapermillExecutionError

    source, target = folder / "source.ipynb", folder / "run.ipynb"
    source.write_text(text, encoding="utf-8")
    try:
        _papermill(_literal(source), _literal(target), injected, root)
    except PapermillExecutionError as error:
        copy = folder.parent / "failed" / f"{Path(name).stem}-{folder.stem[:12]}.ipynb"
        copy.parent.mkdir(exist_ok=True)
        if target.exists():
            os.replace(target, copy)
        raise _failure(name, error, copy) from None
    except RuntimeError as error:  # of nbclient, for a kernel that does not answer any more
        raise PageFailed(f"{name} is not finished: {error}; ask again") from error
    return target


def _keep(target: Path, name: str, parts: Mapping[str, object]) -> None:
    """Put a run into the store, with its digest, and note in it what it was made from."""
    run, key = nbformat.read(target, as_version=4), part_digest(parts)
    digests = {part: part_digest(value) for part, value in parts.items()}
    page = {"key": key, "source": name, "parts": digests}
    run.metadata.setdefault("posterior_collapse", {})["page"] = page
    for entry in ("input_path", "output_path"):  # temporary ones
        run.metadata.get("papermill", {}).pop(entry, None)
    nbformat.write(run, target)
    digest = target.with_suffix(".sha256")
    digest.write_text(_digest(target), encoding="ascii")
    for part in (digest, target):
        place = stored_page(key).with_suffix(part.suffix)
        shutil.rmtree(place, ignore_errors=True)  # of a folder in its place, not of a file
        move(part, place)


def read(text: str, name: str = "") -> Any:
    """The executed form of a source notebook, for ``nb_custom_formats``.

    Args:
        text: the source notebook's text.
        name: the page's name for messages.

    Raises:
        PageFailed: if a cell of the page raises.
        BadInput: if the text is not a notebook or its parameters are wrong.
    """
    name = name or "a notebook"
    root = sources.find_root()
    declared = sources.default_parameters(sources.parse(text, name), name)
    path = execute(text, injected_parameters(declared), root, name)
    return nbformat.read(path, as_version=4)


def _deliver(path: Path, output: Path) -> None:
    """Copy a stored page to where it was asked for: written aside, moved into place."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    shutil.copyfile(path, part)
    os.replace(part, output)


def _injected(text: str) -> dict[str, object]:
    """The parameters of the command line.

    Raises:
        BadInput: they are no mapping in JSON, or one has two values.
    """

    def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("one of them is there twice")
        return found

    try:
        found = json.loads(text, object_pairs_hook=distinct)
    except ValueError as error:
        raise BadInput(f"cannot read the parameters {text}: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f'parameters are a mapping such as {{"seeds": [0]}}, given {text}')
    return found


@program
def main(arguments: list[str] | None = None) -> int:
    """Execute pages beforehand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.reader")
    parser.add_argument("notebooks", nargs="+", help="source notebooks")
    parser.add_argument("--parameters", default="{}", help="parameters to inject, as JSON")
    parser.add_argument("--output", help="also copy the run here (one notebook only)")
    given = parser.parse_args(arguments)
    if given.output and len(given.notebooks) != 1:
        raise BadInput("--output takes one notebook")
    root, parameters = sources.find_root(), _injected(given.parameters)
    for name in given.notebooks:
        text = Path(name).read_text(encoding="utf-8")
        declared = sources.default_parameters(sources.parse(text, name), name)
        checks.check_names(parameters, declared)
        path = execute(text, {**injected_parameters(declared), **parameters}, root, name)
        if given.output:
            with writing("the page", "give another --output"):
                _deliver(path, Path(given.output))
        print(f"{name} -> {given.output or path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
