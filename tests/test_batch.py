"""Grids are checked first, shared runs are done once, and a killed batch goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.build import batch, reader, sources
from pages_help import notebook, printed, small_book
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec, is_complete, run_folder
from posterior_collapse.runs.spec import load_data

BOTH = [{"recipe": "lagging-synthetic", "methods": ["vae", "lagging"]}]
LOAD = """
from posterior_collapse.runs import Spec, run_folder
print([run_folder(Spec("lagging-synthetic", "vae", page.scale, s)).exists() for s in page.seeds])
"""


@pytest.fixture
def book(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pages = {
        "lagging/first": notebook(LOAD, runs=BOTH),
        "lagging/second": notebook("print('no runs of its own')", runs=BOTH[:1]),
        "plain": notebook("print(2 + 2)"),
    }
    folder = small_book(tmp_path / "book", pages)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that use no library need no process that has imported it: ten seconds of a core."""
    monkeypatch.setattr(batch, "WARM", ())


def entry(notebooks: object = "notebooks/lagging/*.ipynb", **lists: object) -> dict[str, object]:
    return {"notebooks": notebooks, "parameters": lists}


def test_a_grid_is_every_combination(book: Path) -> None:
    entries = [entry(scale=["smoke", "quick"], seeds=[[0], [1], [0, 1]])]
    jobs = batch.grid_jobs(entries, book, book / "out")
    assert len(jobs) == 2 * 2 * 3
    places = {job.output.relative_to(book / "out").as_posix() for job in jobs}
    assert len(places) == len(jobs)
    assert "scale=smoke,seeds=0-1/lagging/first.ipynb" in places


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (entry("notebooks/lagging/frist.ipynb"), 'did you mean "notebooks/lagging/first.ipynb"'),
        (entry([]), "needs notebooks"),
        (entry(sede=[1]), 'unknown parameter "sede"; did you mean "seeds"'),
        (entry(scale=["smok"]), 'unknown scale "smok"; did you mean "smoke"'),
        (entry(seeds=[0, 1]), "cannot use seeds 0"),
        (entry(device="gpu"), "allowed: auto, cpu, cuda, mps"),
        (entry(scale=[]), "scale of a grid entry has no values"),
        ({"notebooks": "notebooks/*.ipynb", "parameters": [1]}, "a mapping"),
    ],
)
def test_a_wrong_grid_is_refused(book: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        batch.grid_jobs([changed], book, book / "out")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("grid: []", "needs a list of entries"),
        ("gird:\n  - {}", 'did you mean "grid"'),
        ("grid:\n  - notebook: a", 'did you mean "notebooks"'),
        ("grid: [", "cannot read the grid file"),
    ],
)
def test_a_wrong_grid_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "grid.yml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        batch.read_grid(path)
    assert message in str(caught.value)
    with pytest.raises(BadInput, match="there is no grid file"):
        batch.read_grid(tmp_path / "absent.yml")


