"""Rules on several rows of a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

from companion.audit.rows import Number, Row, column_words, identity_of, kind_of, number
from companion.audit.rules import Case, dimensions_of, register
from companion.claims import printed as papers

LONG_NUMBER = 5  # significant digits of a number that is unlikely to recur by chance
_OUTLIER = Fraction(1, 100)  # share of the median NLL


def lines_of(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Printed lines: (table, what begins the line) -> rows."""
    known = papers.legend()["tables"]
    lines: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        begins = known.get(row.table, {}).get("line", ["method"])
        lines.setdefault((row.table, *(row.cells.get(name, "") for name in begins)), []).append(row)
    return lines


def head_of(line: Sequence[Row]) -> Row:
    """A line's first row without its setting, to stand for the line."""
    cells = line[0].cells
    return Row(line[0].table, {n: c for n, c in cells.items() if kind_of(n) != "setting"})


def _printed(line: Sequence[Row]) -> list[str]:
    return [one.text for row in line for one in row.quantities.values()]


@register("equal-lines")
def _equal_lines(rows: Sequence[Row]) -> Iterator[Case]:
    lines = lines_of(rows)
    for (a, ours), (b, theirs) in itertools.combinations(lines.items(), 2):
        words = _printed(ours)
        if a[0] != b[0] or sum(float(text) != 0 for text in words) < 3:
            continue
        same = words == _printed(theirs)
        printed = f"{ours[0].method} and {theirs[0].method}: {', '.join(words)}"
        yield Case(head_of(ours), printed, len(words) if same else 0)


def _streaks(rows: Sequence[Row], name: str) -> list[list[Row]]:
    """Unbroken runs of lines of one table that print the same number for two data sets.

    Args:
        rows: two rows a line, in the printed order: the data sets that are compared.
    """
    streaks: list[list[Row]] = [[]]
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        if one.cells[name] and one.cells[name] == other.cells[name]:
            streaks[-1].append(one)
        else:
            streaks.append([])
    return streaks


def _telling(row: Row, name: str) -> bool:
    """Whether a number is one that does not come up by itself: neither none nor all."""
    value = number(row.cells[name]).value
    return value != 0 and not (name == "au" and value == dimensions_of(row))


def _columns(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Quantities and, for two data sets of a table, their rows in pairs of a printed line."""
    tables: dict[str, dict[tuple[str, ...], dict[str, Row]]] = {}
    for begins, line in lines_of(rows).items():
        tables.setdefault(begins[0], {})[begins] = {row.dataset: row for row in line}
    for lines in tables.values():
        sets = dict.fromkeys(dataset for line in lines.values() for dataset in line)
        for a, b in itertools.combinations(sets, 2):
            both = [line[k] for line in lines.values() if a in line and b in line for k in (a, b)]
            names = dict.fromkeys(name for row in both for name in row.quantities)
            yield from ((name, both) for name in names)


@register("equal-columns")
def _equal_columns(rows: Sequence[Row]) -> Iterator[Case]:
    for name, both in _columns(rows):
        longest = max(
            ([row for row in run if _telling(row, name)] for run in _streaks(both, name)), key=len
        )
        words = ", ".join(f"{row.method} {row.cells[name]}" for row in longest)
        printed = f"{column_words(name)} on {both[0].dataset} and on {both[1].dataset}: {words}"
        yield Case(both[0], printed, len(longest) if len(longest) >= 3 else 0)


@register("labels-order")
def _labels_order(rows: Sequence[Row]) -> Iterator[Case]:
    for line in lines_of(rows).values():
        for name in ("labels", "labels_per_character"):
            given = [row for row in line if row.need(name, "accuracy")]
            for few, many in itertools.pairwise(given):
                (a, before), (b, after) = few.need(name, "accuracy"), many.need(name, "accuracy")
                words = f"{before.text} with {a.text} labels, {after.text} with {b.text}"
                excess = before.low - after.high if a.value < b.value else 0
                yield Case(few, words, excess)


@register("equal-numbers")
def _equal_numbers(rows: Sequence[Row]) -> Iterator[Case]:
    seen: dict[tuple[str, str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        for name, given in row.quantities.items():
            if given.digits >= LONG_NUMBER and not row.referred:
                seen.setdefault((row.paper, row.dataset, name), []).append((row, given))
    for (_, _, name), group in seen.items():
        for (a, one), (b, other) in itertools.combinations(group, 2):
            if identity_of(a) != identity_of(b):
                words = f"{a.says(name)}; {b.table}, {b.label}: {other.text}"
                yield Case(a, words, int(one.text == other.text))


@register("collapsed-nll")
def _collapsed_nll(rows: Sequence[Row]) -> Iterator[Case]:
    groups: dict[tuple[str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        numbers = row.need("kl", "mi", "nll")
        if numbers and numbers[0].value == numbers[1].value == 0:
            groups.setdefault((row.paper, row.dataset), []).append((row, numbers[2]))
    for members in groups.values():
        values = sorted(nll.value for _, nll in members)
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        for row, nll in members if len(members) > 2 else []:
            words = f"{row.says('nll')}; median of {len(members)}: {float(middle):.2f}"
            yield Case(row, words, abs(nll.value - middle) - _OUTLIER * middle)
