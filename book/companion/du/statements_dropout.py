"""DU-VAE: the statements of Shen et al. 2021 on variance dropout (proposition 1, equation 8).

Notation as in :mod:`du`.
Dropout (equation 6) keeps what a variance has above alpha with probability p and divides it by p;
what is dropped is left with the variance alpha.
MPD_B and CE_B are averages over masks, which are independent between points and dimensions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from scipy import integrate

from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search
from companion.du.statements import (
    Array,
    average,
    exactly,
    log_density,
    log_ratio,
    mean_variance,
    quadratic_mpd,
    quadrature_entropy,
    shown,
    some_posteriors,
    symbolic,
)

__all__ = ["ALPHA", "STATEMENTS", "Dropout"]

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0
_SAMPLES = 200_000


# --- variance dropout by its definition -----------------------------------------------------------


class Dropout(NamedTuple):
    """Posteriors under variance dropout."""

    mean: Array  # (N, D)
    above: Array  # (N, D), variance minus alpha, at least 0
    keep: Any  # p in (0, 1]
    alpha: Any

    @property
    def variance(self) -> Array:
        """Variances before dropout, (N, D)."""
        return np.asarray(self.above + self.alpha)

    def floats(self) -> Dropout:
        """The same numbers, rounded."""
        mean, above = (np.asarray(a, dtype=float) for a in (self.mean, self.above))
        return Dropout(mean, above, float(self.keep), float(self.alpha))


@st.composite
def dropouts(draw: st.DrawFn) -> Dropout:
    """Up to 3 points in up to 2 dimensions, in fractions; some variances are alpha itself."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    size = shape[0] * shape[1]

    def numbers(values: st.SearchStrategy[Fraction]) -> Array:
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    scale = Fraction(10) ** draw(st.integers(-3, 3))
    powers = st.integers(-10, 10).map(lambda k: Fraction(2) ** k)
    return Dropout(
        scale * numbers(st.integers(-8, 8).map(lambda k: Fraction(k, 8))),
        numbers(st.one_of(st.just(Fraction(0)), powers)),
        Fraction(draw(st.integers(1, 100)), 100),
        Fraction(2) ** draw(st.integers(-6, 3)),
    )


def masked(case: Dropout) -> list[tuple[Any, Array]]:
    """Both outcomes of the mask: probability, and the variance that is left."""
    none = case.above * 0
    dropped = (1 - case.keep, none + case.alpha)
    return [dropped, (case.keep, case.above / case.keep + case.alpha)]


def mpd_over_masks(case: Dropout) -> Any:
    """MPD by its definition: all pairs of points and all pairs of masks.

    The masks of a pair are independent, also where both are the same point.
    Dimensions separate, and logarithms cancel as in :func:`quadratic_mpd`.
    """
    total: Any = 0
    for (chance1, v1), (chance2, v2) in itertools.product(masked(case), repeat=2):
        apart = (case.mean[:, None] - case.mean[None]) ** 2
        ratio = average((v1[:, None] + apart) / v2[None] - 1, 0, 1).sum()
        total += chance1 * chance2 * ratio / 2
    return total


def entropy_over_masks(case: Dropout) -> float:
    """Conditional entropy by its definition: both masks of each dimension."""
    return float(
        sum(
            chance * quadrature_entropy(variance).sum(-1).mean()
            for chance, variance in masked(case)
        )
    )


def sampled_posteriors(random: np.random.Generator, case: Dropout) -> tuple[Array, Array, Array]:
    """Random points, with their means and their variances under random masks."""
    point = random.integers(0, len(case.mean), _SAMPLES)
    kept = random.uniform(size=(_SAMPLES, case.mean.shape[1])) < case.keep
    above = np.where(kept, case.above[point] / case.keep, 0.0)
    return point, case.mean[point], above + case.alpha


def some_dropout(seed: int) -> tuple[np.random.Generator, Dropout]:
    """Five posteriors in three dimensions at p = 0.8, for sampling."""
    random = np.random.default_rng(seed)
    mean, variance = some_posteriors(random)
    return random, Dropout(mean, variance - ALPHA, 0.8, ALPHA)


def dropout_told(case: Dropout) -> str:
    """In words."""
    return f"{shown((case.mean, case.variance))}, p = {case.keep}, α = {case.alpha}"


