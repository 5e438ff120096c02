"""Executed pages are kept under what decides them, and shown only while that holds."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest

from companion.build import reader, sources
from pages_help import notebook, printed, small_book, text_of
from posterior_collapse import runs
from posterior_collapse.errors import BadInput, PosteriorCollapseError

COUNT = """
from pathlib import Path
note = Path("executions.txt")
note.write_text((note.read_text() if note.exists() else "") + "x")
print("scale", page.scale, "here", Path.cwd().name)
"""


@pytest.fixture
def book(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small book to read pages of, which is the working folder."""
    folder = small_book(tmp_path / "book", {"count": notebook(COUNT)})
    monkeypatch.chdir(folder)
    monkeypatch.delenv(reader.DATA_VARIABLE, raising=False)
    return folder


def executions(book: Path) -> int:
    note = book / "executions.txt"
    return len(note.read_text()) if note.exists() else 0


def text(book: Path) -> str:
    return (book / "notebooks" / "count.ipynb").read_text()


def test_the_store_is_the_one_of_the_runs(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reader.store_root() == runs.store_root() == store
    monkeypatch.delenv("POSTERIOR_COLLAPSE_STORE")
    assert reader.store_root() == runs.store_root()


def test_a_page_is_executed_once_in_the_root(book: Path, store: Path) -> None:
    first = reader.read(text(book), "count")
    again = reader.read(text(book), "count")
    assert printed(first) == printed(again) == "scale quick here book\n"
    assert executions(book) == 1
    left = sorted(path.suffix for path in (store / "pages").iterdir())
    assert left == [".ipynb", ".sha256"]  # nothing left over
    assert "input_path" not in first.metadata.papermill


def test_the_environment_sets_scale_and_seeds(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.read(text(book), "count")
    monkeypatch.setenv(reader.SCALE_VARIABLE, "smoke")
    monkeypatch.setenv(reader.SEEDS_VARIABLE, "[4]")
    assert reader.injected_parameters({"scale": "quick"}) == {"scale": "smoke"}
    assert reader.injected_parameters({"seeds": [0]}) == {"seeds": [4]}
    assert printed(reader.read(text(book), "count")) == "scale smoke here book\n"
    monkeypatch.setenv(reader.SCALE_VARIABLE, "smok")
    with pytest.raises(BadInput, match='did you mean "smoke"'):
        reader.read(text(book), "count")


def test_everything_that_decides_a_page_is_in_its_key(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(source: str = "a", **injected: object) -> str:
        return reader.page_key(source, injected, book)

    keys = [key(), key("b"), key(scale="smoke")]
    (book / "data" / "printed.yml").write_text("number: 1\n")
    keys.append(key())
    (book / "data" / "printed.yml").write_text("number: 2\n")
    keys.append(key())
    (book / "requirements.lock").write_text("numpy==0\n")
    keys.append(key())
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    (corpora / "text.txt").write_text("a b c")
    monkeypatch.setenv(reader.DATA_VARIABLE, str(corpora))
    keys.append(key())
    os.utime(corpora / "text.txt", ns=(1, 1))
    keys.append(key())
    own = tmp_path / "my_methods.py"
    own.write_text("WEIGHT = 2\n")
    monkeypatch.setenv(reader.METHODS_VARIABLE, str(own))
    keys.append(key())
    own.write_text("WEIGHT = 3\n")
    keys.append(key())
    library = tmp_path / "library"
    library.mkdir()
    (library / "__init__.py").write_text("")
    monkeypatch.setattr(reader.posterior_collapse, "__file__", str(library / "__init__.py"))
    reader.imported_code.cache_clear()  # as in a process that imports it now
    keys.append(key())
    (library / "plots.py").write_text("WIDTH = 3\n")
    assert key() == keys[-1]  # an edit is not what was imported
    reader.imported_code.cache_clear()
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]
    monkeypatch.undo()
    reader.imported_code.cache_clear()


def test_a_failing_page_is_named_and_kept(book: Path, store: Path) -> None:
    failing = text_of(notebook("print('before')", "1 / 0"))
    with pytest.raises(reader.PageFailed) as caught:
        reader.read(failing, "notebooks/x/failing.ipynb")
    message = str(caught.value)
    assert "notebooks/x/failing.ipynb failed in code cell 4: ZeroDivisionError" in message
    kept = nbformat.read(message.rsplit("error: ", 1)[1], as_version=4)
    assert printed(kept) == "before\n"
    assert list((store / "pages").glob("*.ipynb")) == []


def test_a_damaged_page_is_set_aside(book: Path, store: Path) -> None:
    reader.read(text(book), "count")
    (stored,) = (store / "pages").glob("*.ipynb")
    stored.write_bytes(stored.read_bytes()[:100])
    assert printed(reader.read(text(book), "count")) == "scale quick here book\n"
    assert executions(book) == 2
    assert stored.with_suffix(".damaged").exists()


def kept(number: int) -> Path:
    """A page in the store, put there without running it."""
    parts = {"number": number}
    place = reader.stored_page(reader.part_digest(parts))
    place.parent.mkdir(parents=True, exist_ok=True)
    target = place.with_name("run.ipynb")
    nbformat.write(notebook(f"print({number})"), target)
    reader._keep(target, "a page", parts)
    return place


def test_no_flip_or_cut_of_a_stored_page_is_accepted(store: Path) -> None:
    draw, accepted, page = random.Random(0), 0, kept(1)
    whole = {path: path.read_bytes() for path in (page, page.with_suffix(".sha256"))}
    for trial in range(300):
        target = page if trial % 5 else page.with_suffix(".sha256")
        content = bytearray(whole[target])
        if trial % 3:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        target.write_bytes(content)
        accepted += reader.is_stored(page.stem)
        for path, data in whole.items():
            path.write_bytes(data)
    assert accepted == 0 and reader.is_stored(page.stem)


def test_another_pages_file_is_refused(
    book: Path, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Path(reader.execute(text(book), {}, book, "count"))
    for suffix in (".ipynb", ".sha256"):
        own.with_suffix(suffix).write_bytes(kept(7).with_suffix(suffix).read_bytes())
    assert printed(reader.read(text(book), "count")) == "scale quick here book\n"
    assert executions(book) == 2
    assert "it is another page's file" in caplog.text


@pytest.mark.parametrize("content", ["folder", "[]", "[" * 100_000, "{}"])
def test_what_is_no_page_is_refused(store: Path, content: str) -> None:
    page = kept(1)
    page.unlink()
    if content == "folder":
        page.mkdir()
    else:
        page.write_text(content)
        page.with_suffix(".sha256").write_text(reader._digest(page))
    assert not reader.is_stored(page.stem)
    with pytest.raises(BadInput, match="deep is not a notebook"):
        sources.parse("[" * 100_000, "deep")


def test_an_edit_while_a_page_runs_keeps_it_out_of_the_store(
    book: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither under the old key nor under the new one; a process that imports it anew keeps it."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "__init__.py").write_text("OLD = 1\n")
    monkeypatch.setattr(reader.posterior_collapse, "__file__", str(library / "__init__.py"))
    reader.imported_code.cache_clear()
    edits = f"open({str(library / '__init__.py')!r}, 'w').write('NEW = 1\\n')"
    page = text_of(notebook(edits))
    with pytest.raises(reader.PageFailed, match="were changed while it ran"):
        reader.read(page, "edited")
    assert not list((store / "pages").iterdir())
    with pytest.raises(PosteriorCollapseError, match="edited while they were imported"):
        reader.refuse_edited()
    reader.imported_code.cache_clear()
    reader.refuse_edited()
    assert reader.execute(page, {}, book, "edited").is_file()
    monkeypatch.undo()
    reader.imported_code.cache_clear()


def test_a_page_whose_kernel_is_killed_is_named_and_then_completes(book: Path, store: Path) -> None:
    killed = """
import os, signal
from pathlib import Path
for number in (signal.SIGKILL, signal.SIGTERM):
    note = Path(f"killed-{number}")
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), number)
print("whole")
"""
    page = text_of(notebook(killed))
    for _ in range(2):
        with pytest.raises(reader.PageFailed, match="killed is not finished.*ask again"):
            reader.read(page, "killed")
        assert not list((store / "pages").iterdir())
    assert printed(reader.read(page, "killed")) == "whole\n"


def test_what_a_killed_page_left_is_removed(book: Path, store: Path) -> None:
    rest = reader.stored_page(reader.page_key(text(book), {}, book)).with_suffix(".part")
    rest.mkdir(parents=True)
    (rest / "run.ipynb").write_text("half")
    assert reader.execute(text(book), {}, book, "count").is_file() and not rest.exists()


def test_readers_at_once_execute_one_page_once(book: Path) -> None:
    command = [sys.executable, "-m", "companion.build.reader", "notebooks/count.ipynb"]
    both = [subprocess.Popen(command, cwd=book, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert executions(book) == 1


def test_the_command_line_delivers_a_copy(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["notebooks/count.ipynb", "--parameters", json.dumps({"scale": "smoke"})]
    assert reader.main([*words, "--output", "out/deep/page.ipynb"]) == 0
    copy = nbformat.read("out/deep/page.ipynb", as_version=4)
    assert "scale smoke" in printed(copy)
    assert copy.metadata.posterior_collapse.page.source == "notebooks/count.ipynb"
    assert reader.main(["notebooks/count.ipynb", "--parameters", '{"sede": 1}']) == 2
    assert 'did you mean "seeds"' in capsys.readouterr().err
    assert reader.main(["notebooks/absent.ipynb"]) == 2


def test_a_text_that_is_no_notebook_is_refused(book: Path) -> None:
    for wrong in ("", "{}", "not json", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}'):
        with pytest.raises(BadInput, match="wrong.ipynb is not a notebook"):
            reader.read(wrong, "wrong.ipynb")


def test_without_the_repository_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="pages need the repository"):
        sources.find_root(tmp_path)


def test_sliders_survive_papermill(book: Path) -> None:
    cell = (
        "import io\nfrom PIL import Image\n"
        "def picture(shade):\n"
        "    file = io.BytesIO()\n"
        "    Image.new('RGB', (40, 30), (shade, 0, 0)).save(file, 'PNG')\n"
        "    return file.getvalue()\n"
        "companion.slider([picture(k) for k in (0, 100, 200)], ['a', 'b', 'c'], 'move', 'Red.')"
    )
    run = reader.read(text_of(notebook(cell)), "sliders")
    outputs = [o.data for c in run.cells if c.cell_type == "code" for o in c.outputs]
    (shown,) = [data for data in outputs if 'alt="Red. ' in data.get("text/html", "")]
    assert shown["text/html"].count('alt="Red. ') == 3
    assert shown["text/plain"] == "Red. (3 frames)"


def test_one_page_at_a_time_is_locked_by_its_key(book: Path) -> None:
    results: list[Path] = []

    def execute() -> None:
        results.append(reader.execute(text(book), {}, book, "count"))

    both = [threading.Thread(target=execute) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(set(results)) == 1 and executions(book) == 1
