"""The figures of the page that explains collapse, from reference results and library calls."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import norm

from companion.claims import groups as benchmarks
from companion.claims import reference
from companion.lagging import mean_space
from companion.numbers import number
from companion.show import figure
from companion.show import figures as plots
from companion.show.theory import canvas
from posterior_collapse.estimators import aggregate_kl, mutual_information
from posterior_collapse.gaussian import kl_to_standard_normal


def four_states() -> str:
    """Where real runs lie in the posterior mean space."""
    basic, aggressive = (
        reference.results("lagging-synthetic", method, "paper")[0] for method in ("vae", "lagging")
    )
    states = mean_space.four_states(basic, aggressive)
    largest = {s.title: float(np.abs(s.model_mean).max()) for s in states}
    lag = states[1]
    caption = (
        "Four states of the same 500 sequences, each measured in a real run at the paper's scale. "
        f"In inference collapse the model's means reach {number(largest[lag.title], 2)} while the "
        f"encoder's stay within {number(float(np.abs(lag.inference_mean).max()), 2)} of 0."
    )
    alt = "Four groups of points: at the origin, along each axis, and along the diagonal."
    return str(figure(plots.map_figure(states), caption, alt).data)


_TARGETS = benchmarks.isotropic("medium").targets
# What holds the KL up, by name: the recipe and the methods whose runs are drawn.
_CURES = {
    "VAE": ("text-yelp", "vae"),
    "free bits": ("text-yelp", "free-bits(threshold=0.1)+anneal(start=0)"),
    "β-VAE, β = 0.4": ("text-yelp", "beta-vae(beta=0.4)"),
    "β-VAE, β = 0.2": ("text-yelp", "beta-vae(beta=0.2)"),
    "aggressive": ("text-yelp", "lagging+anneal(start=0)"),
    "target KL of 10 (SNLI)": ("igp-snli", _TARGETS[10].diagonal),
    "target KL of 15 (SNLI)": ("igp-snli", _TARGETS[15].diagonal),
}


def information() -> str:
    """KL against mutual information of real runs: what is right of the diagonal is wasted."""
    points = [
        (name, float(result.metrics["kl"]), float(result.metrics["mutual_information"]))
        for name, (recipe, method) in _CURES.items()
        for result in reference.results(recipe, method, "medium")
    ]
    drawn = plots.plane_figure({"": points}, "KL (nats per sentence)", "MI (nats)")
    axes = drawn.axes[0]
    most = max(kl for _, kl, _ in points)
    axes.plot([0, most], [0, most], "--", color=plots.COLOURS["guide"], zorder=0)
    wasted = max(points, key=lambda point: point[1] - point[2])
    caption = (
        "Trained models on real sentences, one point per seed. On the dashed line all of the KL is "
        f"information. Farthest from it is the {wasted[0]}: of {number(wasted[1], 1)} nats "
        f"{number(wasted[2], 2)} are information."
    )
    alt = "Scatter plot of mutual information against KL with the diagonal that bounds it."
    return str(figure(drawn, caption, alt).data)


# Means and one standard deviation of 64 made-up posteriors in one dimension.
_MADE = {
    "informative": (np.linspace(-1.9, 1.9, 64), 0.3),
    "collapsed": (np.zeros(64), 1.0),
    "KL without information": (np.full(64, 1.5), 0.6),
}


def aggregate() -> str:
    """Three made-up encoders: their posteriors, the aggregate, the prior, and the three numbers."""
    drawn, grid = canvas(10.0, 3.1, len(_MADE), sharey=True)
    z, sentences = np.linspace(-4, 4, 401), []
    for axes, (title, (means, std)) in zip(grid, _MADE.items(), strict=True):
        each = norm.pdf(z[:, None], means, std)
        axes.plot(z, each[:, ::9], color=plots.COLOURS["sky"], linewidth=0.8)
        axes.plot(z, each.mean(1), color=plots.COLOURS["aggregate"], linewidth=2.5)
        axes.plot(z, norm.pdf(z), "--", color=plots.COLOURS["kl"])
        mean = torch.tensor(means)[:, None]
        logvar = torch.full_like(mean, 2 * float(np.log(std)))
        generator = torch.Generator().manual_seed(0)
        parts = [
            float(kl_to_standard_normal(mean, logvar).mean()),
            float(mutual_information(mean, logvar, 2000, generator).value),
            float(aggregate_kl(mean, logvar, 2000, generator).value),
        ]
        kl, mi, rest = (f"{part:z.2f}" for part in parts)
        axes.set(title=f"{title}\nKL {kl}: MI {mi}, mismatch {rest}", xlabel="z", ylim=(0, 1.45))
        sentences.append(f"{title}: a KL of {kl} nats, of which {mi} are information")
    caption = (
        "Three made-up encoders of 64 observations in one dimension: some of the posteriors "
        f"(thin), their aggregate (thick) and the prior (dashed). {'; '.join(sentences)}. "
        "What remains is the distance of the aggregate from the prior."
    )
    alt = "Three panels of densities: spread and narrow, equal to the prior, equal and moved."
    return str(figure(drawn, caption, alt).data)
