"""Kernels of executed pages talk over Unix sockets, which are gone when the page has run."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from companion.build import kernels, reader
from pages_help import notebook, printed, small_book, text_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has TCP only")

# Prints how the kernel was reached and where its sockets are, once both pages have begun.
TELL = """
import json, pathlib, time
from ipykernel.connect import get_connection_file
pathlib.Path("begun-{name}").touch()
end = time.monotonic() + 60
while not pathlib.Path("begun-{other}").exists() and time.monotonic() < end:
    time.sleep(0.05)
file = pathlib.Path(get_connection_file())
reached = json.loads(file.read_text())
there = [pathlib.Path(f"{{reached['ip']}}-{{reached[name + '_port']}}").is_socket()
         for name in ("shell", "iopub", "stdin", "control", "hb")]
print(json.dumps([pathlib.Path("begun-{other}").exists(), reached["transport"], str(file), there]))
"""


@pytest.fixture
def book(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pages that wait for each other."""
    pages = {
        name: notebook(TELL.format(name=name, other=other), title=name)
        for name, other in (("left", "right"), ("right", "left"))
    }
    folder = small_book(tmp_path / "book", pages)
    monkeypatch.chdir(folder)
    monkeypatch.delenv(reader.DATA_VARIABLE, raising=False)
    return folder


def test_two_kernels_at_once_have_sockets_of_their_own_which_end_with_them(
    book: Path, tmp_path: Path
) -> None:
    """Also where the folder for temporary files has too long a path for a socket."""
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    long = tmp_path / ("long" * 40)
    long.mkdir()
    try:
        folders = {"left": short, "right": long}
        jobs = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "companion.build.reader"),
                    *(f"notebooks/{name}.ipynb", "--output", f"{name}.ipynb"),
                ],
                env={**os.environ, "TMPDIR": str(folder)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, folder in folders.items()
        ]
        ended = [(job.communicate()[1], job.returncode) for job in jobs]
        assert [code for _, code in ended] == [0, 0], ended
        told = {
            name: json.loads(printed(nbformat.read(f"{name}.ipynb", as_version=4)))
            for name in folders
        }
        assert [t[:2] for t in told.values()] == [[True, "ipc"]] * 2
        assert [t[3] for t in told.values()] == [[True] * 5] * 2
        places = {name: Path(t[2]).parent for name, t in told.items()}
        assert places["left"].parent == short and places["right"].parent == Path("/tmp")
        assert not any(place.exists() for place in places.values())
        assert list(long.iterdir()) == list(short.iterdir()) == []
    finally:
        short.rmdir()


def test_a_page_that_fails_leaves_no_socket_behind(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        with pytest.raises(reader.PageFailed):
            reader.read(text_of(notebook("1 / 0")), "failing")
        assert list(Path(short).iterdir()) == []


def test_a_folder_is_private_and_fits_every_socket() -> None:
    with kernels.settings() as found:
        file = Path(found["connection_file"])
        assert found["transport"] == "ipc" and file.is_absolute()
        assert file.parent.stat().st_mode & 0o077 == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.bind(str(file.with_suffix("")) + "-ipc-5")
    assert not file.parent.exists()


def test_without_unix_sockets_the_kernel_is_reached_over_tcp_and_the_reason_is_told(
    book: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as elsewhere, caplog.at_level(logging.WARNING):
        elsewhere.delattr(socket, "AF_UNIX")
        with kernels.settings() as found:
            assert found == {}
    assert "over TCP: no Unix socket" in caplog.text and "Python has none" in caplog.text

    def refuse(path: str) -> None:
        raise OSError(f"no socket at {Path(path).name}")

    monkeypatch.setattr(kernels, "_try", refuse)
    (book / "begun-right").touch()
    run = reader.read((book / "notebooks" / "left.ipynb").read_text(), "left")
    assert json.loads(printed(run))[1] == "tcp"
    assert "no socket at k-ipc-5" in caplog.text
