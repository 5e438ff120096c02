"""Rules on several rows of a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

from companion.audit.rows import Number, Row, column_words, identity_of, kind_of, number
from companion.audit.rules import Case, Kind, dimensions_of, register
from companion.claims import printed as papers

LONG_NUMBER = 5  # significant digits of a number that is unlikely to recur by chance
_OUTLIER = Fraction(1, 100)  # share of the median NLL


def lines_of(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Printed lines: (table, what begins the line) -> rows."""
    known = papers.legend()["tables"]
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        begins = known.get(row.table, {}).get("line", ["method"])
        found.setdefault((row.table, *(row.cells.get(name, "") for name in begins)), []).append(row)
    return found


def head_of(line: Sequence[Row]) -> Row:
    """A line's first row without its setting, to stand for the line."""
    cells = line[0].cells
    return Row(line[0].table, {n: c for n, c in cells.items() if kind_of(n) != "setting"})


def _printed(line: Sequence[Row]) -> list[str]:
    return [one.text for row in line for one in row.quantities.values()]


@register(
    "equal-lines",
    "Two methods with the same line",
    "Two methods that are trained apart do not agree in every digit. Lines with fewer than three "
    "numbers above zero are left out.",
    "one line was copied over the other",
    "At most one of the two lines is a measurement, and nothing says which. Neither can be used.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed",
    unit="equal cells",
)
def _equal_lines(rows: Sequence[Row]) -> Iterator[Case]:
    lines = lines_of(rows)
    for (a, ours), (b, theirs) in itertools.combinations(lines.items(), 2):
        told = _printed(ours)
        if a[0] != b[0] or sum(float(text) != 0 for text in told) < 3:
            continue
        same = told == _printed(theirs)
        printed = f"{ours[0].method} and {theirs[0].method}: {', '.join(told)}"
        yield Case(head_of(ours), printed, len(told) if same else 0)


def _streaks(rows: Sequence[Row], name: str) -> list[list[Row]]:
    """Unbroken runs of lines of one table that print the same number for two data sets.

    Args:
        rows: two rows a line, in the printed order: the data sets that are compared.
    """
    found: list[list[Row]] = [[]]
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        if one.cells[name] and one.cells[name] == other.cells[name]:
            found[-1].append(one)
        else:
            found.append([])
    return found


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


@register(
    "equal-columns",
    "Two data sets with the same column",
    "One quantity on two data sets does not agree in line after line. Reported are unbroken runs "
    "of lines with at least three equal numbers. Zeros and full counts do not count.",
    "part of one data set's column was copied into the other's",
    "The quantity cannot be used in these lines for at least one of the two data sets.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed",
    unit="equal cells",
)
def _equal_columns(rows: Sequence[Row]) -> Iterator[Case]:
    for name, both in _columns(rows):
        longest = max(
            ([row for row in run if _telling(row, name)] for run in _streaks(both, name)), key=len
        )
        told = ", ".join(f"{row.method} {row.cells[name]}" for row in longest)
        printed = f"{column_words(name)} on {both[0].dataset} and on {both[1].dataset}: {told}"
        yield Case(both[0], printed, len(longest) if len(longest) >= 3 else 0)


@register(
    "labels-order",
    "Accuracy that falls with more labels",
    "More labelled examples do not lower the accuracy that is to be expected of a probe. So a fall "
    "shows the noise of the measurement.",
    "one draw of the labelled examples, or one training of the probe",
    "Differences of this size between methods are within the noise of the table.",
    kind=Kind.ODD,
    unit="percentage points",
)
def _labels_order(rows: Sequence[Row]) -> Iterator[Case]:
    for line in lines_of(rows).values():
        for name in ("labels", "labels_per_character"):
            given = [row for row in line if row.need(name, "accuracy")]
            for few, many in itertools.pairwise(given):
                (a, before), (b, after) = few.need(name, "accuracy"), many.need(name, "accuracy")
                told = f"{before.text} with {a.text} labels, {after.text} with {b.text}"
                excess = before.low - after.high if a.value < b.value else 0
                yield Case(few, told, excess)


@register(
    "equal-numbers",
    "Two models with one long number",
    "A number of five significant digits rarely comes up twice by chance.",
    "one number was copied into the other's place",
    "One of the two cells may belong to the other model.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed; numbers of five digits or more",
    unit="equal cells",
)
def _equal_numbers(rows: Sequence[Row]) -> Iterator[Case]:
    seen: dict[tuple[str, str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        for name, given in row.quantities.items():
            if given.digits >= LONG_NUMBER and not row.referred:
                seen.setdefault((row.paper, row.dataset, name), []).append((row, given))
    for (_, _, name), group in seen.items():
        for (a, one), (b, other) in itertools.combinations(group, 2):
            if identity_of(a) != identity_of(b):
                told = f"{a.says(name)}; {b.table}, {b.label}: {other.text}"
                yield Case(a, told, int(one.text == other.text))


@register(
    "collapsed-nll",
    "A collapsed model far from the others",
    "With KL and MI zero a model is a language model without codes. Such models of one data set "
    "and paper have much the same NLL. Reported is what lies more than 1 % from their median.",
    "two digits changed places, or training failed",
    "The NLL of this row is not to be used.",
    kind=Kind.ODD,
    tolerance="1 % of the median NLL, a choice of this book",
)
def _collapsed_nll(rows: Sequence[Row]) -> Iterator[Case]:
    groups: dict[tuple[str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        found = row.need("kl", "mi", "nll")
        if found and found[0].value == found[1].value == 0:
            groups.setdefault((row.paper, row.dataset), []).append((row, found[2]))
    for members in groups.values():
        values = sorted(nll.value for _, nll in members)
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        for row, nll in members if len(members) > 2 else []:
            told = f"{row.says('nll')}; median of {len(members)}: {float(middle):.2f}"
            yield Case(row, told, abs(nll.value - middle) - _OUTLIER * middle)