def refuted(violated: Callable[[Dropout], bool], compared: str) -> Evidence:
    """A search over :func:`dropouts`."""
    return search(compared, dropouts(), violated, dropout_told)


def _dropout_symbols() -> tuple[sympy.Symbol, ...]:
    """Variances v1, v2 above alpha, p as 1/(1 + u), alpha and a difference of means.

    With u positive, p runs over (0, 1) and SymPy knows it.
    """
    v1, v2, u, alpha = sympy.symbols("v1 v2 u alpha", positive=True)
    return v1, v2, u, alpha, sympy.symbols("delta", real=True)


# --- D4b, what dropout leaves of H > 0 ------------------------------------------------------------


def dropped_entropy_above(case: Dropout, c: Constants) -> Array:
    """Average entropy over the mask, each point and dimension, at alpha = 1/(2 pi e)."""
    ratio = case.above * (c["alpha_two"] * math.pi * math.e) / case.keep
    return np.asarray(c["half"] * case.keep * np.log(c["one"] + ratio))


def _zero_symbolic(c: Constants) -> Evidence:
    """All masks of two dimensions."""
    v1, v2, u, _, _ = _dropout_symbols()
    p, c, scale = 1 / (1 + u), symbolic(c), 2 * sympy.pi * sympy.E
    entropies, none = sympy.S.Zero, sympy.S.Zero
    for mask in itertools.product((0, 1), repeat=2):
        chance = sympy.prod([p if kept else 1 - p for kept in mask])
        variances = [1 / scale + kept * v / p for kept, v in zip(mask, (v1, v2), strict=True)]
        entropy = sum(sympy.log(sympy.expand(scale * variance)) for variance in variances) / 2
        entropies += chance * entropy
        none += chance if entropy == 0 else 0
    own = c["alpha_two"] * sympy.pi * sympy.E / p
    closed = sum(c["half"] * p * sympy.log(sympy.expand(c["one"] + own * v)) for v in (v1, v2))
    pairs = (entropies, closed), (none, (1 - p) ** (2 * c["each"]))
    return equal("average entropy, and chance of entropy 0, over the masks of D = 2", *pairs)


def _zero_sampled(c: Constants) -> Evidence:
    """-log q(z) under random masks, and how often nothing is kept."""
    random, case = some_dropout(5)
    _, mean, variance = sampled_posteriors(random, case)
    z = mean + np.sqrt(variance) * random.normal(size=mean.shape)
    exact = float(dropped_entropy_above(case, c).sum(-1).mean())
    chance = (1.0 - case.keep) ** (c["each"] * mean.shape[1])
    return sampled(
        "mean of −log q(z) under masks, nats, and share of entropies that are 0",
        (exact, -log_density(z, mean, variance)),
        (chance, (quadrature_entropy(variance).sum(-1) < 1e-9).astype(float)),
    )


class Masked(NamedTuple):
    """One posterior under one mask."""

    above: tuple[float, ...]  # (D,), at least 2^-10
    keep: float
    mask: tuple[bool, ...]  # (D,)

    def entropy(self, mask: tuple[bool, ...]) -> float:
        """Under a mask, nats."""
        kept = np.where(mask, np.array(self.above) / self.keep, 0.0)
        return float(quadrature_entropy(kept + ALPHA).sum())

    def told(self) -> str:
        """In words."""
        kept = [int(one) for one in self.mask]
        above = ", ".join(f"{one:g}" for one in self.above)
        entropy = round(self.entropy(self.mask), 12) + 0.0  # no minus before a zero
        return f"σ² − α = [{above}], p = {self.keep:g}, mask {kept}: H = {entropy:g}"


@st.composite
def masks(draw: st.DrawFn) -> Masked:
    """Up to 4 dimensions."""
    dimensions = draw(st.integers(1, 4))
    power = draw(st.lists(st.integers(-10, 10), min_size=dimensions, max_size=dimensions))
    mask = draw(st.lists(st.booleans(), min_size=dimensions, max_size=dimensions))
    return Masked(tuple(2.0**k for k in power), draw(st.integers(1, 9)) / 10.0, tuple(mask))


