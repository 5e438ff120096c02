"""A page's parameters are refused with the nearest match, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

import companion
from companion.build import parameters, sources
from pages_help import BEGIN, notebook, printed, text_of
from posterior_collapse import recipes
from posterior_collapse.errors import BadInput

GOOD = {"scale": "quick", "seeds": [0, 1], "device": "auto"}


def test_scales_are_those_of_the_recipes() -> None:
    swept = [name for name in recipes.names() if name.startswith("sweep-")]  # cells are no scales
    named = [name for name in recipes.names() if name not in swept]
    known = {scale for name in named for scale in recipes.scales(name)}
    assert swept
    assert known <= set(parameters.SCALES)
    assert {"smoke", "quick", "paper"} <= known


def test_good_parameters_make_a_page() -> None:
    page = companion.begin({}, scale="quick", seeds="[2, 0]", device="cpu")
    assert (page.scale, page.seeds, page.device) == ("quick", (2, 0), "cpu")
    with pytest.raises(AttributeError):
        page.scale = "paper"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": "quik"}, 'unknown scale "quik"; did you mean "quick"?'),
        ({"scale": 3}, 'unknown scale "3"; allowed: large, medium, paper, quick, smoke'),
        ({"device": "gpu0"}, 'unknown device "gpu0"'),
        ({"device": "cud"}, 'did you mean "cuda"?'),
        ({"seeds": []}, "distinct integers"),
        ({"seeds": 3}, "distinct integers"),
        ({"seeds": [True]}, "from 0 to 2147483647, given True"),
        ({"seeds": [0, -1]}, "from 0 to 2147483647, given -1"),
        ({"seeds": [0.5]}, "from 0 to 2147483647, given 0.5"),
        ({"seeds": [0, 0]}, "name one seed twice"),
        ({"seeds": "0,1"}, "cannot read seeds '0,1'"),
        ({"seeds": '{"a": 1}'}, "distinct integers"),
    ],
)
def test_wrong_values_are_named(changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        companion.begin({}, **{**GOOD, **changed})
    assert message in str(caught.value)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6, unique=True))
def test_seeds_read_the_same_as_a_list_and_as_a_string(seeds: list[int]) -> None:
    assert parameters.check_seeds(seeds) == parameters.check_seeds(str(seeds)) == tuple(seeds)


def test_a_choice_of_the_page_is_checked() -> None:
    page = companion.begin({}, **GOOD, dataset=("grammar", ("grammar", "yahoo")))
    assert page.choices == {"dataset": "grammar"}
    with pytest.raises(BadInput, match='unknown dataset "yaho"; did you mean "yahoo"'):
        companion.begin({}, **GOOD, dataset=("yaho", ("grammar", "yahoo")))


def test_without_a_history_plain_values_are_compared() -> None:
    namespace = {**GOOD, "sede": 1, "_hidden": 2, "sys": sys, "PAPERMILL_INPUT_PATH": "a"}
    with pytest.raises(BadInput, match='unknown parameter "sede"; did you mean "seeds"'):
        companion.begin(namespace, **GOOD)
    del namespace["sede"]
    companion.begin(namespace, **GOOD)
    namespace["row"] = 5  # a later cell's, and the page runs again
    companion.begin(namespace, **GOOD)


FIRST = 'scale = "quick"\nseeds = [0]\ndevice = "auto"'
INJECTED = "# Parameters\nsede = 1\n"


@pytest.mark.parametrize(
    ("cells", "begun", "unknown"),
    [
        (["", FIRST], False, []),
        (["", FIRST, INJECTED], False, ["sede"]),
        (["", FIRST, "# Parameters\nseeds = [3]\n"], False, []),
        (["", FIRST + "\nsede = 1"], False, ["sede"]),
        (["", FIRST, "sede = 1"], False, ["sede"]),
        # after the page began, its own later names are its own business
        (["", FIRST, BEGIN, "rows = 3", "scale_of_plot = 2"], True, []),
        (["", FIRST, BEGIN, "rows = 3", FIRST], True, []),
        # a parameter misspelt in a cell that was then run again
        (["", FIRST, BEGIN, "rows = 3", FIRST + "\nsede = 1"], True, ["sede"]),
        # mended: the kernel still knows the name, the reader has removed it
        (["", FIRST + "\nsede = 1", BEGIN, FIRST], False, []),
        (["%matplotlib inline", "1 +", FIRST], False, []),
    ],
)
def test_the_history_of_a_kernel(cells: list[str], begun: bool, unknown: list[str]) -> None:
    assert parameters.unknown_parameters(cells, GOOD, begun) == unknown


def test_live_jupyter_may_run_cells_again() -> None:
    """The same in a real IPython: run all, define names, run the first cells again."""
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def run(cell):
    done = shell.run_cell(cell, store_history=True)
    print(type(done.error_in_exec).__name__, done.error_in_exec)
for cell in ({FIRST!r}, {BEGIN!r}, "rows = 3", {FIRST!r}, {BEGIN!r},
             {FIRST!r} + "\\nsede = 1", {BEGIN!r}, {FIRST!r}, {BEGIN!r}):
    run(cell)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("None", "BadInput"))]
    assert [line.split()[0] for line in lines] == ["NoneType"] * 6 + ["BadInput"] + ["NoneType"] * 2


def papermill(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "page.ipynb").write_text(
        text_of(notebook("import sys\nprint('torch' in sys.modules)"))
    )
    command = [sys.executable, "-m", "papermill", "page.ipynb", "out.ipynb", "--no-progress-bar"]
    for _ in range(3):
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)
        # by itself papermill reaches kernels over TCP, and another process may take their port
        if "Address already in use" not in done.stderr:
            break
    return done


def test_papermill_with_a_changed_seed_makes_a_new_notebook(tmp_path: Path) -> None:
    done = papermill(tmp_path, "-p", "scale", "smoke", "-p", "seeds", "[7]")
    assert done.returncode == 0, done.stderr
    run = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert 'seeds = "[7]"' in "".join(cell.source for cell in run.cells)
    assert printed(run) == "False\n"  # nothing has imported torch yet


def test_papermill_with_a_misspelt_parameter_fails_at_once(tmp_path: Path) -> None:
    done = papermill(tmp_path, "-p", "sede", "1")
    assert done.returncode != 0
    wanted = 'unknown parameter "sede"; did you mean "seeds"? allowed: device, scale, seeds'
    assert wanted in done.stderr
    assert "True" not in printed(nbformat.read(tmp_path / "out.ipynb", as_version=4))


def begin_names(notebook: Any) -> set[str] | None:
    """Keyword names that the page hands to ``companion.begin``, or None if it never calls it."""
    call = sources._begin_call(notebook)
    return None if call is None else {word.arg for word in call.keywords if word.arg}


def problems(text: str, name: str) -> list[str]:
    """Everything that is wrong with a source notebook, as sentences; empty when all is well."""
    notebook = sources.parse(text, name)
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.outputs or cell.execution_count is not None for cell in code):
        found.append("it holds outputs or execution counts: run nbstripout on it")
    if "widgets" in notebook.metadata:
        found.append("it holds widget state: run nbstripout on it")
    if len(sources._parameter_cells(notebook)) != 1:
        found.append("it needs exactly one cell tagged parameters")
    elif not code or sources._TAG not in code[0].metadata.get("tags", []):
        found.append("its first code cell must be the one tagged parameters")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernelspec must be python3")
    try:
        declared = set(sources.default_parameters(notebook, name))
        taken = begin_names(notebook)
        if taken is None:
            found.append("it never calls companion.begin")
        elif taken != declared:
            found.append(
                f"the parameters cell assigns {sorted(declared)} but companion.begin is given "
                f"{sorted(taken)}"
            )
        for request in sources.requested_runs(notebook, name):
            if not set(request.when) <= declared:
                found.append(f"runs depend on {sorted(request.when)}, which are no parameters")
    except BadInput as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("name", sources.list_notebooks(sources.find_root()))
def test_source_notebooks_are_in_order(root: Path, name: str) -> None:
    assert problems((root / name).read_text(encoding="utf-8"), name) == []


@pytest.mark.parametrize("name", sources.list_notebooks(sources.find_root()))
def test_notebooks_ask_for_runs_that_exist(root: Path, name: str) -> None:
    from companion.build import batch

    batch.requested_specs(batch.Job(name, {"scale": "smoke"}), root)


def test_problems_of_a_source_are_found() -> None:
    book = notebook("print(1)")
    assert problems(text_of(book), "page") == []
    book.cells[3].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    book.cells[1].source += '\nextra = "a"'
    book.metadata.kernelspec.name = "other"
    book.metadata["posterior_collapse"] = {"runs": [{"recipes": "x"}]}
    found = "\n".join(problems(text_of(book), "page"))
    for part in (
        "holds outputs",
        "kernelspec",
        "companion.begin is given",
        'did you mean "recipe"',
    ):
        assert part in found


@pytest.mark.parametrize("line", ["seeds = list(range(3))", "import os", "seeds, n = [0], 1"])
def test_parameters_must_be_plain(line: str) -> None:
    with pytest.raises(BadInput, match="must assign plain values"):
        sources.default_parameters(notebook(parameters=line), "page")


def test_choices_spelt_out_in_the_call_are_read() -> None:
    call = (
        'companion.begin(globals(), scale=scale, dataset=(dataset, ("a", "b")), kind=(kind, KINDS))'
    )
    assert sources.begin_choices(notebook(begin=call)) == {"dataset": ["a", "b"]}
