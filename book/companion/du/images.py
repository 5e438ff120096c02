"""What the page on DU-VAE and images asks: table 1 and figure 2 for images, and table 3.

The bounds in the rules are this project's reading of the paper's words.
"""

from __future__ import annotations

from companion.claims.groups import (
    ANNEAL,
    AUTOENCODER,
    DELTA,
    FLOW,
    FREE_BITS,
    HIGH_BETA,
    LANGUAGE_MODEL,
    LOW_BETA,
    PIXEL_ANNEALED_AGGRESSIVE,
    PIXEL_BATCH_NORM,
    PIXEL_DU,
    PIXEL_DU_FLOW,
    PIXEL_FLOW_BATCH_NORM,
    PIXEL_MAE,
    SEMI_AMORTISED,
    VAE,
    sweep,
)
from companion.claims.intervals import difference
from companion.claims.pixels import COUNTS, called, rule
from companion.claims.rules import Checks
from companion.du.text import check_map

# What this build trains: the premise, and the rows of both tables.
BUILD = (
    LANGUAGE_MODEL,
    AUTOENCODER,
    VAE,
    LOW_BETA,
    ANNEAL,
    HIGH_BETA,
    PIXEL_ANNEALED_AGGRESSIVE,
    FREE_BITS,
    DELTA,
    PIXEL_BATCH_NORM,
    PIXEL_MAE,
    PIXEL_DU,
    FLOW,
    PIXEL_FLOW_BATCH_NORM,
    PIXEL_DU_FLOW,
)
SWEPT = sweep("pixel-gamma-p")  # of figure 2
_PLAIN = (ANNEAL, PIXEL_ANNEALED_AGGRESSIVE, FREE_BITS, DELTA, PIXEL_BATCH_NORM, PIXEL_MAE)
_FLOWS = (FLOW, PIXEL_FLOW_BATCH_NORM)


@rule("du-tab1")
def decide_families(rules: Checks) -> None:
    """du-tab1 on images: DU-VAE and DU-IAF have the best NLL of their families."""
    for other in (*_PLAIN, HIGH_BETA):
        rules.beats(PIXEL_DU, other)
    rules.beats(PIXEL_DU, SEMI_AMORTISED, where_run=True)
    for other in _FLOWS:
        rules.beats(PIXEL_DU_FLOW, other)


@rule("du-tab3")
def decide_accuracies(rules: Checks) -> None:
    """du-tab3: DU-VAE and DU-IAF have the best accuracy of their families, however few labels.

    A difference is that of the means over alphabets, paired by alphabet and seed.
    """
    for count in COUNTS:
        metric = f"few_labels_{count}"
        for first, others in ((PIXEL_DU, (AUTOENCODER, *_PLAIN)), (PIXEL_DU_FLOW, _FLOWS)):
            for other in others:
                rules.above(
                    f"accuracy with {count} labels, {called(first)} less {called(other)}",
                    difference(first, other, metric),
                    0.0,
                )


@rule("du-fig2")
def decide_map(rules: Checks) -> None:
    """du-fig2 on images: p = 0.9, named for OMNIGLOT, has the best NLL over gamma."""
    check_map(rules, SWEPT, 0.9)