def _zero_violated(c: Constants) -> Evidence:
    """All masks: none has a negative entropy, and only the empty one has entropy 0."""

    def violated(case: Masked) -> bool:
        total, none, wrong = 0.0, 0.0, False
        for mask in itertools.product((False, True), repeat=len(case.above)):
            chance = math.prod(case.keep if kept else 1.0 - case.keep for kept in mask)
            value = case.entropy(mask)
            wrong |= value < -1e-12 or (value < 1e-12) == any(mask)
            total += chance * value
            none += chance if value < 1e-12 else 0.0
        one = Dropout(np.zeros((1, 1)), np.array([case.above]), case.keep, ALPHA)
        claimed = float(dropped_entropy_above(one, c).sum())
        empty = (1.0 - case.keep) ** (c["each"] * len(case.above))
        return wrong or abs(total - claimed) > 1e-9 * (1.0 + total) or abs(none - empty) > 1e-9

    return search("entropies under all masks, up to 4 dimensions", masks(), violated, Masked.told)


def _zero_strict() -> Evidence:
    """H > 0 under every mask."""

    def violated(case: Masked) -> bool:
        return case.entropy(case.mask) <= 1e-12

    return search("H > 0 under a mask", masks(), violated, Masked.told)


D4b = Statement(
    id="D4b",
    name="what dropout leaves of H > 0",
    paper="DU-VAE, sections 3.1 and 3.2",
    item="",
    claim="Under dropout H ≥ 0, and H = 0 with probability (1 − p)^D; "
    "the average is (p/2) Σ E log(1 + (σ² − α)/(pα)) > 0.",
    constants={"half": 0.5, "one": 1.0, "alpha_two": 2.0, "each": 1.0},
    wrong={"half": 1.0, "one": 2.0, "alpha_two": 1.0, "each": 2.0},
    checks=(_zero_symbolic, _zero_sampled, _zero_violated),
    printed=_zero_strict,
)


# --- D5, dropout keeps the average variance -------------------------------------------------------


def kept_variance(variance: Any, keep: Any, alpha: Any, c: Constants) -> Any:
    """Equation 6 where the mask is 1."""
    return (variance - c["floor"] * alpha) / keep ** c["normaliser"] + alpha


def _mean_symbolic(c: Constants) -> Evidence:
    """Both outcomes of the mask."""
    variance, p, alpha = sympy.symbols("s p alpha", positive=True)
    kept = kept_variance(variance, p, alpha, symbolic(c))
    return equal(
        "average over the mask against the variance", (p * kept + (1 - p) * alpha, variance)
    )


def _mean_sampled(c: Constants) -> Evidence:
    """Random points and masks."""
    random, case = some_dropout(6)
    point = random.integers(0, len(case.mean), _SAMPLES)
    kept = random.uniform(size=_SAMPLES) < case.keep
    cases = []
    for d, variance in enumerate(case.variance.T):
        left = kept_variance(variance[point], case.keep, case.alpha, c)
        cases.append((float(variance.mean()), np.where(kept, left, case.alpha)))
        kept = np.roll(kept, d + 1)
    return sampled("mean of the variance under masks", *cases)


def _mean_violated(c: Constants) -> Evidence:
    """Exact fractions."""
    exact = exactly(c)

    def violated(case: Dropout) -> bool:
        kept = kept_variance(case.variance, case.keep, case.alpha, exact)
        found = case.keep * kept + (1 - case.keep) * case.alpha
        return bool((found != case.variance).any())

    return refuted(violated, "average over the mask against the variance (exact fractions)")


D5 = Statement(
    id="D5",
    name="dropout keeps the average variance",
    paper="DU-VAE, equations 6 and 7, first line",
    item="du-prop1",
    claim="With σ̂² = g (σ² − α) + α, and g = 1/p with probability p and else 0, E σ̂² = E σ².",
    constants={"normaliser": 1.0, "floor": 1.0},
    wrong={"normaliser": 0.0, "floor": 0.0},
    checks=(_mean_symbolic, _mean_sampled, _mean_violated),
)


# --- D6, dropout raises MPD -----------------------------------------------------------------------


def inverse_moment(above: Any, keep: Any, alpha: Any, c: Constants) -> Any:
    """E[1 / variance] over the mask."""
    return (c["whole"] - keep) / alpha + keep ** c["power"] / (above + keep * alpha)


def dropped_mpd(case: Dropout, c: Constants) -> Any:
    """MPD averaged over masks, in closed form."""
    inverse = inverse_moment(case.above, case.keep, case.alpha, c)
    apart = (case.mean[:, None] - case.mean[None]) ** 2
    crossed = average(case.variance, 0) * average(inverse, 0)
    return c["half"] * (average(apart * inverse[None], 0, 1) + crossed - c["one"]).sum()


