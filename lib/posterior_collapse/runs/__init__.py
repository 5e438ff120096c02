"""Runs: a method on a recipe with a seed, trained once and kept."""

from posterior_collapse.runs.measure import evaluate_run
from posterior_collapse.runs.models import build_model, trained_model
from posterior_collapse.runs.spec import Spec, choose_device, load_data
from posterior_collapse.runs.store import (
    DamagedRun,
    Run,
    find_run,
    is_complete,
    load_run,
    run_folder,
    store_root,
)
from posterior_collapse.runs.work import measure_again, train_or_load

__all__ = [
    "DamagedRun",
    "Run",
    "Spec",
    "build_model",
    "choose_device",
    "evaluate_run",
    "find_run",
    "is_complete",
    "load_data",
    "load_run",
    "measure_again",
    "run_folder",
    "store_root",
    "train_or_load",
    "trained_model",
]
