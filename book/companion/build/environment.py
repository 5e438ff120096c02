"""Create or refresh the virtual environment ``.venv`` at the root of the repository.

Runs on a bare Python before anything is installed, so it imports the standard library only::

    python3 -I book/companion/build/environment.py

A stamp inside ``.venv`` holds the digests of what was installed. Nothing is done while the stamp
agrees with the files; a changed lock or another Python makes a new environment, a changed
``pyproject.toml`` installs only the package again.

``.venv`` is a link to ``.venv-1`` or ``.venv-2``. A new environment is made in the other one, and
the link is turned when it is complete: until then the old one works. An environment elsewhere that
a reader lets ``.venv`` point to is never changed nor removed.

pip fetches uv, which installs the lock in a tenth of pip's time; where it fails pip installs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no two installations at once are guarded against there
    fcntl = None  # type: ignore[assignment]

OLDEST_PYTHON = (3, 11)
_STAMP = "posterior-collapse-stamp.json"
_UNREACHABLE = re.compile("(?s)connection broken.*No matching distribution|Max retries exceeded")
# Where uv reads what pip is configured with, and what it puts between several values.
_UV_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
}


def torch_requirement(requirements: str) -> str:
    """The line of ``requirements.in`` that pins torch, such as ``torch==2.13.0``.

    Raises:
        ValueError: if no line pins torch.
    """
    match = re.search(r"^torch==[^\s#]+", requirements, re.MULTILINE)
    if match is None:
        raise ValueError("requirements.in pins no torch: expected a line such as torch==2.13.0")
    return match.group()


def state_of(root: Path) -> dict[str, str]:
    """What an environment made from the files in ``root`` by this Python would hold."""

    def digest(name: str) -> str:
        return hashlib.sha256((root / name).read_bytes()).hexdigest()

    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "root": str(root),
        "lock": digest("requirements.lock"),
        "torch": torch_requirement((root / "requirements.in").read_text(encoding="utf-8")),
        "pyproject": digest("pyproject.toml"),
    }


def work_needed(stamp: Path, wanted: dict[str, str]) -> tuple[str, str]:
    """Compare a stamp with the wanted state.

    Returns:
        ``(work, reason)`` with work ``"none"``, ``"package"`` or ``"everything"``.
    """
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "everything", "there is no complete .venv yet"
    except ValueError:
        return "everything", "the stamp of .venv cannot be read"
    if not isinstance(record, dict):
        return "everything", "the stamp of .venv cannot be read"
    changed = [name for name in wanted if record.get(name) != wanted[name]]
    if not changed:
        return "none", "nothing changed"
    what = " and ".join(changed)
    if changed == ["pyproject"]:
        return "package", f"{what} changed"
    return "everything", f"{what} changed"


def _pip(venv: Path, *arguments: str) -> None:
    """Run the environment's pip, which is heard only when it fails.

    Raises:
        SystemExit: it failed, in one line where nothing could be fetched.
    """
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", "20", *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return
    if _UNREACHABLE.search(done.stderr):
        raise SystemExit("no network: packages are fetched once, so call this again with one")
    raise SystemExit(f"{done.stderr}the installation stopped: {' '.join(command)}")


def uv_settings(configuration: str) -> dict[str, str]:
    """Environment of uv that finds packages where pip does.

    Args:
        configuration: what ``pip config list`` prints, such as ``global.index-url='https://...'``.
    """
    # Like pip, uv then takes the best version of all indexes and not of the first that has one.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for source in ("global.", "install.", ":env:."):  # the weakest first
        for line in configuration.splitlines():
            name, _, value = line.removeprefix(source).partition("=")
            if line.startswith(source) and name in _UV_SETTINGS:
                variable, between = _UV_SETTINGS[name]
                variables[variable] = between.join(value.strip("'").replace("\\n", " ").split())
    return variables


def _install(venv: Path, *arguments: str) -> None:
    """Install with uv, which is there after its own bootstrap, or with pip where uv fails."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True).stdout
    uv = [str(venv / "bin" / "uv"), "pip", "install", "-q", "--python", pip[0], *arguments]
    try:
        done = subprocess.run(uv, capture_output=True, env={**uv_settings(listed), **os.environ})
    except OSError:
        done = None
    if done is None or done.returncode != 0:
        _pip(venv, "install", "-q", *arguments)