def raised_inverse(above: Any, keep: Any, alpha: Any) -> Any:
    """What dropout adds to E[1 / variance]; positive where p < 1 and the variance exceeds alpha."""
    return (1 - keep) * above**2 / (alpha * (above + alpha) * (above + keep * alpha))


def raised_mpd(case: Dropout) -> Any:
    """What dropout adds to MPD: a weighted average of :func:`raised_inverse`."""
    added = raised_inverse(case.above, case.keep, case.alpha)
    apart = (case.mean[:, None] - case.mean[None]) ** 2
    return average((case.variance[:, None] + apart) * added[None], 0, 1).sum() / 2


def _higher_symbolic(c: Constants) -> Evidence:
    """The moment over the mask, what is added to it, and a pair under its four masks."""
    v1, v2, u, alpha, delta = _dropout_symbols()
    p, c = 1 / (1 + u), symbolic(c)
    moment = inverse_moment(v1, p, alpha, c)
    definition = (1 - p) / alpha + p / (v1 / p + alpha)
    added = raised_inverse(v1, p, alpha)
    one = Dropout(np.array([[0 * u], [delta]]), np.array([[v1], [v1]]), p, alpha)
    pair = mpd_over_masks(one), dropped_mpd(one, c)
    pairs = (moment, definition), (moment - 1 / (v1 + alpha), added), pair
    return equal("E 1/σ̂² over the mask, what dropout adds to 1/σ², and two points' MPD", *pairs)


def _higher_sampled(c: Constants) -> Evidence:
    """Random pairs, random masks, random z."""
    random, case = some_dropout(7)
    _, mean1, variance1 = sampled_posteriors(random, case)
    _, mean2, variance2 = sampled_posteriors(random, case)
    draws = log_ratio(random, mean1, variance1, mean2, variance2)
    return sampled("mean log-ratio over pairs and masks, nats", (dropped_mpd(case, c), draws))


def _higher_violated(c: Constants) -> Evidence:
    """Closed forms against all masks, and MPD raised exactly where the statement says."""
    exact = exactly(c)

    def violated(case: Dropout) -> bool:
        found, before = mpd_over_masks(case), quadratic_mpd(case.mean, case.variance)
        strict = bool(case.keep < 1 and (case.above > 0).any())
        wrong = found != dropped_mpd(case, exact) or found - before != raised_mpd(case)
        return bool(wrong or found < before or (found > before) != strict)

    return refuted(violated, "closed form, and MPD_B > MPD, over all masks (exact fractions)")


D6 = Statement(
    id="D6",
    name="dropout raises MPD",
    paper="DU-VAE, proposition 1, equation 7, second line",
    item="du-prop1",
    claim="E[1/σ̂²] = (1 − p)/α + p²/(v + pα) with v = σ² − α, and MPD_B > MPD "
    "iff p < 1 and some v > 0.",
    constants={"half": 0.5, "whole": 1.0, "power": 2.0, "one": 1.0},
    wrong={"half": 0.25, "whole": 2.0, "power": 1.0, "one": 0.0},
    checks=(_higher_symbolic, _higher_sampled, _higher_violated),
)


# --- D7, dropout lowers the conditional entropy ---------------------------------------------------


def log_moment(above: Any, keep: Any, alpha: Any, c: Constants, m: Any = np) -> Any:
    """E[log variance] over the mask."""
    rest = above / keep ** c["power"] + alpha
    return (c["whole"] - keep) * m.log(alpha) + keep * m.log(rest)


def dropped_entropy(case: Dropout, c: Constants) -> float:
    """Conditional entropy averaged over masks, in closed form, nats."""
    logs = log_moment(case.above, case.keep, case.alpha, c)
    constant = case.above.shape[1] * math.log(2.0 * math.pi * math.e)
    return float(c["half"] * (constant + logs.sum(-1).mean()))


def lowered_log(above: Array, keep: float, alpha: float) -> Array:
    """What dropout takes from E[log variance]: log(1 + r) - p log(1 + r / p), r = above / alpha."""
    ratio = above / alpha
    return np.asarray(np.log1p(ratio) - keep * np.log1p(ratio / keep))