def test_a_wrong_grid_trains_nothing(
    book: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (book / "grid.yml").write_text(
        "grid:\n- notebooks: notebooks/*/*.ipynb\n  parameters: {sede: 1}\n"
    )
    assert batch.main(["grid", "grid.yml"]) == 2
    assert 'did you mean "seeds"' in capsys.readouterr().err
    assert not store.exists() and not (book / "_batch").exists()


def test_a_recipe_that_does_not_exist_is_refused(book: Path) -> None:
    wrong = [{"recipe": "lagging-sintetic", "methods": ["vae"]}]
    (book / "notebooks" / "wrong.ipynb").write_text(nbformat.writes(notebook(runs=wrong)))
    with pytest.raises(BadInput, match='wrong.ipynb: .*did you mean "lagging-synthetic"'):
        batch.make_plan([batch.Job("notebooks/wrong.ipynb", {})], book)


@given(
    st.dictionaries(
        st.sampled_from(["scale", "seeds", "dataset"]),
        st.one_of(st.text(max_size=200), st.lists(st.integers(0, 99), min_size=1, max_size=90)),
    ),
    st.dictionaries(
        st.sampled_from(["scale", "seeds", "dataset"]),
        st.one_of(st.text(max_size=200), st.lists(st.integers(0, 99), min_size=1, max_size=90)),
    ),
)
def test_folder_names_are_safe_and_apart(one: dict[str, object], two: dict[str, object]) -> None:
    names = [batch.folder_name(parameters) for parameters in (one, two)]
    for name in names:
        assert name == Path(name).name and len(name.encode()) < 200 and name.isprintable()
    assert (names[0] == names[1]) == (one == two)


def test_shared_runs_are_planned_once(book: Path) -> None:
    jobs = batch.grid_jobs([entry(scale="smoke", seeds=[[0], [0, 1]])], book, book / "out")
    plan = batch.make_plan(jobs, book)
    assert len(plan["runs"]) == 4  # two methods, two seeds
    assert len(plan["pages"]) == 4
    assert {len(page["runs"]) for page in plan["pages"].values()} == {2, 4}
    commands = [run["command"] for run in plan["runs"].values()]
    assert all("--scale smoke" in command for command in commands)


def test_runs_may_depend_on_a_parameter() -> None:
    request = sources.RunRequest("r", ("vae",), {"dataset": ("yahoo",)})
    assert request.applies({"dataset": "yahoo"}) and not request.applies({"dataset": "grammar"})


def test_the_pages_of_the_book_are_those_of_the_toc(book: Path) -> None:
    names = ["notebooks/lagging/first.ipynb", "notebooks/lagging/second.ipynb"]
    assert sources.toc_notebooks(book) == [*names, "notebooks/plain.ipynb"]
    (book / "_toc.yml").write_text("root: book/index\nchapters:\n- file: notebooks/absent\n")
    with pytest.raises(BadInput, match="lists notebooks/absent"):
        sources.toc_notebooks(book)


def test_the_example_grid_is_three_seeds_at_two_scales(root: Path) -> None:
    jobs = batch.grid_jobs(batch.read_grid(root / "batch.yml"), root, root / "_batch")
    chapter = [name for name in sources.list_notebooks(root) if "/lagging/" in name]
    assert len(jobs) == len(chapter) * 3 * 2
    assert {job.notebook for job in jobs} == set(chapter)
    for job in jobs:
        batch.requested_specs(job, root)


def test_a_dry_run_says_what_would_run_and_why(
    book: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Spec("lagging-synthetic", "vae", "quick", 0)
    before = {
        "sources": "of an earlier version",
        "data": load_data(spec.setup).digest,
        "setup": asdict(spec.setup),
        "method": repr(spec.choices),
        "cpu_seconds": 7200.0,
    }
    old = store / "runs" / f"{spec.label()}--0123" / "provenance.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps(before))
    name = "notebooks/lagging/second.ipynb"
    (job,) = (job for job in batch.book_jobs(book) if job.notebook == name)
    parts = batch.job_parts(job, book)
    (store / "pages").mkdir()
    run = store / "pages" / "run.ipynb"
    nbformat.write(notebook(), run)
    reader._keep(run, name, {**parts, "data": "other"})

    assert batch.main(["book", "--dry-run", "--page", name]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[batch] to do: 4 trainings and 1 of 1 pages, 2 at a time; "
        "about 2.0 h of training, and 2 of unknown length",
        f"[train] {replace(spec, method='lagging').label()}: never trained",
        f"[train] {replace(spec, method='lagging', seed=1).label()}: never trained",
        f"[train] {spec.label()}: changed: sources",
        f"[train] {replace(spec, seed=1).label()}: never trained",
        f"[page] {name}: changed: data",
    ]
    assert not is_complete(spec) and not (store / "graph").exists()
    nbformat.write(notebook(), run)
    reader._keep(run, name, parts)
    assert batch.main(["book", "--dry-run", "--page", name]) == 0
    assert "0 trainings and 0 of 1 pages" in capsys.readouterr().out
    assert batch.main(["book", "--dry-run", "--page", "notebooks/lagging/secnd.ipynb"]) == 2
    assert f'did you mean "{name}"' in capsys.readouterr().err
    assert batch.main(["book", "--dry-run", "--page", "notebooks/plain.ipynb"]) == 0
    assert "[page] notebooks/plain.ipynb: never executed" in capsys.readouterr().out


def test_jobs_say_what_an_executor_should_reserve(book: Path, store: Path) -> None:
    asked = {"scale": "smoke", "seeds": [0]}
    for device, gpu in (("cpu", 0), ("cuda", 1)):
        jobs = [batch.Job("notebooks/lagging/second.ipynb", {**asked, "device": device})]
        plan = batch.make_plan(jobs, book)
        wanted = {"runs": (2000, 20, gpu), "pages": (4000, 60, gpu)}
        for kind, needs in wanted.items():
            (found,) = {tuple(entry["resources"].values()) for entry in plan[kind].values()}
            assert found == needs


def test_a_profile_is_checked_before_anything_runs(
    book: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", str(tmp_path / "grid.yml"), "--profile", str(tmp_path)]
    (tmp_path / "grid.yml").write_text(
        json.dumps({"grid": [entry(scale="smoke", seeds=[[0]])]})  # JSON is YAML
    )
    assert batch.main(words) == 2
    assert "a profile is a folder with a config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("executor: abacus")
    assert batch.main(words) == 2
    assert "snakemake-executor-plugin-abacus, which is not installed" in capsys.readouterr().err
    assert not batch._runs_here(["--profile", "x"]) and batch._runs_here(["--resources", "gpu=1"])


def start(book: Path, *words: str) -> subprocess.Popen[str]:
    """The command line in a process group of its own, so that all of it can be killed."""
    command = [sys.executable, "-m", "companion.build.batch", *words, "--jobs", "2"]
    return subprocess.Popen(
        command,
        cwd=book,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_a_killed_batch_goes_on(book: Path, store: Path) -> None:
    """Kill it while the second training runs, which ends with it; then ask again."""
    (book / "grid.yml").write_text(
        json.dumps({"grid": [entry(scale="smoke", seeds=[[0]])]})  # JSON is YAML
    )
    first = start(book, "grid", "grid.yml")
    specs = [Spec("lagging-synthetic", method, "smoke", 0) for method in ("vae", "lagging")]
    end = time.monotonic() + 240
    while not any(is_complete(spec) for spec in specs):
        assert time.monotonic() < end and first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    first.kill()
    first.communicate()  # until nobody has its output open
    done = {run_folder(spec) for spec in specs if is_complete(spec)}
    dates = {folder: folder.stat().st_mtime_ns for folder in done}

    again = start(book, "grid", "grid.yml")
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"to do: {2 - len(done)} trainings and 2 of 2 pages" in said
    assert dates == {folder: folder.stat().st_mtime_ns for folder in done}
    page = book / "_batch" / "scale=smoke,seeds=0" / "lagging" / "first.ipynb"
    assert printed(nbformat.read(page, as_version=4)) == "[True]\n"
    assert not list((book / "_batch").rglob("*.part"))

    page.write_bytes(page.read_bytes()[:50])  # a damaged copy is delivered again, nothing trains
    third = start(book, "grid", "grid.yml")
    said, _ = third.communicate(timeout=120)
    assert "to do: 0 trainings and 1 of 2 pages" in said, said
    assert printed(nbformat.read(page, as_version=4)) == "[True]\n"


@pytest.mark.usefixtures("plain")
def test_the_books_pages_are_executed_and_then_nothing_is_left(
    book: Path, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = [batch.Job("notebooks/plain.ipynb", {})]
    assert batch.run(jobs, book, store / "graph", 2) == 0
    assert "[1/1] [page] notebooks/plain.ipynb" in capfd.readouterr().out
    assert batch.run(jobs, book, store / "graph", 2) == 0
    assert "to do: 0 trainings and 0 of 1 pages" in capfd.readouterr().out
    (page,) = (store / "pages").glob("*.ipynb")
    assert reader.is_stored(page.stem)


@pytest.mark.usefixtures("plain")
def test_a_failing_page_fails_the_batch_and_is_shown(
    book: Path, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (book / "notebooks" / "bad.ipynb").write_text(nbformat.writes(notebook("1 / 0")))
    jobs = [batch.Job("notebooks/bad.ipynb", {}), batch.Job("notebooks/plain.ipynb", {})]
    assert batch.run(jobs, book, store / "graph", 2) != 0
    shown = capfd.readouterr().err
    assert "not finished: notebooks/bad.ipynb" in shown and "ZeroDivisionError" in shown
    assert len(list((store / "pages").glob("*.ipynb"))) == 1  # the other page was still executed