def _bootstrap(root: Path, venv: Path) -> None:
    """Let pip install uv alone, checked by its hash in the lock, if the lock has it."""
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    entry = re.search(r"^uv==(?:[^\n]*\\\n)*[^\n]*\n", lock, re.MULTILINE)
    if entry is not None:
        alone = venv / "uv.lock"
        alone.write_text(entry.group(), encoding="utf-8")
        _pip(venv, "install", "-q", "--no-deps", "--require-hashes", "-r", str(alone))


def _create(root: Path, venv: Path) -> None:
    """Make an empty environment in place of whatever is there."""
    if venv.exists():
        shutil.rmtree(venv)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], cwd=root)
    if made.returncode != 0:
        raise SystemExit(
            "could not create .venv: this Python lacks the venv or ensurepip module "
            "(on Debian and Ubuntu: apt-get install python3-venv)"
        )


def _turn(link: Path, venv: Path) -> None:
    """Let ``.venv`` be a new environment, and remove the one of ours that it was."""
    old = link.resolve()
    if link.is_dir() and not link.is_symlink():  # of an earlier version
        old = link.with_name(".venv-0")
        os.replace(link, old)
    part = link.with_name(".venv-link")
    part.unlink(missing_ok=True)
    part.symlink_to(venv.name)
    os.replace(part, link)
    if old != venv.resolve() and old.parent == link.parent.resolve():
        shutil.rmtree(old, ignore_errors=True)


def _find_companion(root: Path, venv: Path) -> None:
    """Let the environment import ``companion``, which belongs to this book and is not installed."""
    for packages in venv.glob("lib/python*/site-packages"):
        (packages / "companion.pth").write_text(f"{root / 'book'}\n", encoding="utf-8")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold a lock, so that ``make book`` and ``make test`` at once install only once."""
    with (root / ".venv.lock").open("w") as handle:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure(root: Path) -> str:
    """Bring ``root/.venv`` to the state that the files ask for and say what is done.

    Returns:
        The work that was done: ``"none"``, ``"package"`` or ``"everything"``.

    Raises:
        SystemExit: pip fails; a new environment is then left where nobody uses it.
    """
    link = root / ".venv"
    wanted = state_of(root)
    with _alone(root):
        work, reason = work_needed(link / _STAMP, wanted)
        if work == "none":
            return work
        start = time.monotonic()
        venv = link
        if work == "everything":
            print(f"[environment] creating .venv ({reason}); this takes a few minutes", flush=True)
            venv = root / (".venv-2" if link.resolve().name == ".venv-1" else ".venv-1")
            _create(root, venv)
            print("[environment] installing requirements.lock, checked by hash", flush=True)
            _bootstrap(root, venv)
            _install(venv, "--no-deps", "--require-hashes", "-r", "requirements.lock")
            print(f"[environment] installing {wanted['torch']}", flush=True)
            _install(venv, wanted["torch"])
        print("[environment] installing this package, editable", flush=True)
        _pip(venv, "install", "-q", "--no-deps", "--no-build-isolation", "-e", ".")
        _find_companion(root, venv)
        (venv / _STAMP).write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        if venv != link:
            _turn(link, venv)
        print(f"[environment] .venv is ready after {time.monotonic() - start:.0f} s", flush=True)
    return work


def main() -> None:
    """Refuse an old Python, then make the environment."""
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(str(part) for part in OLDEST_PYTHON)
        raise SystemExit(
            f"Python {version} or later is needed, but {sys.executable} is "
            f"{sys.version.split()[0]}; name another one: make PYTHON=python{version}"
        )
    root = Path(__file__).resolve().parents[3]
    os.chdir(root)
    try:
        ensure(root)
    except OSError as error:
        raise SystemExit(f"no .venv can be made here, copy the book elsewhere: {error}") from error


if __name__ == "__main__":
    main()