def _lower_symbolic(c: Constants) -> Evidence:
    """The moment; what is taken is 0 at v = 0 and has a positive slope in v."""
    v, _, u, alpha, _ = _dropout_symbols()
    p, c = 1 / (1 + u), symbolic(c)
    moment = log_moment(v, p, alpha, c, sympy)
    definition = (1 - p) * sympy.log(alpha) + p * sympy.log(alpha + v / p)
    taken = sympy.log(v + alpha) - moment
    slope = v * u / ((v + alpha) * (alpha + v * (1 + u)))
    pairs = (
        (c["half"] * moment, definition / 2),
        (taken.subs(v, 0), 0),
        (sympy.diff(taken, v), slope),
    )
    return equal("E log σ̂² over the mask; what is taken is 0 at v = 0 and grows with v", *pairs)


def _lower_sampled(c: Constants) -> Evidence:
    """-log q(z) under random masks."""
    random, case = some_dropout(8)
    _, mean, variance = sampled_posteriors(random, case)
    z = mean + np.sqrt(variance) * random.normal(size=mean.shape)
    found = dropped_entropy(case, c), -log_density(z, mean, variance)
    return sampled("mean of −log q(z) under masks, nats", found)


def _lower_violated(c: Constants) -> Evidence:
    """Closed forms against both masks, and an entropy lowered exactly where it is said to be."""

    def violated(case: Dropout) -> bool:
        one = case.floats()
        found, before = entropy_over_masks(one), quadrature_entropy(one.variance).sum(-1).mean()
        taken = 0.5 * lowered_log(one.above, one.keep, one.alpha).sum(-1).mean()
        strict = one.keep < 1.0 and bool((one.above > 0.0).any())
        slack = 1e-11 * (1.0 + abs(before))
        wrong = abs(found - dropped_entropy(one, c)) > slack
        wrong = wrong or abs(before - found - taken) > slack
        return bool(wrong or taken < -slack or (taken > 0.0) != strict)

    return refuted(violated, "closed form, and CE_B < CE, over both masks")


D7 = Statement(
    id="D7",
    name="dropout lowers the conditional entropy",
    paper="DU-VAE, proposition 1, equation 7, third line",
    item="du-prop1",
    claim="E log σ̂² = (1 − p) log α + p log(v/p + α), and CE_B < CE iff p < 1 and some v > 0.",
    constants={"half": 0.5, "whole": 1.0, "power": 1.0},
    wrong={"half": 0.25, "whole": 2.0, "power": 2.0},
    checks=(_lower_symbolic, _lower_sampled, _lower_violated),
)


# --- D8, both gaps grow as p falls ----------------------------------------------------------------


def inverse_slope(above: Any, keep: Any, alpha: Any, c: Constants) -> Any:
    """d/dp E[1 / variance]; negative."""
    return -(above ** c["power"]) / (alpha * (above + keep * alpha) ** c["squared"])


def log_slope(above: Any, keep: Any, alpha: Any, c: Constants, m: Any = np) -> Any:
    """d/dp E[log variance]; positive."""
    t = above / (keep * alpha)
    return m.log(c["unit"] + t) - t / (c["unit"] + t)


def limit_mpd(case: Dropout, c: Constants) -> Any:
    """MPD as p falls to 0."""
    spread = c["spread"] * mean_variance(case.mean)
    return ((spread + average(case.variance, 0).sum()) / case.alpha - case.mean.shape[1]) / 2


def _two_symbolic() -> Dropout:
    """Two points of one variance in one dimension."""
    v, p, alpha = sympy.symbols("v p alpha", positive=True)
    delta = sympy.symbols("delta", real=True)
    return Dropout(np.array([[0 * v], [delta]]), np.array([[v], [v]]), p, alpha)


@functools.lru_cache(maxsize=1)
def _slopes_and_limits() -> tuple[sympy.Expr, ...]:
    """Slopes in p of the two moments, and limits at p = 0 of two points' MPD and of a log."""
    two = _two_symbolic()
    v, p, alpha = two.above[0, 0], two.keep, two.alpha
    inverse = (1 - p) / alpha + p / (v / p + alpha)
    log = (1 - p) * sympy.log(alpha) + p * sympy.log(alpha + v / p)
    mpd = sympy.limit(sympy.cancel(mpd_over_masks(two)), p, 0)
    return sympy.diff(inverse, p), sympy.diff(log, p), mpd, sympy.limit(log, p, 0)


