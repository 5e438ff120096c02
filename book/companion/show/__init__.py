"""What pages show: figures, tables, sliders, verdicts and where numbers come from."""

from companion.numbers import number, spread
from companion.show.boxes import figure, kind, premise, provenance, table, verdict

__all__ = ["figure", "kind", "number", "premise", "provenance", "spread", "table", "verdict"]
