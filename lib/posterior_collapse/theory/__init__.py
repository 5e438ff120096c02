"""The papers' statements, each with three checks that do not know of each other.

A :class:`Statement` holds the numbers that stand in it as constants, so that every check can be
run again with a wrong one; a check that still passes then is worth nothing.
The statements of a paper are in its module: :mod:`lagging`, :mod:`autogen`, :mod:`igp`, :mod:`du`
and :mod:`scale`; :mod:`linear` has those of the linear VAE.

A closed form under test may come from :mod:`posterior_collapse.gaussian`.
What it is compared with is written anew from the definition, in NumPy, SymPy or SciPy.
"""

from posterior_collapse.theory.statement import (
    Constants,
    Evidence,
    Examination,
    Mutation,
    Standing,
    Statement,
    Way,
    equal,
    examine,
    findings,
    nonnegative,
    sampled,
    search,
)

__all__ = [
    "Constants",
    "Evidence",
    "Examination",
    "Mutation",
    "Standing",
    "Statement",
    "Way",
    "equal",
    "examine",
    "findings",
    "nonnegative",
    "sampled",
    "search",
]