def _grow_symbolic(c: Constants) -> Evidence:
    """Slopes of the moments, and limits of two points' MPD and of the moment of the logarithm."""
    slope, slope_of_log, mpd, log = _slopes_and_limits()
    two, c = _two_symbolic(), symbolic(c)
    one = two.above[0, 0], two.keep, two.alpha
    pairs = (
        (slope, inverse_slope(*one, c)),
        (sympy.expand_log(slope_of_log, force=True), log_slope(*one, c, sympy)),
        (mpd, limit_mpd(two, c)),
        (log, sympy.log(two.alpha) + c["rest"]),
    )
    return equal("slopes of E 1/σ̂² and E log σ̂² in p, and limits at p = 0", *pairs)


def _grow_sampled(c: Constants) -> Evidence:
    """The same masks, drawn by one uniform number, at two p; exact is the integral of the slope."""
    random, case = some_dropout(9)
    low, high = 0.3, 0.9
    above = random.choice(case.above.ravel(), _SAMPLES)
    uniform = random.uniform(size=_SAMPLES)

    def variances(keep: float) -> Array:
        return ALPHA + np.where(uniform < keep, above / keep, 0.0)

    def between(slope: Callable[..., Any]) -> float:
        def average_slope(keep: float) -> float:
            return float(np.mean(slope(case.above, keep, ALPHA, c)))

        return float(integrate.quad(average_slope, low, high, epsabs=1e-11)[0])

    first, second = variances(low), variances(high)
    return sampled(
        "change of 1/σ̂² and of log σ̂² from p = 0.3 to 0.9, against integrated slopes",
        (between(inverse_slope), 1.0 / second - 1.0 / first),
        (between(log_slope), np.log(second) - np.log(first)),
    )


def _complex_step(function: Callable[[Any], Any], at: float) -> Any:
    """A derivative to the last digit."""
    return np.imag(function(at + 1e-30j)) / 1e-30


class Two(NamedTuple):
    """The same posteriors at two keep probabilities."""

    case: Dropout  # every variance above alpha
    lower: Any  # a smaller p

    def told(self) -> str:
        """In words."""
        return f"{dropout_told(self.case)}, against p = {self.lower}"


@st.composite
def pairs_of_keep(draw: st.DrawFn) -> Two:
    """As :func:`dropouts`, with v > 0 everywhere and p > 1/100."""
    case = draw(dropouts())
    keep = Fraction(draw(st.integers(2, 100)), 100)
    above = case.above + (case.above == 0)
    lower = Fraction(draw(st.integers(1, int(keep * 100) - 1)), 100)
    return Two(case._replace(above=above, keep=keep), lower)


def _slopes_wrong(case: Dropout, c: Constants) -> bool:
    """Closed slopes against derivatives of both moments' definitions."""
    above, alpha, keep = case.above, case.alpha, case.keep
    by_step = _complex_step(lambda p: (1 - p) / alpha + p / (above / p + alpha), keep)
    logs = _complex_step(lambda p: p * np.log1p(above / (p * alpha)), keep)
    wrong = abs(by_step - inverse_slope(above, keep, alpha, c)) > 1e-9 * abs(by_step)
    # log(1 + t) - t / (1 + t) loses digits where t is small.
    wrong_log = abs(logs - log_slope(above, keep, alpha, c)) > 1e-9 * abs(logs) + 1e-14
    return bool(wrong.any() or wrong_log.any() or (by_step >= 0).any() or (logs <= 0).any())


def _limits_wrong(case: Dropout, c: Constants) -> bool:
    """Closed limits against all masks at p = 10^-40."""
    last = case._replace(keep=Fraction(1, 10**40))
    mpd, claimed = mpd_over_masks(last), limit_mpd(case, exactly(c))
    one = case._replace(alpha=Fraction(ALPHA), keep=last.keep).floats()
    entropy = entropy_over_masks(one)
    rest = c["rest"] * one.above.shape[1]
    return bool(abs(mpd - claimed) > abs(mpd) * 1e-9 or abs(entropy - rest) > 1e-9)


