"""What machines and habits bring: terminals, odd paths, Ctrl-C, wrong files and numbers."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save

from companion.build import batch, environment, reader
from companion.build.parameters import check_seeds
from pages_help import notebook, printed, small_book
from posterior_collapse import datasets, gaussian, methods, places, recipes
from posterior_collapse.errors import LARGEST_SEED, BadInput, PosteriorCollapseError, whole
from posterior_collapse.methods import entries
from posterior_collapse.objectives import ImportanceWeighted
from posterior_collapse.runs import DamagedRun, Spec, load_run, run_folder, train_or_load, work
from posterior_collapse.runs import store as store_module
from posterior_collapse.runs.__main__ import main as runs
from posterior_collapse.runs.store import partial_folder
from posterior_collapse.text import metrics as metrics
from posterior_collapse.training import TrainingDiverged, state

VAE = Spec("text-grammar", "vae", "smoke")
TRAIN = ["train", "--recipe", "text-grammar", "--method", "vae", "--scale", "smoke"]
TRAIN += ["--device", "cpu"]
UPDATES = 14  # 7 batches in 2 epochs


# --- a terminal -----------------------------------------------------------------------------------

EVERY = """
from posterior_collapse import methods
from posterior_collapse.runs import Spec, train_or_load

cheap = {"lagging": "lagging(max_inner=4, window=2)", "lagging-fixed": "lagging-fixed(steps=3)"}
cheap["sa-vae"] = "sa-vae(steps=1)"
for name in methods.names():
    run = train_or_load(Spec("text-grammar", cheap.get(name, name), "smoke"), "cpu")
    print("trained", name, run.metrics["updates"], flush=True)
"""


def in_a_terminal(code: str) -> tuple[int, str]:
    """Exit status of a Python program in a pseudo-terminal, and all that it shows."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))  # rows and columns
    shown = b""
    while True:
        try:
            read = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the program's end is closed
            read = b""
        if not read:
            break
        shown += read
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_every_method_trains_in_a_terminal(store: Path) -> None:
    status, shown = in_a_terminal(EVERY)
    assert status == 0, shown[-2000:]
    assert re.findall(r"trained (\S+) \d+", shown) == methods.names()
    bars = dict(re.findall(r"text-grammar--(\S+)--smoke--seed0: 100%[^\r]*loss=(.+?)\]", shown))
    assert len(bars) == len(methods.names())
    assert "MI=" in bars["vae"] and "MI=" not in bars["ae"]  # an autoencoder has none


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [20240131123456, LARGEST_SEED + 1, 2**64, 10**24, -1, 1.0, True, "1"]
)
def test_a_seed_that_generators_do_not_take_is_refused_first(
    seed: object, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"from 0 to {LARGEST_SEED}, given {seed!r}"
    with pytest.raises(BadInput, match=re.escape(told)):
        replace(VAE, seed=seed)
    with pytest.raises(BadInput, match=re.escape(told)):
        check_seeds([0, seed])
    monkeypatch.setenv("POSTERIOR_COLLAPSE_SEEDS", json.dumps([seed]))
    with pytest.raises(BadInput, match=str(LARGEST_SEED)):
        reader.injected_parameters({"seeds": [0]})
    assert not store.exists()


def test_the_largest_seed_trains_and_is_its_own_run(store: Path) -> None:
    """The bound is where a generator begins to forget: it uses 32 bits, and gets 2 s + 1."""
    a, b = (torch.Generator().manual_seed(2 * s + 1) for s in (3, 3 + LARGEST_SEED + 1))
    assert torch.equal(torch.rand(5, generator=a), torch.rand(5, generator=b))
    largest = train_or_load(replace(VAE, seed=LARGEST_SEED), "cpu", False)
    other = train_or_load(replace(VAE, seed=LARGEST_SEED - 1), "cpu", False)
    assert largest.metrics["nll"] != other.metrics["nll"]
    assert check_seeds(f"[{LARGEST_SEED}]") == (LARGEST_SEED,)


def test_a_seed_of_numpy_is_the_same_run() -> None:
    seed = replace(VAE, seed=np.int64(3)).seed
    assert type(seed) is int and replace(VAE, seed=np.int64(3)).key() == replace(VAE, seed=3).key()


def test_blanks_around_a_method_are_the_same_run() -> None:
    assert run_folder(replace(VAE, method=" vae ")) == run_folder(VAE)


# --- a checkpoint of another device ---------------------------------------------------------------


class Stop:
    """Stands for what is told of progress, and acts after so many updates."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self.after, self.act, self.updates = after, act, 0

    def __call__(self, bar: object, training: object, updates: int) -> None:
        self.updates += updates
        if updates and self.updates == self.after:
            self.act()


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def as_on_cuda(path: Path) -> None:
    """Give a checkpoint the 16 bytes that a CUDA generator has for a state."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = file.metadata()["state"]
    assert len(tensors["noise"]) == 5056
    tensors["noise"] = torch.arange(16, dtype=torch.uint8)
    path.write_bytes(save(tensors, {"state": text, "digest": state._digest(tensors, text)}))


def test_a_checkpoint_of_cuda_goes_on_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for folder in ("one", "two"):
        monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path / folder))
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(work, "_advance", Stop(10, interrupt))
            train_or_load(VAE, "cpu", False, 0.0)
        as_on_cuda(partial_folder(VAE) / "checkpoint.safetensors")
        rest = Stop(99, interrupt)
        with monkeypatch.context() as patched:
            patched.setattr(work, "_advance", rest)
            found.append(train_or_load(VAE, "cpu", False))
        assert rest.updates == UPDATES - 10  # it went on, and did not start anew
    assert caplog.text.count("written on another kind of device") == 2
    assert found[0].metrics == found[1].metrics  # the new seed is that of what was lost
    assert found[0].metrics["updates"] == UPDATES


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_says_two_lines_and_the_same_command_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(work, "_advance", Stop(9, interrupt))  # in the second epoch
        assert runs(TRAIN) == 130
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 2 and "goes on" in said.err
    rest = Stop(99, interrupt)
    with monkeypatch.context() as patched:
        patched.setattr(work, "_advance", rest)
        assert runs(TRAIN) == 0
    assert rest.updates == UPDATES - 7  # from the end of the first epoch
    assert capsys.readouterr().out.strip() == str(run_folder(VAE))


