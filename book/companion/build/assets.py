"""Scripts that the site serves itself, so that it works offline and asks nobody for anything.

MathJax comes from npm, in a pinned version checked against the digest below.  Without Node, or
without a network, the book is still built: formulas become MathML, which browsers draw themselves.
``missing_notice`` says so.  What only tests use, axe-core, comes the same way and is not served.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from posterior_collapse.errors import PosteriorCollapseError

_SECONDS = 60  # for one package of a few megabytes
_OFFLINE = re.compile("E(AI_AGAIN|NOTFOUND|(NET|HOST)UNREACH|TIMEDOUT|CONN(REFUSED|RESET))")


class BadAsset(PosteriorCollapseError):
    """A package from npm that could not be had, or is not the one that was recorded."""


@dataclass(frozen=True)
class Package:
    """A pinned npm package and the files that the site takes from it.

    Attributes:
        name: npm name.
        version: exact version.
        integrity: npm's digest of the archive, ``sha512-`` and base64.
        files: name inside the archive -> name in the vendor folder.
    """

    name: str
    version: str
    integrity: str
    files: dict[str, str]


_MATHJAX = "package/es5"
# The parts of MathJax that formulas need, as its loader names them: without its menu, which no page
# uses, and with the MathML that screen readers read.
MATHJAX_PARTS = ("core", "input/tex", "output/svg", "a11y/assistive-mml")
PACKAGES = (
    Package(
        name="mathjax",
        version="3.2.2",
        integrity=(
            "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsj"
            "KPZGJvtRZM1vO+geW0OhGw=="
        ),
        files={
            **{
                f"{_MATHJAX}/{part}.js": f"mathjax/{part}.js"
                for part in ("startup", *MATHJAX_PARTS, "output/svg/fonts/tex")
            },
            "package/LICENSE": "mathjax/LICENSE.txt",
        },
    ),
)
AXE = Package(
    name="axe-core",
    version="4.14.1",
    integrity=(
        "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37Og"
        "udVGtQ=="
    ),
    files={"package/axe.min.js": "axe.min.js", "package/LICENSE": "axe.LICENSE.txt"},
)


def vendor_folder(root: Path) -> Path:
    """Where the scripts lie; git ignores it."""
    return root / "book" / "static" / "vendor"


def testing_folder(root: Path) -> Path:
    """Where the scripts lie that only tests use; git ignores it, and the site does not hold it."""
    return root / "_build" / "testing"


def present(root: Path) -> bool:
    """Whether every file that the site serves is there, from the recorded versions."""
    return _is_there(vendor_folder(root), PACKAGES)


def _is_there(folder: Path, packages: Sequence[Package]) -> bool:
    stamp = folder / "versions.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _versions(packages):
        return False
    return all((folder / file).is_file() for package in packages for file in package.files.values())


def _versions(packages: Sequence[Package]) -> str:
    return "".join(f"{item.name} {item.version} {item.integrity}\n" for item in packages)


def missing_notice() -> str:
    """What a site without the vendored scripts lacks, for the console and for its banner."""
    return (
        "This copy of the book was built without Node, so formulas are drawn by the browser itself."
    )


def _check(archive: bytes, package: Package) -> None:
    """Compare an archive with its recorded digest.

    Raises:
        BadAsset: if they differ.
    """
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != package.integrity:
        raise BadAsset(
            f"{package.name} {package.version} from npm has the digest {digest}, "
            f"but {package.integrity} was recorded: it is not used"
        )


def unpack(archive: Path, package: Package, folder: Path) -> None:
    """Take the wanted files from a checked archive.

    Each is read by its exact name and written under the name recorded here, so that no path in
    the archive decides where anything lands.

    Raises:
        BadAsset: if the digest differs or a file is not there.
    """
    _check(archive.read_bytes(), package)
    with tarfile.open(archive, "r:gz") as tar:
        for inside, name in package.files.items():
            try:
                file = tar.extractfile(inside)
            except KeyError:
                file = None
            if file is None:
                raise BadAsset(f"{package.name} {package.version} holds no file {inside}")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file.read())


def _pack(package: Package, folder: Path) -> Path:
    """Have npm fetch one archive, running none of its scripts.

    Raises:
        BadAsset: if npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BadAsset("npm is not installed")
    command = [npm, "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=0"]
    command += [f"--fetch-timeout={_SECONDS * 1000}", f"{package.name}@{package.version}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadAsset(f"npm took more than {_SECONDS} s for {package.name}") from error
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        said = [line for line in done.stderr.splitlines() if "complete log" not in line]
        reason = "no network" if _OFFLINE.search(done.stderr) else (said or ["no reason"])[-1]
        raise BadAsset(f"npm could not fetch {package.name} {package.version}: {reason}")
    return archives[0]


def fetch(root: Path) -> None:
    """Put the scripts in place unless they are there, all of them or none.

    Raises:
        BadAsset: if npm is missing or fails, or an archive is not the recorded one.
    """
    _fetch(PACKAGES, vendor_folder(root))


def fetch_axe(root: Path) -> Path:
    """Put axe-core in place for tests, and return its script.

    Raises:
        BadAsset: as for :func:`fetch`.
    """
    _fetch((AXE,), testing_folder(root))
    return testing_folder(root) / "axe.min.js"


def _fetch(packages: Sequence[Package], folder: Path) -> None:
    if _is_there(folder, packages):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vendor-", dir=folder.parent) as name:
        ready = Path(name) / "vendor"
        ready.mkdir()
        for number, package in enumerate(packages):
            place = Path(name) / str(number)
            place.mkdir()
            unpack(_pack(package, place), package, ready)
        (ready / "versions.txt").write_text(_versions(packages), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(ready, folder)


# One icon in the theme's script: its name, width, height, other names, code and outlines.
_ICON = re.compile(
    r'(?:"([a-z0-9-]+)"|([a-z0-9]+)):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]*",(?:"[^"]*"|\[[^\]]*\])\],?'
)


def used_icons(script: str, pages: Iterable[str]) -> str:
    """The theme's Font Awesome script with the icons alone that some pages name.

    Args:
        script: 2,000 icons, 1.5 MB, which every page would load.
        pages: HTML and scripts in which an icon is named ``fa-`` and its name.
    """
    used = {name for page in pages for name in re.findall(r"fa-([a-z0-9-]+)", page)}

    def keep(match: re.Match[str]) -> str:
        names = {match[1] or match[2], *re.findall(r'"([^"]+)"', match[3])}
        return match[0] if names & used else ""

    return _ICON.sub(keep, script)


_RULE = re.compile(r"((?:\.fa-[a-z0-9-]+:before,?)+)\{content:\"[^\"]*\"\}")


def used_rules(sheet: str, pages: Iterable[str]) -> str:
    """The theme's style sheet without the rules of icons that no page names, a quarter of it.

    Args:
        sheet: what the theme brings.
        pages: as for :func:`used_icons`.
    """
    used = {name for page in pages for name in re.findall(r"fa-([a-z0-9-]+)", page)}

    def keep(found: re.Match[str]) -> str:
        return found[0] if used & set(re.findall(r"fa-([a-z0-9-]+):", found[1])) else ""

    return _RULE.sub(keep, sheet)


# Commands that ask for an alphabet -> the parts of MathJax's font that hold it, and its letters
# among the others, as first and last code point.
_ALPHABETS = {
    "mathfrak|frak": ("fraktur(?:Bold)?", ((0x1D504, 0x1D537), (0x1D56C, 0x1D59F))),
    "mathscr|scr": ("script(?:Bold)?", ((0x1D49C, 0x1D503),)),
    "mathsf|textsf|sf": ("sansSerif(?:Bold|Italic|BoldItalic)?", ((0x1D5A0, 0x1D66F),)),
    "mathtt|texttt|tt": ("monospace", ((0x1D670, 0x1D6A3),)),
    "oldstyle": ("texOldstyle(?:Bold)?", ()),
}


def used_alphabets(font: str, pages: Iterable[str]) -> str:
    """MathJax's font without the outlines of alphabets that no formula asks for, a third of it.

    A letter without an outline would be drawn by the browser in a font of its own.

    Args:
        font: the script of the font, 1.1 MB.
        pages: HTML with formulas in TeX.
    """
    used = {name for page in pages for name in re.findall(r"\\([A-Za-z]+)", page)}
    unused = [own for names, own in _ALPHABETS.items() if used.isdisjoint(names.split("|"))]
    letters = {str(code) for _, spans in unused for a, b in spans for code in range(a, b + 1)}
    for parts, _ in unused:
        font = re.sub(rf"(\(\w\.{parts},)\{{\d[^}}]*\}}", r"\1{}", font)
    return re.sub(r'(\d+):"[^"]*",?', lambda one: "" if one[1] in letters else one[0], font)


def main() -> int:
    """Fetch the scripts and say what is lost if that fails; a book can be built either way."""
    from companion.build.sources import find_root

    root = find_root()
    if present(root):
        return 0
    print(f"[assets] fetching MathJax from npm, for at most {_SECONDS} s each", flush=True)
    try:
        fetch(root)
    except (BadAsset, OSError) as error:
        print(f"[assets] {error}", file=sys.stderr)
        print(f"[assets] going on without them. {missing_notice()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
