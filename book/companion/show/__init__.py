"""What pages show: figures, tables, sliders, verdicts and where numbers come from."""

from companion.numbers import number, spread
from companion.show.answers import answer, kind
from companion.show.boxes import figure, premise, provenance, table, verdict

__all__ = [
    "answer",
    "figure",
    "kind",
    "number",
    "premise",
    "provenance",
    "spread",
    "table",
    "verdict",
]
