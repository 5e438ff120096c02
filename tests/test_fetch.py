"""Downloads are the recorded files or are not used, and go on where they were cut."""

from __future__ import annotations

import gzip
import http.server
import lzma
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from companion.build import fetch
from posterior_collapse import datasets
from posterior_collapse.datasets.registry import Card, Original

TEXT = b"".join(b"%d one sentence\n" % number for number in range(20_000))
IMAGES = gzip.compress(bytes(10_000))


class Server(http.server.ThreadingHTTPServer):
    """Serves contents by name; what is asked for is noted, and may be cut or served whole."""

    contents: dict[str, bytes]
    asked: list[tuple[str, str | None]]  # path and range of every request
    cut: int | None = None  # bytes of an answer that are sent
    ranges = True  # whether it knows of them


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.contents.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.contents, made.asked = {"/a.txt": TEXT, "/images.gz": IMAGES}, []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def original(server: Server, content: bytes, *names: str) -> Original:
    urls = tuple(f"http://127.0.0.1:{server.server_port}/{name}" for name in names)
    return Original(sha256(content).hexdigest(), urls)


@pytest.fixture
def card(server: Server) -> Card:
    """A data set of a text and of images that somebody gzipped otherwise."""
    packed = lzma.compress(TEXT, preset=9 | lzma.PRESET_EXTREME)
    return replace(
        datasets.card("snli"),
        files={"s/a.txt.xz": sha256(packed).hexdigest(), "s/images.gz": "0" * 64},
        originals={
            "s/a.txt.xz": original(server, TEXT, "a.txt"),
            "s/images.gz": original(server, IMAGES, "images.gz"),
        },
    )


def test_what_is_missing_is_fetched_once(card: Card, server: Server, tmp_path: Path) -> None:
    assert fetch.fetch(card, tmp_path) == ["s/a.txt.xz", "s/images.gz"]
    assert lzma.decompress((tmp_path / "s" / "a.txt.xz").read_bytes()) == TEXT
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a.txt.xz", "images.gz"]
    assert fetch.fetch(card, tmp_path) == [] and len(server.asked) == 2
    (tmp_path / "s" / "images.gz").write_bytes(b"damaged")
    assert fetch.fetch(card, tmp_path) == ["s/images.gz"]
    assert (tmp_path / "s" / "images.gz").read_bytes() == IMAGES


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_goes_on(
    card: Card, server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.cut, server.ranges = 200_000, ranges
    with pytest.raises(fetch.NotFetched, match="the connection broke.* The same command goes on"):
        fetch.fetch(card, tmp_path)
    assert not (tmp_path / "s" / "a.txt.xz").exists()
    server.cut = None
    assert fetch.fetch(card, tmp_path) == ["s/a.txt.xz", "s/images.gz"]
    (_, first), (_, second), _ = server.asked
    (kept,) = {first, second} - {None}
    assert first is None and 0 < int(kept.removeprefix("bytes=").rstrip("-")) <= 200_000
    assert lzma.decompress((tmp_path / "s" / "a.txt.xz").read_bytes()) == TEXT
    assert not list(tmp_path.rglob("*.cut"))


def test_a_download_that_ended_before_it_was_checked_is_checked(
    card: Card, server: Server, tmp_path: Path
) -> None:
    server.cut = len(TEXT) - 1
    with pytest.raises(fetch.NotFetched):
        fetch.fetch(card, tmp_path)
    (cut,) = tmp_path.rglob("*.cut")
    cut.write_bytes(TEXT)
    server.cut = None
    assert len(fetch.fetch(card, tmp_path)) == 2


def test_another_file_than_the_recorded_one_is_not_used(
    card: Card, server: Server, tmp_path: Path
) -> None:
    server.contents["/a.txt"] = TEXT.replace(b"77 one", b"77 two", 1)
    with pytest.raises(fetch.NotFetched, match="another file than the recorded one") as caught:
        fetch.fetch(card, tmp_path)
    assert card.originals["s/a.txt.xz"].sha256 in str(caught.value)
    assert not list((tmp_path / "s").iterdir())
    server.contents["/a.txt"] = TEXT
    assert len(fetch.fetch(card, tmp_path)) == 2


def test_without_an_answer_another_address_is_asked(
    card: Card, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"s/a.txt.xz": original(server, TEXT, "gone.txt", "a.txt")}
    fetch.fetch(replace(card, originals={**card.originals, **both}), tmp_path)
    assert "it answers 404 Not Found; asking elsewhere" in capsys.readouterr().out


def test_nobody_answers(card: Card, server: Server, tmp_path: Path) -> None:
    gone = Original("0" * 64, ("http://127.0.0.1:9/a.txt",))  # the port that discards
    with pytest.raises(fetch.NotFetched, match="no network, or nobody answers there") as caught:
        fetch.fetch(replace(card, originals={**card.originals, "s/a.txt.xz": gone}), tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnsit", 'did you mean "mnist"'),
        ("grammar", "needs no download: posterior_collapse.datasets.grammar"),
        ("ptb", "LDC99T42"),
        ("yelp-sentiment", "278ac0637fc20ab78a66e1ecb5895a5ae81707601b3220b124e88398b10d3371"),
    ],
)
def test_what_is_not_downloaded_is_explained(
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    assert fetch.main([name]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_folder_and_the_licence_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    assert fetch.main(["ptb"]) == 2 and datasets.DATA_VARIABLE in capsys.readouterr().err
    assert fetch.main([]) == 0
    listed = capsys.readouterr().out
    assert "mnist" in listed and "by hand" in listed and "grammar" not in listed
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    fetch.main(["ptb"])
    assert "[fetch] licence: the text is LDC99T42" in capsys.readouterr().out


def test_every_card_says_how_its_files_are_had() -> None:
    for name in datasets.names():
        card = datasets.card(name)
        assert bool(card.files) == bool(card.originals or card.terms)
        assert not (card.originals and card.terms)
        assert not card.originals or card.originals.keys() == card.files.keys()
        for one in card.originals.values():
            assert len(one.sha256) == 64 and one.urls
            assert all(url.startswith("https://") for url in one.urls)


@pytest.mark.parametrize("name", ["snli", "dbpedia", "mnist", "fashion-mnist"])
def test_the_recorded_originals_are_those_of_the_files_here(name: str) -> None:
    card, folder = datasets.card(name), datasets.registry.data_folder()
    if folder is None or not datasets.available(name):
        pytest.skip(f"no files of {name}: {datasets.DATA_VARIABLE}")
    for file, one in card.originals.items():
        content = (folder / file).read_bytes()
        if file.endswith(".xz"):
            raw = lzma.decompress(content)
            assert sha256(raw).hexdigest() == one.sha256
            if len(raw) < 500_000:  # the others take seconds
                assert lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME) == content
        elif "images" not in file:  # labels here are the publisher's own files
            assert one.sha256 == card.files[file]
