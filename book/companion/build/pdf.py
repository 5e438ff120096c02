"""``make pdf``: every page of the built site as a PDF file, printed by a headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from companion.build import sources
from posterior_collapse.errors import BadInput, PosteriorCollapseError, program

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 180  # for one page
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--no-pdf-header-footer"),
    "--virtual-time-budget=20000",  # milliseconds of the page's own clock, for its formulas
)


def find_chromium() -> str:
    """Path of a Chromium or Chrome.

    Raises:
        BadInput: there is none.
    """
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise BadInput(
        f"PDF files need Chromium or Chrome, and none of {', '.join(_NAMES)} is on the PATH "
        "(on Debian: apt-get install chromium)"
    )


def print_page(chromium: str, page: Path, target: Path) -> None:
    """Print one page of the site; what is folded away is opened first, by ``print.js``.

    Raises:
        PosteriorCollapseError: Chromium failed, or took too long.
    """
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        own = (f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.resolve().as_uri())
        try:
            done = subprocess.run(
                [chromium, *_FLAGS, *own], capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PosteriorCollapseError(f"{page} took more than {_SECONDS} s") from error
    if done.returncode != 0 or not target.is_file():
        reason = (done.stderr.decode(errors="replace").splitlines() or ["no reason given"])[-1]
        raise PosteriorCollapseError(f"Chromium could not print {page}: {reason}")


@program
def main() -> int:
    """Print the pages in the order of the table of contents, into ``_build/pdf``."""
    root = sources.find_root()
    chromium, site, out = find_chromium(), root / "_build" / "html", root / "_build" / "pdf"
    if not (site / "index.html").is_file():
        raise BadInput(f"there is no site under {site}; run make book first")
    out.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(sources.toc_pages(root)):
        short = name.removeprefix("notebooks/").removeprefix("book/").replace("/", "-")
        target = out / f"{place:02d}-{short}.pdf"
        print_page(chromium, site / f"{name}.html", target)
        print(f"[pdf] {target.relative_to(root)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
