"""Slot 4 of a method: how parameters are updated; and the one loop that serves every method."""

from posterior_collapse.training.loop import Monitor, Optimisation, Validation, new_state, train
from posterior_collapse.training.semi_amortised import SemiAmortised
from posterior_collapse.training.state import DamagedCheckpoint, State, load_state, save_state
from posterior_collapse.training.steps import Aggressive, Joint, Training, TrainingDiverged, Update

__all__ = [
    "Aggressive",
    "DamagedCheckpoint",
    "Joint",
    "Monitor",
    "Optimisation",
    "SemiAmortised",
    "State",
    "Training",
    "TrainingDiverged",
    "Update",
    "Validation",
    "load_state",
    "new_state",
    "save_state",
    "train",
]
