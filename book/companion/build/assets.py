"""Scripts that the site serves itself, so that it works offline and asks nobody for anything.

MathJax and the widget manager come from npm, in pinned versions checked against the digests below.
Without Node, or without a network, the book is still built: formulas become MathML, which
browsers draw themselves, and sliders become still frames. ``missing_notice`` says so.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posterior_collapse.errors import PosteriorCollapseError

_SECONDS = 60  # for one package of a few megabytes


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


PACKAGES = (
    Package(
        name="mathjax",
        version="3.2.2",
        integrity=(
            "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsj"
            "KPZGJvtRZM1vO+geW0OhGw=="
        ),
        files={
            "package/es5/tex-svg.js": "tex-svg.js",
            "package/LICENSE": "tex-svg.LICENSE.txt",
        },
    ),
    Package(
        name="@jupyter-widgets/html-manager",
        version="1.0.15",
        integrity=(
            "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvF"
            "i//SABeNz1yp47bCrJ3CQA=="
        ),
        files={
            "package/dist/embed.js": "embed.js",
            "package/dist/embed.js.LICENSE.txt": "embed.LICENSE.txt",
            # Font Awesome, drawn on the buttons of Play
            "package/dist/d878b0a6a1144760244f.woff2": "d878b0a6a1144760244f.woff2",
            "package/dist/1551f4f60c37af51121f.woff2": "1551f4f60c37af51121f.woff2",
            "package/dist/7a3337626410ca2f4071.woff2": "7a3337626410ca2f4071.woff2",
        },
    ),
)


def vendor_folder(root: Path) -> Path:
    """Where the scripts lie; git ignores it."""
    return root / "book" / "static" / "vendor"


def present(root: Path, packages: Sequence[Package] = PACKAGES) -> bool:
    """Whether every file is there, from the recorded versions."""
    folder = vendor_folder(root)
    stamp = folder / "versions.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _versions(packages):
        return False
    return all((folder / file).is_file() for package in packages for file in package.files.values())


def _versions(packages: Sequence[Package]) -> str:
    return "".join(f"{item.name} {item.version} {item.integrity}\n" for item in packages)


def missing_notice() -> str:
    """What a site without the vendored scripts lacks, for the console and for its banner."""
    return (
        "This copy of the book was built without Node. Formulas are drawn by the browser itself, "
        "and animated figures show still frames instead of a slider."
    )


def _check(archive: bytes, package: Package) -> None:
    """Compare an archive with its recorded digest.

    Raises:
        BadAsset: if they differ.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != package.integrity:
        raise BadAsset(
            f"{package.name} {package.version} from npm has the digest {found}, "
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
            (folder / name).write_bytes(file.read())


def _pack(package: Package, folder: Path) -> Path:
    """Have npm fetch one archive, running none of its scripts.

    Raises:
        BadAsset: if npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BadAsset("npm is not installed")
    command = [npm, "pack", "--silent", "--ignore-scripts", "--fetch-retries=0"]
    command += [f"--fetch-timeout={_SECONDS * 1000}", f"{package.name}@{package.version}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadAsset(f"npm took more than {_SECONDS} s for {package.name}") from error
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadAsset(f"npm could not fetch {package.name} {package.version}: {reason}")
    return archives[0]


def fetch(root: Path) -> None:
    """Put the scripts in place unless they are there, all of them or none.

    Raises:
        BadAsset: if npm is missing or fails, or an archive is not the recorded one.
    """
    if present(root):
        return
    folder = vendor_folder(root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vendor-", dir=folder.parent) as name:
        ready = Path(name) / "vendor"
        ready.mkdir()
        for number, package in enumerate(PACKAGES):
            place = Path(name) / str(number)
            place.mkdir()
            unpack(_pack(package, place), package, ready)
        (ready / "versions.txt").write_text(_versions(PACKAGES), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(ready, folder)


def main() -> int:
    """Fetch the scripts and say what is lost if that fails; a book can be built either way."""
    from companion.build.sources import find_root

    root = find_root()
    if present(root):
        return 0
    what = f"MathJax and the widget manager from npm, for at most {_SECONDS} s each"
    print(f"[assets] fetching {what}", flush=True)
    try:
        fetch(root)
    except (BadAsset, OSError) as error:
        print(f"[assets] {error}", file=sys.stderr)
        print(f"[assets] going on without them. {missing_notice()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