# --- stores ---------------------------------------------------------------------------------------


def below_a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file" / "store")


def linked(folder: Path, to: str) -> str:
    (folder / "link").symlink_to(folder / to)
    return str(folder / "link" / "store")


def with_lock(folder: Path) -> str:
    """A store in which the lock of the run cannot be opened."""
    (folder / "locks" / f"{run_folder(VAE).name}.lock").mkdir(parents=True)
    return str(folder)


@pytest.mark.parametrize(
    ("store_of", "reason"),
    [
        (below_a_file, "a file and not a folder"),
        (lambda folder: linked(folder, "nothing"), "a link to nothing"),
        (lambda folder: linked(folder, "link"), "a link to nothing"),
        (lambda folder: "/proc/self/store", "No such file"),
        (lambda folder: str(folder / ("x" * 300)), "File name too long"),
        (lambda folder: "~nobody-has-this-name/store", "Write the whole path"),
        (with_lock, "Is a directory"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    store_of: Callable[[Path], str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", store_of(tmp_path))
    assert runs(TRAIN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and reason in line and "POSTERIOR_COLLAPSE_STORE" in line
    if store_of is not with_lock:  # a batch and a page meet the same store
        assert batch.main(["book"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and reason in line


def read_only(path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def test_a_store_that_is_read_only_gives_what_it_has(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_or_load(VAE, "cpu", False)
    parts = reader.page_parts("{}", {}, Path("absent"))
    page = reader.stored_page(reader.part_digest(parts))
    page.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), page.with_name("run.ipynb"))
    reader._keep(page.with_name("run.ipynb"), "a page", parts)
    monkeypatch.setattr(batch, "make_plan", lambda *_: {"runs": {}, "pages": {}})  # all is there
    for name in ("mkdir", "write_bytes", "write_text"):
        monkeypatch.setattr(Path, name, read_only)
    assert train_or_load(VAE, "cpu", False).metrics == run.metrics
    assert reader.execute("{}", {}, Path("absent"), "a page") == page
    assert batch.main(["book"]) == 0  # and takes no lock
    capsys.readouterr()
    assert runs([*TRAIN, "--seed", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot use ") and "Read-only file system" in error


def test_without_a_home_the_store_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "POSTERIOR_COLLAPSE_STORE"):
        monkeypatch.delenv(name, raising=False)
    assert runs(TRAIN) == 2
    error = capsys.readouterr().err
    assert "no home folder" in error and "POSTERIOR_COLLAPSE_STORE" in error
    monkeypatch.setenv("POSTERIOR_COLLAPSE_DATA", "~/data")
    with pytest.raises(BadInput, match="POSTERIOR_COLLAPSE_DATA is ~/data"):
        datasets.registry.data_folder()


def test_a_book_that_is_read_only_says_so(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.chdir(root)  # to come back
    with pytest.raises(SystemExit, match="copy the book elsewhere: .*Read-only file system"):
        environment.main()


def test_a_batch_says_where_its_pages_cannot_go(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.yml"
    grid.write_text("grid: [{notebooks: notebooks/papers/status.ipynb}]")
    assert batch.main(["grid", str(grid), "--out", below_a_file(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot use ") and "give another --out" in error


def test_no_name_of_a_folder_is_read_as_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Comments and mappings of YAML, lines, a shell's words, and papermill's braces."""
    odd = tmp_path / "a #b: c\n'd' \"{scale}\" $HOME %s"
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(odd / "store"))
    asked = [{"recipe": VAE.recipe, "methods": ["vae"]}]
    cell = "from posterior_collapse.runs import Spec, is_complete\n"
    cell += f"print(is_complete(Spec({VAE.recipe!r}, 'vae', page.scale)))"
    book = small_book(tmp_path / "book", {"plain": notebook(cell, runs=asked)})
    monkeypatch.chdir(book)
    grid = {"notebooks": ["notebooks/*.ipynb"], "parameters": {"scale": "smoke", "seeds": [[0]]}}
    (book / "grid.yml").write_text(json.dumps({"grid": [grid]}))
    status = batch.main(["grid", "grid.yml", "--out", str(odd / "out")])
    said = capfd.readouterr()
    assert status == 0, said.out + said.err
    page = odd / "out" / "scale=smoke,seeds=0" / "plain.ipynb"
    assert printed(nbformat.read(page, as_version=4)) == "True\n"
    assert load_run(VAE).metrics["updates"] == UPDATES


# --- files and names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x = 1\nx = undefined\n", "methods.py, line 2: NameError"),
        (b"def broken(:\n", "SyntaxError"),
        (b"import nothing_of_this_name\n", "line 1: ModuleNotFoundError"),
        (b"\xff\xfe", "SyntaxError"),
        (None, "is no file"),
    ],
)
def test_a_wrong_methods_file_is_one_line(
    content: bytes | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "methods.py"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("POSTERIOR_COLLAPSE_METHODS", str(file))
    monkeypatch.setattr(entries, "_WRONG", [])
    methods._enter_own()  # as the import of the module does
    assert runs(TRAIN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and reason in line and "POSTERIOR_COLLAPSE_METHODS" in line


@pytest.mark.parametrize(
    "text",
    [
        "lagging(window=2, window=3)",
        "lagging(window=2)(window=3)",
        "vae+lagging(window=2,window=2)",
    ],
)
def test_no_argument_of_a_method_is_given_twice(text: str) -> None:
    with pytest.raises(BadInput, match="cannot read the method"):
        methods.get(text)


@pytest.mark.parametrize("given", ["nan", "x", "-x", "f(1)", "{1: 2, **x}", "'a' + 1", "{[]}"])
def test_what_is_no_number_is_shown_as_it_was_written(given: str) -> None:
    said = f'the method "beta-vae(beta={given})": parameters are numbers such as 0.5, given {given}'
    with pytest.raises(BadInput, match=re.escape(said)):
        methods.get(f"beta-vae(beta={given})")


@pytest.mark.parametrize(
    "text",
    [
        "grid: []\ngrid: [{notebooks: plain.ipynb}]",
        "grid:\n  - notebooks: a.ipynb\n    notebooks: b.ipynb",
        "grid:\n  - notebooks: a.ipynb\n    parameters: {seeds: [[0]], scale: smoke, seeds: [[1]]}",
    ],
)
def test_no_key_of_a_grid_is_there_twice(text: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yml").write_text(text)
    with pytest.raises(BadInput, match=r"the key \w+ is there twice\n.*line \d"):
        batch.read_grid(tmp_path / "grid.yml")


@pytest.mark.parametrize("text", ['{"seeds": [0], "seeds": [1]}', "{seeds", "[0]"])
def test_parameters_of_the_command_line_are_one_mapping(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.main(["notebooks/papers/status.ipynb", "--parameters", text]) == 2
    assert "parameters" in capsys.readouterr().err


def test_no_key_of_our_own_files_is_there_twice(root: Path) -> None:
    files = [*(root / "data").rglob("*.yml"), *root.glob("*.yml")]
    assert len(files) > 5
    for file in files:
        assert yaml.load(file.read_text(encoding="utf-8"), batch._Distinct) is not None, file


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["vae", "bn-vae", "scale-vae", "sa-vae(steps=2)", "mog"])
def test_a_run_that_diverges_says_so(
    method: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = recipes.get("text-grammar", "smoke")
    fast = replace(setup.optimisation, learning_rate=1e6, clip_norm=1e30)
    monkeypatch.setattr(recipes, "get", lambda *_: replace(setup, optimisation=fast))
    with pytest.raises(TrainingDiverged, match="a smaller learning rate") as found:
        train_or_load(replace(VAE, method=method), "cpu", False)
    assert "float64" not in str(found.value)


def test_float64_is_advised_where_it_helps() -> None:
    mean, logvar = torch.zeros(1, 1), torch.full((1, 1), 100.0)
    with pytest.raises(BadInput, match="give float64, or check"):
        gaussian.kl_to_standard_normal(mean, logvar)
    right = gaussian.kl_to_standard_normal(mean.double(), logvar.double())
    assert right.item() == pytest.approx(0.5 * (np.exp(100.0) - 101.0), rel=1e-12)
    with pytest.raises(BadInput, match="; check that these") as found:
        gaussian.kl_to_standard_normal(mean.double(), 10.0 * logvar.double())
    assert "give float64" not in str(found.value)


@pytest.mark.parametrize("ten", [10, np.int64(10), np.uint8(10), np.array(10), torch.tensor(10)])
def test_a_whole_number_of_any_kind_is_one(ten: Any) -> None:
    assert whole("ten", ten) == 10 and type(whole("ten", ten)) is int
    words = [f"word{number}" for number in range(30)]
    assert metrics.distinct([words], ten) == metrics.distinct([words], 10)
    assert ImportanceWeighted(ten).k == 10
    sizes, plain = datasets.Sizes(ten, ten, ten), datasets.Sizes(10, 10, 10)
    one, two = (datasets.load("lagging-synthetic", asked) for asked in (sizes, plain))
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "value", [10.0, np.float64(10), True, np.True_, "10", None, 0, np.int64(-1)]
)
def test_what_is_no_whole_number_is_not(value: object) -> None:
    with pytest.raises(BadInput, match="ten is a whole number of at least 1, given "):
        whole("ten", value)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", "one file less"])
def test_a_manifest_vouches_for_every_file(content: str, store: Path) -> None:
    run = train_or_load(VAE, "cpu", False)
    manifest = run.folder / "manifest.json"
    if content == "one file less":
        listed = json.loads(manifest.read_text())
        del listed["metrics.json"]
        content = json.dumps(listed)
    manifest.write_text(content)
    with pytest.raises(DamagedRun, match="manifest"):
        load_run(VAE)
    assert train_or_load(VAE, "cpu", False).metrics == run.metrics  # trained anew
    assert len(list(run.folder.parent.glob("*.damaged-*"))) == 1


def test_another_runs_folder_under_this_name_is_refused(store: Path) -> None:
    run = train_or_load(VAE, "cpu", False)
    other = train_or_load(replace(VAE, seed=1), "cpu", False)
    shutil.rmtree(run.folder)
    shutil.copytree(other.folder, run.folder)
    with pytest.raises(DamagedRun, match=f"the run {other.provenance['key'][:16]}"):
        load_run(VAE)
    assert train_or_load(VAE, "cpu", False).metrics == run.metrics


def test_a_file_in_place_of_a_run_is_set_aside(store: Path) -> None:
    run_folder(VAE).parent.mkdir(parents=True)
    run_folder(VAE).write_text("")
    assert train_or_load(VAE, "cpu", False).metrics["updates"] == UPDATES


def test_a_checkpoint_goes_after_its_run_is_in_place_and_on_the_disk(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = partial_folder(VAE) / "checkpoint.safetensors"
    done: list[str] = []

    def note(what: str, function: Callable[..., None]) -> Callable[..., None]:
        def noted(*words: Any) -> None:
            places = [os.readlink(f"/proc/self/fd/{w}") if isinstance(w, int) else w for w in words]
            done.append(f"{what} {Path(places[0]).name}")
            if what == "replace" and Path(places[0]) == partial_folder(VAE):
                assert checkpoint.is_file()
            function(*words)

        return noted

    for what in ("fsync", "replace"):
        monkeypatch.setattr(os, what, note(what, getattr(os, what)))
    run = train_or_load(VAE, "cpu", False)
    assert not (run.folder / checkpoint.name).exists()
    moved = done.index(f"replace {partial_folder(VAE).name}")
    written = {*store_module._FILES, "manifest.json", partial_folder(VAE).name}
    assert written <= {word.removeprefix("fsync ") for word in done[:moved]}
    assert done[moved + 1] == "fsync runs"


def test_writing_leaves_other_errors_alone() -> None:
    with pytest.raises(BrokenPipeError), places.writing("a run"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    full = pytest.raises(PosteriorCollapseError, match="no space left while writing a run")
    with full, places.writing("a run"):
        raise OSError(errno.ENOSPC, "No space left on device")
