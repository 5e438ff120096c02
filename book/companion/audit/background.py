"""What the tables do not say themselves: numbers of runs, of points, and the like."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import yaml

from companion.claims import printed as papers


@dataclass(frozen=True)
class Facts:
    """What the rules need and the tables do not print; see ``data/papers/claims.yml``.

    Attributes:
        dimensions: data set -> latent dimensions; ``default`` for the others.
        points: paper -> data set -> points that its estimate of MI aggregates.
        runs: table -> training runs behind each mean.
        evaluations: table -> evaluations behind each mean.
        methods: table -> method and key of its caption, where no column names them.
        sources: paper -> the earlier papers that it takes rows from.
        keep: least and greatest probability of keeping a variance that DU-VAE varies.
    """

    dimensions: Mapping[str, int]
    points: Mapping[str, Mapping[str, int]]
    runs: Mapping[str, int]
    evaluations: Mapping[str, int]
    methods: Mapping[str, tuple[str, str]]
    sources: Mapping[str, tuple[str, ...]]
    keep: tuple[Fraction, Fraction]


@functools.lru_cache(maxsize=1)
def file_of_claims() -> dict[str, Any]:
    """``data/papers/claims.yml``, read once."""
    path = papers.repository() / "data" / "papers" / "claims.yml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1)
def facts() -> Facts:
    """The facts of ``data/papers/claims.yml``."""
    given = file_of_claims()["facts"]
    low, high = (Fraction(str(bound)) for bound in given["keep"])
    return Facts(
        dimensions=given["dimensions"],
        points=given["points"],
        runs=given["runs"],
        evaluations=given["evaluations"],
        methods={table: (one["method"], one["key"]) for table, one in given["methods"].items()},
        sources={paper: tuple(names) for paper, names in given["sources"].items()},
        keep=(low, high),
    )
