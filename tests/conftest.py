"""What every test shares: a store of its own, one thread, and steady hypothesis examples."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# A suite that a shell starts in the background inherits ignored signals, which tests send.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(
            _signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL
        )

# Before anything imports torch, and for every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
_STORE = tempfile.mkdtemp(prefix="posterior-collapse-store-")
atexit.register(shutil.rmtree, _STORE, ignore_errors=True)  # xdist's first process too
os.environ["POSTERIOR_COLLAPSE_STORE"] = _STORE
for _name in ("POSTERIOR_COLLAPSE_SCALE", "POSTERIOR_COLLAPSE_SEEDS"):
    os.environ.pop(_name, None)

from hypothesis import settings  # noqa: E402

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def axe(root: Path) -> str:
    """The source of axe-core, which npm fetches; what tests use alone is not in the site."""
    from companion.build import assets

    try:
        return assets.fetch_axe(root).read_text(encoding="utf-8")
    except assets.BadAsset as error:
        pytest.skip(f"axe-core can't be had: {error}")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store for one test."""
    folder = tmp_path / "store"
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(folder))
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that two workers end at about the same time."""
    long = ("test_site.py", "test_batch.py")
    items.sort(key=lambda item: item.path.name not in long)
