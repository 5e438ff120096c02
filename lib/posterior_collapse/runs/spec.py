"""What decides a run, and the digest of all of it."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

import posterior_collapse
from posterior_collapse import datasets, methods, recipes
from posterior_collapse.digests import without_docstrings
from posterior_collapse.errors import LARGEST_SEED, BadInput, nearest, whole
from posterior_collapse.methods import Method
from posterior_collapse.networks import Latent
from posterior_collapse.recipes import Setup

# Sources whose change changes a trained model or its stored measurements. The tables of methods
# and recipes are not among them: what they resolve to is part of the key itself. Data sets are
# represented by the digest of their content, which leaves out the labelled subsets of probes.
# tests/test_runs.py follows the imports of a run and holds this list complete.
_DECIDING = (
    "gaussian.py",
    "text",
    "layers.py",
    "precision.py",
    "posteriors",
    "priors.py",
    "objectives.py",
    "networks",
    "training",
    "estimators",
    "probes.py",
    "datasets/arrays.py",
    "datasets/labelled.py",
    "datasets/partitions.py",
    "datasets/text.py",
    "runs/batches.py",
    "runs/bounds.py",
    "runs/measure.py",
    "runs/models.py",
    "runs/monitor.py",
    "runs/text.py",
    "runs/work.py",
)


@dataclass(frozen=True)
class Spec:
    """A run by name: a method on a recipe, at a scale, with a seed.

    Raises:
        BadInput: an unknown recipe, method, parameter or scale, with the nearest one; a method
            of which the recipe's measures cannot be taken; a seed that is no whole number from 0
            to :data:`posterior_collapse.errors.LARGEST_SEED`.
    """

    recipe: str
    method: str
    scale: str = "quick"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.method, str):  # a blank at an end would be another folder of the same
            object.__setattr__(self, "method", self.method.strip())
        why = _unfit(self.setup, self.choices)
        if why:
            raise BadInput(
                f'"{self.method}" cannot run on {self.recipe}, which records the posteriors of a '
                f"scalar latent variable: {why}; allowed: a method whose posterior has a mean and "
                'a variance and whose prior has one dimension, such as "vae"'
            )
        object.__setattr__(self, "seed", whole("a seed", self.seed, 0, LARGEST_SEED))

    @property
    def setup(self) -> Setup:
        """The constants that recipe and scale stand for."""
        return recipes.get(self.recipe, self.scale)

    @property
    def choices(self) -> Method:
        """The four choices that the method stands for."""
        return methods.get(self.method)

    def key(self) -> str:
        """Hex digest of everything that decides the run."""
        parts = {
            "setup": repr(self.setup),
            "method": repr(self.choices),
            "seed": self.seed,
            "data": load_data(self.setup).digest,
            "sources": sources_digest(),
            "own": methods.own_digests(self.method),
            "torch": torch.__version__.split("+")[0],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def label(self) -> str:
        """Readable name, fit for a folder."""
        method = "".join(c if c.isalnum() or c in "-." else "_" for c in self.method)
        return f"{self.recipe}--{method}--{self.scale}--seed{self.seed}"


def _unfit(setup: Setup, method: Method) -> str:
    """Why the posterior mean space of a method cannot be recorded, where a recipe does so.

    Head and prior are built and tried, as a reader's own say of themselves what they give.
    """
    if not setup.grid_points and not setup.trajectory_points:
        return ""
    if method.latent is Latent.NONE:
        return "it has no latent variable"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            method.prior.build(setup.latent_dim)
            head = method.posterior.build(setup.network.features, setup.latent_dim)
            q = head.eval()(torch.zeros(2, setup.network.features))
        except BadInput as error:
            return str(error)
    for name in ("mean", "variance"):
        try:
            getattr(q, name)
        except (AttributeError, NotImplementedError):
            return f"its posterior, {type(q).__name__}, has no {name}"
    return ""


@functools.lru_cache(maxsize=8)
def _data(
    name: str, sizes: datasets.Sizes, length: int | None, vocabulary: int | None
) -> datasets.TextDataset | datasets.ImageDataset:
    return datasets.load(name, sizes, max_length=length, max_vocabulary=vocabulary)


def load_data(setup: Setup) -> datasets.TextDataset | datasets.ImageDataset:
    """The data of a set-up; read once a process."""
    sizes = datasets.Sizes(setup.train, setup.valid, setup.test)
    return _data(setup.dataset, sizes, setup.max_length, setup.max_vocabulary)


@functools.lru_cache(maxsize=1)
def sources_digest() -> str:
    """Hex digest of the sources that decide a trained model and its measurements."""
    root = Path(posterior_collapse.__file__).parent
    digest = hashlib.sha256()
    for name in _DECIDING:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(without_docstrings(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        BadInput: an unknown name, or a device that this machine lacks.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if name not in present:
        raise BadInput(nearest(name, ["auto", *present], "device"))
    if not present[name]:
        raise BadInput(f'the device "{name}" is not available on this machine; "auto" always is')
    return torch.device(name)
