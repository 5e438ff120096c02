"""Scale-VAE: the statements of Song et al. 2024 on scaled posterior means.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), q_agg is their mixture, f scales
the means, p = N(0, I), nats. MPD averages over all N^2 pairs, a point with itself included.

The scaling-up of S5 rests on a lemma, S5a, that the paper does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp

from companion.claims import formulas as forms
from companion.claims.formulas import ROUNDING, Array, apart, gaussian_kl, log_normal, parts, steps
from companion.claims.statements import Facts, Formulas, Means, log, stated
from posterior_collapse.layers import Progress
from posterior_collapse.posteriors import MeanOfFactors, Scaled, ScaledHead

DRAWS, MEAN, SD = forms.DRAWS, forms.MEAN, forms.SD


def _pairs(mean: Array, sd: Array, seed: int) -> Array:
    """log q(z|x) - log q(z|x') over random pairs, z from the first; its mean is MPD."""
    x, z = forms.drawn(mean, sd, seed)
    other = np.random.default_rng(seed + 1).integers(0, len(mean), DRAWS)
    return log_normal(z, mean[x], sd[x]) - log_normal(z, mean[other], sd[other])


# --- S2, MPD as two divergences -------------------------------------------------------------------

S2 = stated(
    "S2",
    Formulas(mpd="forward + reverse", pairs="n**2", share=1.0),
    {"reverse": ("+ reverse", "+ reverse / 2"), "distinct": ("n**2", "(n**2 - n)"), "share": 0.25},
)


@S2.symbolic
def _(c: Formulas) -> Facts:
    """average over pairs against the two divergences, three points"""
    p, log_p = forms.outcomes(3, 2)
    log_mixture, mixture = np.array(sympy.symbols("a:2")), p.sum(0) / 3
    sums = (p[:, None] * (log_p[:, None] - log_p)).sum()
    forward = (p * (log_p - log_mixture)).sum() / 3
    back = (mixture * (log_mixture - log_p)).sum() / 3
    return [(sums / c.pairs(n=3), c.mpd(forward=forward, reverse=back))]


@S2.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio over random pairs, nats"""
    terms, n = parts(MEAN, SD), len(MEAN)
    draws = _pairs(MEAN, SD, 1) * n**2 / c.pairs(n=n)
    return [(c.mpd(forward=terms.information, reverse=terms.reverse), draws)]


@S2.search(forms.sets(), forms.in_words)
def _(c: Formulas, mean: Array, sd: Array) -> bool:
    """MPD of pairs in closed form equals the sum by quadrature, and MI is not above MPD"""
    n, terms = len(mean), parts(mean, sd)
    table = gaussian_kl(mean[:, None], sd[:, None] ** 2, mean, sd**2)
    mpd = float(table.sum()) / c.pairs(n=n) if n > 1 else 0.0
    both = c.mpd(forward=terms.information, reverse=terms.reverse)
    return apart(mpd, both) or terms.information > c.share * mpd + ROUNDING


# --- S3, MI as a difference of two KLs ------------------------------------------------------------

S3 = stated(
    "S3",
    Formulas(kl="(mean**2 + variance - 1 - log(variance)) / 2", information="rate - mismatch"),
    {
        "half": ("/ 2", "/ 4"),
        "one": ("- 1", "- 0"),
        "mismatch": ("- mismatch", "- 0 * mismatch"),
    },
)


@S3.symbolic
def _(c: Formulas) -> Facts:
    """entropy of the mixture minus the average entropy, against E KL minus the mismatch"""
    # Two Gaussians; the entropy of their mixture has no closed form and is a free symbol.
    # Expectations under the mixture need only its second moment, which is integrated.
    z, entropy = sympy.symbols("z H", real=True)
    m, s = sympy.symbols("m:2", real=True), sympy.symbols("s:2", positive=True)
    half, level = sympy.Rational(1, 2), sympy.log(2 * sympy.pi) / 2
    pairs = list(zip(m, s, strict=True))
    second = sum(forms.integral(z**2 * forms.bell(z, a, b**2), z) for a, b in pairs) / 2
    mismatch = -entropy + level + second / 2
    noise = sum(level + half + sympy.log(b) for b in s) / 2
    rate = sum(c.kl(mean=a, variance=b**2) for a, b in pairs) / 2
    claimed = sympy.expand_log(sympy.expand(c.information(rate=rate, mismatch=mismatch)))
    return [(sympy.expand(entropy - noise), claimed)]


def _information(c: Formulas, mean: Array, sd: Array) -> float:
    """The right side of S3: E KL in closed form, the mismatch by quadrature."""
    rate = float(c.kl(mean=mean, variance=sd**2).mean())
    return float(c.information(rate=rate, mismatch=parts(mean, sd).aggregate_kl))


@S3.sampled
def _(c: Formulas) -> Means:
    """mean of log q(z|x) − log q_agg(z), nats"""
    x, z = forms.drawn(MEAN, SD, 3)
    mixture = logsumexp(log_normal(z[:, None], MEAN, SD), axis=1) - math.log(len(MEAN))
    return [(_information(c, MEAN, SD), log_normal(z, MEAN[x], SD[x]) - mixture)]


@S3.search(forms.sets(), forms.in_words)
def _(c: Formulas, mean: Array, sd: Array) -> bool:
    """MI against E KL minus the mismatch"""
    return apart(parts(mean, sd).information, _information(c, mean, sd))


# --- S4, scaling up raises MPD --------------------------------------------------------------------

S4 = stated(
    "S4",
    Formulas(mpd="(f**2 * distance + crossed - 1) / 2", least=1.0),  # of factors that raise MPD
    {"half": ("/ 2", "/ 4"), "power": ("f**2", "f"), "inside": ("- 1", "- 0"), "least": 0.5},
)


def scaled_mpd(mean: Array, sd: Array, factor: float, c: Formulas = S4.constants) -> float:
    """MPD of posteriors N(f mu, sigma^2) in closed form; scalar, nats."""
    distance = (((mean[:, None] - mean) / sd) ** 2).mean()
    crossed = (sd**2).mean() * (sd**-2.0).mean()
    return float(c.mpd(f=factor, distance=distance, crossed=crossed))


@S4.symbolic
def _(c: Formulas) -> Facts:
    """average KL of two points' pairs, and its slope in f"""
    m, v = sympy.symbols("m:2", real=True), sympy.symbols("v:2", positive=True)
    f, pairs = sympy.Symbol("f", positive=True), [(i, j) for i in range(2) for j in range(2)]
    four = [gaussian_kl(f * m[i], v[i], f * m[j], v[j]) for i, j in pairs]
    definition = sympy.expand_log(sum(four) / 4)
    distance = sum((m[i] - m[j]) ** 2 / v[j] for i, j in pairs) / 4
    crossed = (v[0] + v[1]) * (1 / v[0] + 1 / v[1]) / 4
    claimed = c.mpd(f=f, distance=distance, crossed=crossed)
    return (definition, claimed), (sympy.diff(definition, f), sympy.diff(claimed, f))


@S4.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio over random pairs, f = 1.7, nats"""
    return [(scaled_mpd(MEAN, SD, 1.7, c), _pairs(1.7 * MEAN, SD, 4))]


def _factors(least: float = 0.0) -> st.SearchStrategy[float]:
    """Factors from ``least`` to ``least`` + 8 in eighths."""
    return steps(0, 64, 8).map(lambda more: least + more)


def _with_factor(q: forms.Set, start: float, more: float) -> str:
    return f"{forms.in_words(*q)}; f from {start:g} to {start * more:g}"


@S4.search(lambda c: st.tuples(forms.sets(), _factors(0.125), _factors(c.least)), _with_factor)
def _(c: Formulas, q: forms.Set, start: float, more: float) -> bool:
    """closed form against all pairs by quadrature, and growth with f"""
    mean, sd = q
    ends = start, start * more
    before, after = (float(forms.divergences(f * mean, sd).mean()) for f in ends)
    return apart(scaled_mpd(mean, sd, start, c), before) or after < before * (1 - ROUNDING)


# --- S5a, intervals that move apart ---------------------------------------------------------------

Intervals = list[tuple[int, int]]  # centre and half length


def excess(intervals: Intervals, factor: Fraction, level: int) -> Fraction:
    """The integral of (n - level)_+, where n(x) counts the intervals [f m - r, f m + r] over x."""
    edges = sorted(
        (factor * centre + side * half, -side) for centre, half in intervals for side in (-1, 1)
    )
    total, count, last = Fraction(0), 0, Fraction(0)
    for place, change in edges:
        total += max(count - level, 0) * (place - last)
        count, last = count + change, place
    return total


def families(largest: int = 6) -> st.SearchStrategy[Intervals]:
    """What the search draws from: centres and half lengths."""
    return st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 12)), min_size=1, max_size=largest)


S5A = stated(
    "S5a",
    Formulas(phi="first * n + bent", least=1.0),
    {"straight": ("first * n", "first * n / 2"), "least": 0.5},
)


@S5A.symbolic
def _(c: Formulas) -> Facts:
    """φ(n) against φ(1) n plus its second differences times (n − k)₊"""
    phi = [sympy.S.Zero, *sympy.symbols("phi1:7")]  # on 0, 1, ..., 5, with phi(0) = 0
    second = [phi[k + 1] - 2 * phi[k] + phi[k - 1] for k in range(1, 6)]
    bent = [sum(second[k - 1] * max(n - k, 0) for k in range(1, 6)) for n in range(6)]
    return [(phi[n], c.phi(first=phi[1], n=n, bent=bent[n])) for n in range(6)]


@S5A.sampled
def _(c: Formulas) -> Means:
    """integral of n² = n + 2 Σ (n − k)₊ at random places, f = 1.5, against exact sums"""
    family: Intervals = [(-3, 4), (-1, 2), (0, 6), (2, 3), (5, 1)]
    x = np.random.default_rng(6).uniform(-12.0, 12.0, DRAWS)
    count = sum((np.abs(x - 1.5 * m) <= r).astype(float) for m, r in family)
    length = 2.0 * sum(r for _, r in family)
    bent = sum(float(excess(family, Fraction(3, 2), k)) for k in range(1, len(family)))
    return [(c.phi(first=1.0, n=length, bent=2.0 * bent), 24.0 * np.square(count))]


_WIDER = st.tuples(families(), steps(1, 32, 8), steps(0, 32, 8))


@S5A.search(_WIDER, "(m, r) {}, f from {:g}", 200)
def _(c: Formulas, family: Intervals, start: float, more: float) -> bool:
    """growth of a level’s excess with f, exact fractions"""
    before = Fraction(start)
    after = before * (Fraction(c.least) + Fraction(more))
    return any(excess(family, after, k) > excess(family, before, k) for k in range(len(family)))


# --- S5, scaling up raises MI ---------------------------------------------------------------------

S5 = stated(
    "S5",
    Formulas(pull="(f * mu - z) / sd**2", least=1.0),
    {"power": ("sd**2", "sd"), "least": 0.5},
)


@S5.symbolic
def _(c: Formulas) -> Facts:
    """slope of −q log q in f against q Cov(μ, (fμ − z)/σ² | z), two points; for one σ"""
    # Up to a derivative in z.  The densities are symbols u with derivatives of Gaussians.
    z, f = sympy.symbols("z f", real=True)
    m = sympy.symbols("m:2", real=True)
    s, u = sympy.symbols("s:2", positive=True), sympy.symbols("u:2", positive=True)
    gaussian = [sympy.exp(-((z - f * m[i]) ** 2) / (2 * s[i] ** 2)) for i in range(2)]
    by_z, by_f = (
        [u[i] * sympy.simplify(sympy.diff(gaussian[i], by) / gaussian[i]) for i in range(2)]
        for by in (z, f)
    )

    def along(expression: sympy.Expr, slopes: list[sympy.Expr]) -> sympy.Expr:
        return sum(sympy.diff(expression, u[i]) * slopes[i] for i in range(2))

    q, moment = u[0] + u[1], m[0] * u[0] + m[1] * u[1]
    pull = [c.pull(f=f, mu=m[i], z=z, sd=s[i]) for i in range(2)]
    covariance = u[0] * u[1] * (m[0] - m[1]) * (pull[0] - pull[1]) / q
    slope = -along(q * sympy.log(q), by_f) - along(moment * sympy.log(q), by_z)
    one_sd = u[0] * u[1] * f * (m[0] - m[1]) ** 2 / (q * s[0] ** 2)
    return (
        (sympy.expand(sympy.expand(slope) * q), sympy.expand(covariance * q)),
        (covariance.subs(s[1], s[0]), one_sd),
    )


def covariance(
    z: Array, mean: Array, sd: Array, factor: float, c: Formulas = S5.constants
) -> Array:
    """Cov(mu, (f mu - z) / sigma^2 | z) at each z (M,)."""
    own = log_normal(z[:, None], factor * mean, sd)
    share = np.exp(own - logsumexp(own, axis=1)[:, None])
    pull = c.pull(f=factor, mu=mean, z=z[:, None], sd=sd)
    both = (share * mean * pull).sum(1)
    return np.asarray(both - (share * mean).sum(1) * (share * pull).sum(1))


def _information_of(sd: Array) -> Callable[[float], float]:
    return lambda f: float(parts(f * MEAN, sd).information)


@S5.sampled
def _(c: Formulas) -> Means:
    """dI/df as an expectation over z at f = 1.3 for equal σ and for σ(x), nats"""
    cases = []
    for seed, sd in ((7, np.full(4, 0.6)), (8, SD)):
        _, z = forms.drawn(1.3 * MEAN, sd, seed)
        slope = forms.derivative(_information_of(sd), 1.3)
        cases.append((slope, covariance(z, MEAN, sd, 1.3, c)))
    return cases


_EITHER = st.one_of(forms.sets(2), forms.sets(2, equal=True))


@S5.search(lambda c: st.tuples(_EITHER, _factors(0.125), _factors(c.least)), _with_factor)
def _(c: Formulas, q: forms.Set, start: float, more: float) -> bool:
    """a larger f with less MI; σ depends on x in half of the draws"""
    before, after = (parts(f * q[0], q[1]).information for f in (start, start * more))
    return after < before - ROUNDING


# --- S6, the objective is no bound ----------------------------------------------------------------


def gap(variance: Any, factor: Any) -> Any:
    """L_scale minus the ELBO of the scaled posterior under N(0, f^2), by dimension, nats."""
    return log(factor) - variance * (1 - 1 / factor**2) / 2


def unit_gap(mean: Any, factor: Any) -> Any:
    """L_scale minus the ELBO of the scaled posterior under N(0, 1), by dimension, nats."""
    return (factor**2 - 1) * mean**2 / 2


class Linear(NamedTuple):
    """Everything that can be said of one x under a scalar linear decoder N(w z, s^2); nats."""

    reconstruction: float  # E log p(x|z) under N(f mu, sigma^2)
    objective: float  # L_scale
    elbo_unit: float  # of N(f mu, sigma^2) under the prior N(0, 1)
    elbo_scaled: float  # the same under N(0, f^2)
    evidence_unit: float  # log p(x) under the prior N(0, 1)
    evidence_scaled: float  # the same under N(0, f^2)


def linear(
    weight: float, noise: float, x: float, mean: float, variance: float, factor: float
) -> Linear:
    """Scale-VAE's objective on one x, with what it should stay below."""
    error = (x - weight * factor * mean) ** 2 + weight**2 * variance
    reconstruction = -0.5 * (math.log(2.0 * math.pi * noise**2) + error / noise**2)
    rates = (
        float(gaussian_kl(centre, variance, 0.0, prior**2))
        for centre, prior in ((mean, 1.0), (factor * mean, 1.0), (factor * mean, factor))
    )
    evidence = (
        float(log_normal(x, 0.0, math.hypot(weight * prior, noise))) for prior in (1.0, factor)
    )
    return Linear(reconstruction, *(reconstruction - rate for rate in rates), *evidence)


S6 = stated(
    "S6",
    Formulas(gap, unit_gap, largest_variance=1.0),
    {
        "half": (") / 2", ") / 4"),
        "power": ("1 / factor**2", "1 / factor"),
        "half, prior N(0, 1)": ("mean**2 / 2", "mean**2 / 4"),
        "power, prior N(0, 1)": ("(factor**2 - 1)", "(factor - 1)"),
        "largest_variance": 2.0,
    },
)


@S6.symbolic
def _(c: Formulas) -> Facts:
    """KL to N(0, f²) and to N(0, 1) minus the KL of L_scale; slope in f at σ² = 1"""
    m, (v, f) = sympy.Symbol("m", real=True), sympy.symbols("v f", positive=True)
    paid = gaussian_kl(m, v)
    scaled, unit = (sympy.expand_log(gaussian_kl(f * m, v, 0, prior**2) - paid) for prior in (f, 1))
    largest = c.gap(sympy.Rational(c.largest_variance), f)
    slope = sympy.diff(largest, f), (f - 1) * (f + 1) / f**3
    return (scaled, c.gap(v, f)), (unit, c.unit_gap(m, f)), slope


@S6.sampled
def _(c: Formulas) -> Means:
    """KL that is due minus KL that is paid, prior N(0, f²) and N(0, 1), nats"""
    random = np.random.default_rng(9)
    mean, sd, f = 0.4, 0.7, 3.0
    noise = random.normal(size=(2, DRAWS))
    plain, moved = mean + sd * noise[0], f * mean + sd * noise[1]
    paid = log_normal(plain, mean, sd) - log_normal(plain, 0.0, 1.0)
    due = [log_normal(moved, f * mean, sd) - log_normal(moved, 0.0, prior) for prior in (f, 1.0)]
    return (c.gap(sd**2, f), due[0] - paid), (c.unit_gap(mean, f), due[1] - paid)


@S6.search(
    lambda c: st.tuples(
        _factors(1.0), steps(-24, 24, 8), steps(1, 16, 16).map(lambda v: v * c.largest_variance)
    ),
    "f = {:g}, mean {:g}, variance {:g}",
)
def _(c: Formulas, f: float, mean: float, variance: float) -> bool:
    """gap formulas against quadrature, and a negative gap for f ≥ 1 and variances of at most 1"""
    paid = forms.quadrature_kl(mean, variance)
    due = [forms.quadrature_kl(f * mean, variance, 0.0, prior**2) - paid for prior in (f, 1.0)]
    return apart(due, [c.gap(variance, f), c.unit_gap(mean, f)]) or min(due) < -ROUNDING


def example(x: float, noise: float, mean: float, variance: float, factor: float) -> Linear:
    """Two points ±x with means ±mu and weight 1; ``factor`` is des_std / Std for des_std = f mu."""
    return linear(1.0, noise, x, mean, variance, factor)


def _example_words(x: float, noise: float, mean: float, variance: float, f: float) -> str:
    terms = example(x, noise, mean, variance, f)
    return (
        f"x = ±{x:g}, decoder N(z, {noise:g}²), q = N(±{mean:g}, {variance:g}), f = {f:g}: "
        f"L_scale {terms.objective:.4f} is above log p(x) {terms.evidence_unit:.4f} "
        f"(prior 1) and {terms.evidence_scaled:.4f} (prior f²)"
    )


_QUARTERS = steps(1, 16, 4)


@S6.search_printed(
    st.tuples(_QUARTERS, _QUARTERS, _QUARTERS, steps(1, 4, 4), steps(2, 10)), _example_words
)
def _(*case: float) -> bool:
    """L_scale ≤ log p(x) under one of the two priors, two points and f > 1"""
    terms = example(*case)
    return terms.objective > max(terms.evidence_unit, terms.evidence_scaled) + 1e-6


# --- S7, the factor -------------------------------------------------------------------------------


def head_of(dimensions: int, des_std: float, ddof: int) -> ScaledHead:
    """The module that trains, with weights that hand its input on as the means."""
    choice = Scaled(des_std, average=MeanOfFactors(), ddof=ddof)
    head = ScaledHead(dimensions, dimensions, choice).double()
    both = torch.cat([torch.eye(dimensions), torch.zeros(dimensions, dimensions)])
    head.linear.weight.data.copy_(both)
    return head


def batch_factor(mean: Array, des_std: float, ddof: int) -> Array:
    """Factors (D,) that the code that trains gives a batch of means (B, D)."""
    with torch.no_grad():
        q = head_of(mean.shape[1], des_std, ddof)(torch.from_numpy(np.asarray(mean, dtype=float)))
    return np.asarray(q.factor.numpy())


def average_factor(batches: list[Array], des_std: float, ddof: int) -> Array:
    """Factors (D,) that the code that trains uses in the second epoch."""
    head = head_of(batches[0].shape[1], des_std, ddof)
    with torch.no_grad():
        for batch in batches:
            head(torch.from_numpy(batch))
    head.begin_update(Progress(len(batches), len(batches)))
    return np.asarray(head.factor.numpy())


S7 = stated(
    "S7",
    Formulas(ddof=1.0, measured=1.0, mean_power=-1.0),
    {"ddof": 0.0, "measured": 0.0, "mean_power": 1.0},
)


@S7.symbolic
def _(c: Formulas) -> Facts:
    """variance of three scaled means; average factor of two batches; its excess"""
    m, wanted = sympy.symbols("m:3", real=True), sympy.Symbol("d", positive=True)
    squares = sum((value - sum(m) / 3) ** 2 for value in m)
    factor_squared = wanted**2 / (squares / (3 - sympy.Rational(c.ddof)))
    measured = factor_squared * squares / (3 - sympy.Rational(c.measured))
    s, power = sympy.symbols("s:2", positive=True), sympy.Rational(c.mean_power)
    average = (wanted / s[0] + wanted / s[1]) / 2
    return (
        (measured, wanted**2),
        (average, wanted / ((s[0] ** power + s[1] ** power) / 2) ** (1 / power)),
        (average * (s[0] + s[1]) / 2 - wanted, wanted * (s[0] - s[1]) ** 2 / (4 * s[0] * s[1])),
    )


def _chi_moment(degrees: float, power: float) -> float:
    """E[chi^power] for that many degrees of freedom."""
    log = 0.5 * power * math.log(2.0) + gammaln(0.5 * (degrees + power)) - gammaln(0.5 * degrees)
    return math.exp(log)


@S7.sampled
def _(c: Formulas) -> Means:
    """average factor of batches of 8 Gaussian means, and Std of scaled means with it"""
    size, spread, wanted = 8, 0.3, 0.7
    mean = spread * np.random.default_rng(10).normal(size=(DRAWS // size, size))
    std = mean.std(1, ddof=1)
    unit = spread / math.sqrt(size - c.ddof)
    average = wanted / (unit * _chi_moment(size - 1, c.mean_power) ** (1.0 / c.mean_power))
    after = average * spread * _chi_moment(size - 1, 1.0) / math.sqrt(size - c.measured)
    harmonic = wanted / (spread * _chi_moment(size - 1, -1.0) ** -1.0 / math.sqrt(size - 1))
    return (average, wanted / std), (after, harmonic * std)


_BATCH = st.lists(st.integers(-16, 16), min_size=2, max_size=6).map(
    lambda values: np.asarray(values, dtype=float)[:, None] / 8.0
)


@S7.search(
    st.lists(_BATCH, min_size=1, max_size=4),
    lambda batches: f"batches {[batch[:, 0].tolist() for batch in batches]}",
    200,
)
def _(c: Formulas, batches: list[Array]) -> bool:
    """Std of scaled means, and the average factor, in the code that trains"""
    wanted, first = 0.75, batch_factor(batches[0], 0.75, int(c.ddof))
    if np.ptp(batches[0]) == 0.0:  # a batch without spread leaves f as it was
        return bool(first[0] != 1.0)
    after = float((first * batches[0]).std(ddof=int(c.measured)))
    varied = [batch for batch in batches if np.ptp(batch) > 0.0]
    stds = np.array([batch.std(ddof=int(c.measured)) for batch in varied])
    average = float(average_factor(batches, wanted, int(c.ddof))[0])
    claimed = wanted / float((stds**c.mean_power).mean() ** (1.0 / c.mean_power))
    low = average * stds.mean() < wanted * (1.0 - ROUNDING)
    return apart(wanted, after) or apart(claimed, average) or bool(low)


STATEMENTS = (S2, S3, S4, S5A, S5, S6, S7)
