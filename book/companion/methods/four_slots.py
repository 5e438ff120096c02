"""The page on the four slots of a method: tables of all methods of the library."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from posterior_collapse import methods


def slots() -> pd.DataFrame:
    """The table of methods for readers: what each changes, its equation, cost and promise."""
    entries = {name: methods.describe(name) for name in methods.names()}
    return pd.DataFrame(
        {
            "method": entry.title,
            "name": name,
            "what it changes": entry.changes,
            "cost": entry.cost,
            "promise": entry.promise,
            "source": f"{entry.paper}, {entry.equation}",
        }
        for name, entry in entries.items()
    )


_SLOTS = ("posterior", "prior", "objective", "training", "latent")


def choices() -> pd.DataFrame:
    """Which slot each method fills, and with what; a dot where it is a plain VAE's."""
    plain = methods.Method()
    rows = []
    for name in methods.names():
        method = methods.get(name)
        row = {"method": methods.describe(name).title}
        for slot in _SLOTS:
            choice = getattr(method, slot)
            same = choice == getattr(plain, slot)
            row[slot] = "·" if same else str(getattr(choice, "value", type(choice).__name__))
        rows.append(row)
    return pd.DataFrame(rows)


def answer() -> str:
    """How many methods change how many of the slots."""
    rows = [[cell != "·" for cell in row[1:]] for row in choices().itertuples(index=False)]
    changed = [sum(row[:-1]) for row in rows]
    one, several, apart = changed.count(1), sum(n > 1 for n in changed), sum(r[-1] for r in rows)
    return (
        f"{one} of {len(rows)} methods change one of a plain VAE's four slots, {several} change "
        f"more, and none changes more than {max(changed)}. {apart} change only whether "
        "or where the decoder gets z."
    )


def formulas() -> Markdown:
    """The formula that each method optimises, as a definition list."""
    entries = [methods.describe(name) for name in methods.names()]
    lines = [f"- **{entry.title}**: ${entry.formula}$" for entry in entries if entry.formula]
    return Markdown("\n".join(lines))
