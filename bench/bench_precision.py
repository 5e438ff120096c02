"""Whether training with bfloat16 products gives the models that float32 gives.

The same seeds are trained in both precisions on Short Yelp, briefly: a plain VAE, which collapses,
and a beta-VAE, whose code is in use.  Evaluation is in float32 for both.
A measure agrees if the mean of its paired differences is no larger than what another seed changes:
the distance of the largest from the smallest value of float32.

What was found is kept in ``data/results/precision/yelp-short.json``; ``--show`` prints that.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from common import table

from posterior_collapse import recipes
from posterior_collapse.networks import TextNetwork
from posterior_collapse.papers import repository
from posterior_collapse.precision import Precision
from posterior_collapse.recipes import Recipe, Setup
from posterior_collapse.runs import Spec, train_or_load
from posterior_collapse.training import Optimisation

METHODS, SEEDS, SCALE = ("vae", "beta-vae(beta=0.2)"), (0, 1, 2), "bench"
MEASURES = {
    "nll": "NLL",
    "kl": "KL",
    "mutual_information": "MI",
    "reconstruction": "reconstruction",
}


def setup(precision: Precision) -> Setup:
    """About half a minute of a core: enough for the beta-VAE to use its code."""
    return Setup(
        dataset="yelp-short",
        train=6400,
        valid=500,
        test=500,
        max_length=None,
        max_vocabulary=None,
        network=TextNetwork(48, 96, 0.5, (-0.1, 0.1), (-1.0, 1.0), precision=precision),
        latent_dim=16,
        batch_size=32,
        optimisation=Optimisation("adam", 2e-3, first_decay_epoch=8, max_epochs=8),
        nll_samples=100,
        nll_sentences=200,
        mi_samples=10,
    )


def enter(precision: Precision) -> str:
    """Make a recipe of it, for this process; returns its name."""
    name = f"precision-{precision.value}"
    made = Recipe(name, "both precisions", "none", {SCALE: setup(precision)})
    recipes._enter(name)(lambda: made)
    return name


def trained() -> dict[str, Any]:
    """Every run, from the store where it is there."""
    torch.set_num_threads(1)
    names = {precision: enter(precision) for precision in Precision}
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        for seed in SEEDS:
            for precision, name in names.items():
                run = train_or_load(Spec(name, method, SCALE, seed), "cpu", progress=False)
                told = run.provenance
                rows.append(
                    {
                        "method": method,
                        "seed": seed,
                        "precision": told["precision"],
                        "asked": precision.value,
                        "cpu_seconds": told["cpu_seconds"],
                        **{measure: run.metrics[measure] for measure in MEASURES},
                        "active_units": run.metrics["active_units"],
                        "updates": run.metrics["updates"],
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    where = {k: told[k] for k in ("hardware", "torch", "library", "sources", "finished")}
    return {"command": "python bench/bench_precision.py", "provenance": where, "runs": rows}


def compared(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each method's measures in both precisions, and whether they agree."""
    rows = []
    for method in METHODS:
        for measure in MEASURES:
            values = {
                precision: [
                    row[measure]
                    for row in sorted(found["runs"], key=lambda row: row["seed"])
                    if (row["method"], row["asked"]) == (method, precision.value)
                ]
                for precision in Precision
            }
            plain, mixed = values[Precision.FLOAT32], values[Precision.BFLOAT16]
            differences = [b - a for a, b in zip(plain, mixed, strict=True)]
            spread = max(plain) - min(plain)
            rows.append(
                {
                    "method": method,
                    "measure": measure,
                    "float32": plain,
                    "bfloat16": mixed,
                    "mean_difference": statistics.mean(differences),
                    "spread_of_seeds": spread,
                    "agrees": abs(statistics.mean(differences)) <= spread,
                }
            )
    return rows


def readable(found: dict[str, Any]) -> str:
    """The comparison as a table, and what the runs took."""
    rows = [
        [
            f"{row['method']}, {MEASURES[row['measure']]}",
            *(" ".join(f"{x:.3f}" for x in row[p.value]) for p in Precision),
            f"{row['mean_difference']:+.3f}",
            f"{row['spread_of_seeds']:.3f}",
            "yes" if row["agrees"] else "no",
        ]
        for row in compared(found)
    ]
    took = {
        p: statistics.median(r["cpu_seconds"] for r in found["runs"] if r["asked"] == p.value)
        for p in Precision
    }
    header = ["nats", *(f"{p.value}, by seed" for p in Precision), "difference", "seeds", "agrees"]
    seconds = ", ".join(f"{p.value} {s:.0f}" for p, s in took.items())
    told = found["provenance"]
    note = f"processor seconds a run, median: {seconds}; {told['hardware']}, torch {told['torch']}"
    return f"{table(header, rows)}\n{note}"


def kept() -> Path:
    """The file with what was found."""
    return repository() / "data" / "results" / "precision" / "yelp-short.json"


def main() -> None:
    """Train what is missing, keep and print it; or print what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print what is kept, train nothing")
    if not parser.parse_args().show:
        found = trained()
        found["comparison"] = compared(found)
        kept().parent.mkdir(parents=True, exist_ok=True)
        kept().write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(readable(json.loads(kept().read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
