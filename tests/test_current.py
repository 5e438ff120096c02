"""A site that is up to date is not built again, and one that is not always is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from companion.build import current


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small book with a built site and a stored page, in the working folder."""
    for name in (
        "_config.yml",
        "book/page.md",
        "_build/html/page.html",
        "_build/html/_static/a.css",
    ):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(name)
    (tmp_path / "store" / "pages").mkdir(parents=True)
    (tmp_path / "store" / "pages" / "key.sha256").write_text("digest")
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def test_a_site_is_current_only_after_it_was_built(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert current.main([]) == 1
    assert current.main(["--note"]) == 0
    assert current.main([]) == 0
    assert capsys.readouterr().out == "[book] the site is up to date\n"
    assert current.main([]) == 0


CHANGES: dict[str, Callable[[Path], object]] = {
    "a source": lambda book: (book / "book/page.md").write_text("other"),
    "a new source": lambda book: (book / "book/more.md").write_text(""),
    "a source's name": lambda book: (book / "book/page.md").rename(book / "book/other.md"),
    "an executed page": lambda book: (book / "../store/pages/key.sha256").write_text("new"),
    "a new page": lambda book: (book / "../store/pages/two.sha256").write_text("digest"),
    "a file of the site": lambda book: (book / "_build/html/page.html").unlink(),
    "the site": lambda book: (book / "_build").rename(book / "_batch"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_asks_for_a_build(book: Path, change: str) -> None:
    current.main(["--note"])
    CHANGES[change](book)
    assert current.main([]) == 1


def test_another_scale_asks_for_a_build(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current.main(["--note"])
    monkeypatch.setenv("POSTERIOR_COLLAPSE_SCALE", "smoke")
    assert current.main([]) == 1


def test_a_build_that_was_broken_off_is_begun_again(book: Path) -> None:
    current.main(["--note"])
    before = (book / "book/page.md").read_text()
    (book / "book/page.md").write_text("broken")
    assert current.main([]) == 1
    (book / "book/page.md").write_text(before)
    assert current.main([]) == 1
