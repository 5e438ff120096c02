"""What a source notebook says about itself, read without running it.

A source holds no outputs. Its first code cell is tagged ``parameters`` and assigns plain values.
The cell after it calls ``companion.begin`` with the same names. The metadata name the runs that the
page asks for, so that they can be trained beforehand and at the same time::

    "posterior_collapse": {"runs": [{"recipe": "lagging-synthetic", "methods": ["vae", "lagging"]}]}

An entry may say that it applies only to some choices of the page's parameters:
``"when": {"dataset": ["yahoo"]}``.  ``@main`` and its like are :mod:`companion.claims.groups`.

A page that gathers what the others show says ``"reads": "pages"``: it is executed after them, and
again when one of them has changed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from posterior_collapse.errors import BadInput, nearest

# what nbformat raises on a text that is no notebook, or half of one
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RecursionError,
    nbformat.ValidationError,
    nbformat.reader.NotJSONError,
)

_TAG = "parameters"
_RUN_KEYS = ("methods", "recipe", "scale", "when")


@dataclass(frozen=True)
class RunRequest:
    """Runs that a page asks for: one recipe with some methods, at the page's seeds and scale.

    Attributes:
        recipe: a name of ``recipes``.
        methods: names of ``methods``.
        when: parameter name -> values for which the page asks; empty means always.
        scale: the scale to use in place of the page's own, or None.
    """

    recipe: str
    methods: tuple[str, ...]
    when: Mapping[str, tuple[object, ...]]
    scale: str | None = None

    def applies(self, parameters: Mapping[str, object]) -> bool:
        """Whether a page with these parameters asks for these runs."""
        return all(parameters.get(name) in values for name, values in self.when.items())


def find_root(start: Path | None = None) -> Path:
    """The root of the repository: the nearest folder upwards that holds ``_toc.yml``.

    Args:
        start: where to begin; by default the working folder, then the folder of this file.

    Raises:
        BadInput: if there is none, as when the package is installed without the repository.
    """
    starts = [start] if start else [Path.cwd(), Path(__file__).resolve().parent]
    for place in starts:
        for folder in (place, *place.parents):
            if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
                return folder
    raise BadInput(
        f"no repository found upwards of {starts[0]}: expected a folder with _toc.yml and "
        "notebooks/; pages need the repository, the library alone does not"
    )


def list_notebooks(root: Path) -> list[str]:
    """Source notebooks relative to the root, sorted, with forward slashes."""
    paths = (root / "notebooks").rglob("*.ipynb")
    names = [path.relative_to(root).as_posix() for path in paths]
    return sorted(name for name in names if ".ipynb_checkpoints" not in name)


def toc_pages(root: Path) -> list[str]:
    """Pages of the table of contents in its order, without the endings of their files.

    Raises:
        BadInput: if it lists a file that does not exist.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    yield str(value).removesuffix(".ipynb").removesuffix(".md")
                else:
                    yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    names = list(files(toc))
    for name in names:
        if not any((root / f"{name}{ending}").is_file() for ending in (".ipynb", ".md")):
            raise BadInput(f"_toc.yml lists {name}, but there is no such page")
    return names


def toc_notebooks(root: Path) -> list[str]:
    """Source notebooks that the table of contents lists, in its order; raises as it does."""
    return [f"{name}.ipynb" for name in toc_pages(root) if (root / f"{name}.ipynb").is_file()]


def parse(text: str, name: str) -> Any:
    """A notebook from its text.

    Raises:
        BadInput: if the text is not a notebook.
    """
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except UNREADABLE as error:
        raise BadInput(f"{name} is not a notebook: {str(error).splitlines()[0]}") from error
    return notebook


def _parameter_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if _TAG in cell.metadata.get("tags", [])]


def default_parameters(notebook: Any, name: str) -> dict[str, object]:
    """The parameters that a page takes, with their defaults; empty without a parameters cell.

    Raises:
        BadInput: if the parameters cell does anything but assign plain values to names.
    """
    cells = _parameter_cells(notebook)
    if not cells:
        return {}
    parameters: dict[str, object] = {}
    try:
        for node in ast.parse(cells[0].source).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                raise ValueError(f"line {node.lineno} is not a plain assignment")
            parameters[node.targets[0].id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            f"the parameters cell of {name} must assign plain values: {error}"
        ) from error
    return parameters


def _begin_call(notebook: Any) -> ast.Call | None:
    """The page's call of ``companion.begin``, or None if there is none."""
    for cell in notebook.cells:
        if cell.cell_type != "code" or "begin(" not in cell.source:
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            ends = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if ends == "begin":
                return node
    return None


def begin_choices(notebook: Any) -> dict[str, list[str]]:
    """The allowed values of the page's own parameters, where the call spells them out."""
    choices = {}
    call = _begin_call(notebook)
    for word in call.keywords if call else []:
        if word.arg and isinstance(word.value, ast.Tuple) and len(word.value.elts) == 2:
            try:
                choices[word.arg] = [str(one) for one in ast.literal_eval(word.value.elts[1])]
            except ValueError:
                continue  # the values come from the library: the page checks them itself
    return choices


def reads_pages(notebook: Any) -> bool:
    """Whether a page gathers what the other pages show."""
    return bool(notebook.metadata.get("posterior_collapse", {}).get("reads") == "pages")


def requested_runs(notebook: Any, name: str) -> list[RunRequest]:
    """The runs that a page asks for in its metadata; an empty list if it asks for none.

    Raises:
        BadInput: if the metadata have another form than the one at the top of this module.
    """
    entries = notebook.metadata.get("posterior_collapse", {}).get("runs", [])
    requests = []
    for entry in entries:
        unknown = sorted(set(entry) - set(_RUN_KEYS))
        if unknown:
            raise BadInput(f"{name}: {nearest(unknown[0], _RUN_KEYS, 'key of runs')}")
        recipe, methods = entry.get("recipe"), entry.get("methods")
        if not isinstance(recipe, str) or not isinstance(methods, list) or not methods:
            raise BadInput(f"{name}: runs need a recipe and a list of methods, given {dict(entry)}")
        when = {
            key: tuple(values) if isinstance(values, list) else (values,)
            for key, values in entry.get("when", {}).items()
        }
        requests.append(RunRequest(recipe, tuple(methods), when, entry.get("scale")))
    return requests
