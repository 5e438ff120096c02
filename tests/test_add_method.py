"""The page on adding a method does what it says."""

from __future__ import annotations

import json
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from posterior_collapse import methods
from posterior_collapse.errors import BadInput
from posterior_collapse.methods import entries

PAGE = Path(__file__).parents[1] / "book" / "add-a-method.md"

# What a page of the benchmark does with a reader's method: plan its runs, train, show a row.
REPORT = """
import json
from posterior_collapse import methods
from companion.claims import comparison, evidence, groups
from companion.methods import four_slots, probes
from companion.build.parameters import Page
from posterior_collapse.runs import Spec

page = Page("smoke", (0,), "cpu", {"dataset": "grammar"})
rows = groups.expand(["vae", "@own"])
run = lambda m: evidence.this_build(page, "text-grammar", m)
runs = {m: run(m) for m in rows} if "hinge" in rows else {}
print(json.dumps({
    "rows": rows,
    "table": comparison.numbers(runs).rows["method"].tolist() if runs else [],
    "probes": probes.probes(runs).rows.columns.tolist() if runs else [],
    "key": Spec("text-grammar", "vae", "smoke").key(),
    "own": Spec("text-grammar", "hinge(floor=3)", "smoke").key() if "hinge" in rows else "",
    "slots": four_slots.choices()["objective"].tolist(),
}))
"""


@pytest.fixture(scope="module")
def source() -> str:
    found = re.search(
        r"```\{code-block\} python\n:class: own-method\n\n(.*?)```", PAGE.read_text(), re.S
    )
    assert found
    return found[1]


def run(code: list[str], store: Path, methods: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "POSTERIOR_COLLAPSE_METHODS"}
    environment |= {"POSTERIOR_COLLAPSE_STORE": str(store), "OMP_NUM_THREADS": "1"}
    if methods is not None:
        environment["POSTERIOR_COLLAPSE_METHODS"] = str(methods)
    return subprocess.run(
        [sys.executable, *code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_example_is_short(source: str) -> None:
    lines = [line for line in source.splitlines() if line.strip()]
    imports = [line for line in lines if line.startswith("from ")]
    assert len(lines) - len(imports) < 20


def test_an_own_method_trains_and_is_in_every_table(source: str, tmp_path: Path) -> None:
    file = tmp_path / "my_methods.py"
    file.write_text(source)
    words = ["-m", "posterior_collapse.runs", "train", "--recipe", "text-grammar"]
    trained = run([*words, "--method", "hinge(floor=3)", "--scale", "smoke"], tmp_path, file)
    assert trained.returncode == 0, trained.stderr
    plain = json.loads(run(["-c", REPORT], tmp_path, None).stdout)
    done = run(["-c", REPORT], tmp_path, file)
    assert done.returncode == 0, done.stderr
    with_own = json.loads(done.stdout)
    assert plain["rows"] == ["vae"] and with_own["rows"] == ["vae", "hinge"]
    assert with_own["table"] == ["VAE", "VAE + hinge"]
    assert "100 labels" in with_own["probes"]
    assert "Hinge" in with_own["slots"]
    # A reader's file decides the runs of its own methods and no others.
    assert with_own["key"] == plain["key"]
    file.write_text(source.replace("2.0 *", "4.0 *"))
    changed = json.loads(run(["-c", REPORT], tmp_path, file).stdout)
    assert changed["own"] != with_own["own"] and changed["key"] == plain["key"]


EDITED = """
import os
from pathlib import Path
from posterior_collapse.runs import Spec

file = Path(os.environ["POSTERIOR_COLLAPSE_METHODS"])
file.write_text(file.read_text().replace("2.0 *", "4.0 *"))  # after it was imported
print(Spec("text-grammar", "hinge", "smoke").key())
"""


def test_a_key_is_of_the_file_that_was_imported(source: str, tmp_path: Path) -> None:
    """A reader edits the file while a notebook's kernel has the old one."""
    file = tmp_path / "my_methods.py"
    file.write_text(source)
    unedited = "\n".join(line for line in EDITED.splitlines() if "write_text" not in line)
    before = run(["-c", unedited], tmp_path, file)
    edited = run(["-c", EDITED], tmp_path, file)
    after = run(["-c", unedited], tmp_path, file)
    assert [done.returncode for done in (before, edited, after)] == [0, 0, 0], edited.stderr
    assert before.stdout == edited.stdout != after.stdout


def cell(source: str, name: str) -> None:
    """Run a notebook's cell: IPython gives it a name and puts its text into linecache."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), {"__name__": "__main__"})


def test_a_method_of_a_cell_can_be_edited(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_TABLE", dict(entries._TABLE))
    digests = []
    for number, text in enumerate((source, source, source.replace("2.0 *", "4.0 *"))):
        cell(text, f"<cell-{number}>")
        digests.append(methods.own_digests("hinge(floor=3)"))
    assert digests[0] == digests[1] != digests[2]
    assert all(len(one) == 1 for one in digests)
    with pytest.raises(BadInput, match='"vae" is already in the table'):
        cell(source.replace('"hinge"', '"vae"'), "<cell-9>")
    with pytest.raises(BadInput, match='"hinge" is already in the table'):
        cell(source.replace("def hinge(", "def other("), "<cell-10>")
    with pytest.raises(BadInput, match="into a file or a notebook's cell"):
        exec(compile(source, "<prompt>", "exec"), {"__name__": "__main__"})


def test_wrong_own_files_are_clear_errors(source: str, tmp_path: Path) -> None:
    look = ["-c", "from posterior_collapse import methods; methods.names()"]
    absent = run(look, tmp_path, tmp_path / "none.py")
    assert "BadInput" in absent.stderr and "POSTERIOR_COLLAPSE_METHODS" in absent.stderr
    taken = tmp_path / "taken.py"
    taken.write_text(source.replace('"hinge"', '"vae"'))
    clash = run(look, tmp_path, taken)
    assert "already in the table" in clash.stderr
    words = ["-m", "posterior_collapse.runs", "train", "--recipe", "text-grammar"]
    file = tmp_path / "my_methods.py"
    file.write_text(source)
    near = run([*words, "--method", "hing", "--scale", "smoke"], tmp_path, file)
    assert near.returncode == 2 and 'did you mean "hinge"' in near.stderr