def _grow_violated(c: Constants) -> Evidence:
    """A smaller p has a greater MPD and a smaller entropy; slopes and limits."""

    def violated(two: Two) -> bool:
        case, less = two.case, two.case._replace(keep=two.lower)
        if mpd_over_masks(less) <= mpd_over_masks(case):
            return True
        one, other = case.floats(), less.floats()
        taken = lowered_log(one.above, one.keep, one.alpha)
        if (lowered_log(other.above, other.keep, other.alpha) <= taken).any():
            return True
        return _slopes_wrong(one, c) or _limits_wrong(case, c)

    compared = "MPD_B and CE_B at two p over all masks; slopes; limits at p = 10⁻⁴⁰"
    return search(compared, pairs_of_keep(), violated, Two.told)


D8 = Statement(
    id="D8",
    name="both gaps grow as p falls to 0",
    paper="DU-VAE, proposition 1, below equation 7",
    item="du-prop1",
    claim="E[1/σ̂²] falls and E log σ̂² rises with p; as p → 0, CE_B → 0 and "
    "MPD_B → ½ Σ [(2 Var[μ] + E σ²)/α − 1].",
    constants={"power": 2.0, "squared": 2.0, "unit": 1.0, "spread": 2.0, "rest": 0.0},
    wrong={"power": 1.0, "squared": 1.0, "unit": 2.0, "spread": 1.0, "rest": 0.5},
    checks=(_grow_symbolic, _grow_sampled, _grow_violated),
)


# --- D9, a lower bound without the variances ------------------------------------------------------


def dropout_bound(case: Dropout, c: Constants) -> Any:
    """Equation 8's right side."""
    variance = mean_variance(case.mean, c["ddof"])
    return (c["whole"] - case.keep) / case.alpha ** c["power"] * variance


def surplus(case: Dropout) -> Any:
    """What MPD under dropout exceeds equation 8 by: two terms, neither negative."""
    apart = (case.mean[:, None] - case.mean[None]) ** 2
    kept = case.keep**2 / (case.above + case.keep * case.alpha)
    inverse = (1 - case.keep) / case.alpha + kept
    distant = average(apart * kept[None], 0, 1)
    return (distant + average(case.variance, 0) * average(inverse, 0) - 1).sum() / 2


def _floor_symbolic(c: Constants) -> Evidence:
    """Two points of one variance: definition minus bound, in terms that are visibly positive."""
    v, _, u, alpha, delta = _dropout_symbols()
    p, c = 1 / (1 + u), symbolic(c)
    case = Dropout(np.array([[0 * u], [delta]]), np.array([[v], [v]]), p, alpha)
    distant = delta**2 / (4 * (1 + u) * (v * (1 + u) + alpha))
    crossed = v**2 * u / (2 * alpha * (alpha + v * (1 + u)))
    gap = mpd_over_masks(case) - dropout_bound(case, c)
    return equal(
        "surplus of two points over the bound, two positive terms", (gap, distant + crossed)
    )


def _floor_sampled(c: Constants) -> Evidence:
    """Bound plus surplus is MPD."""
    random, case = some_dropout(10)
    _, mean1, variance1 = sampled_posteriors(random, case)
    _, mean2, variance2 = sampled_posteriors(random, case)
    draws = log_ratio(random, mean1, variance1, mean2, variance2)
    exact = dropout_bound(case, c) + surplus(case)
    return sampled("bound plus surplus against the mean log-ratio, nats", (exact, draws))


def _floor_violated(c: Constants) -> Evidence:
    """MPD at or below the bound, unless nothing varies at all."""
    exact = exactly(c)

    def violated(case: Dropout) -> bool:
        if case.keep == 1:
            return False
        bound = dropout_bound(case, exact) if len(case.mean) > 1 else 0
        gap = mpd_over_masks(case) - bound
        varies = bool((case.above > 0).any() or (case.mean != case.mean[0]).any())
        return bool(gap < 0 or (gap > 0) != varies or gap != surplus(case))

    return refuted(violated, "MPD_B at or below the bound, over all masks (exact fractions)")


D9 = Statement(
    id="D9",
    name="a lower bound on MPD without the variances",
    paper="DU-VAE, equation 8",
    item="du-eq8",
    claim="MPD_B > ((1 − p)/α) Σ Var[μ] for p < 1, unless every σ² is α and the means are equal.",
    constants={"whole": 1.0, "power": 1.0, "ddof": 0.0},
    wrong={"whole": 1.125, "power": 2.0, "ddof": 1.0},
    checks=(_floor_symbolic, _floor_sampled, _floor_violated),
)

STATEMENTS = (D4b, D5, D6, D7, D8, D9)
