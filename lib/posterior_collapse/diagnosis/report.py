"""What a diagnosis returns: printed, drawn, saved as a page, or as a dictionary."""

from __future__ import annotations

import html
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from posterior_collapse.diagnosis.measures import Latent, Measure
from posterior_collapse.diagnosis.rules import Advice, Finding
from posterior_collapse.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {  # measure -> its name and unit, in the order of the report
    "kl": "KL(q(z|x) || p(z)), nats",
    "mutual_information": "mutual information I(x; z), nats",
    "aggregate_kl": "KL(aggregated posterior || prior), nats",
    "active_units": "active units",
    "active_rank": "active directions (rank)",
    "mutual_posterior_divergence": "mutual posterior divergence, nats",
    "conditional_entropy": "conditional entropy of the posterior, nats",
    "nll": "NLL (importance-weighted), nats",
    "elbo_loss": "-ELBO, nats",
    "elbo_gap": "-ELBO less NLL, nats",
    "reconstruction": "reconstruction, nats",
    "own_code": "cost of another example's code, nats",
    "model_moves": "KL(p(z|x) || p(z)) of the decoder, nats",
    "kl_weight_of_std": "KL weight that the widths are right for",
    "kl_weight_of_means": "KL weight that the means are right for",
}
_MOST_BARS = 64  # of KL by dimension that a page shows
_STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
.finding{border-left:.4rem solid #0072b2;padding:.2rem 1rem}
.bad .finding{border-color:#d55e00}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem}
td:nth-child(n+2),th:nth-child(n+2){text-align:right;font-variant-numeric:tabular-nums}
tr+tr{border-top:1px solid #8886}svg{width:100%;height:auto}rect{fill:#0072b2}
text{font:12px system-ui,sans-serif;fill:currentColor}
@media(prefers-color-scheme:dark){rect{fill:#56b4e9}}
"""


@dataclass(frozen=True)
class Report:
    """A diagnosis: what was measured, what it means, and what it can't tell."""

    findings: tuple[Finding, ...]  # the gravest first; "healthy" alone where nothing is wrong
    advice: tuple[Advice, ...]
    limits: tuple[str, ...]
    latent: Latent
    decoder: dict[str, Measure]  # empty without log p(x|z)

    @property
    def kind(self) -> str:
        """Name of the gravest finding, such as ``inference-collapse``, or ``healthy``."""
        return self.findings[0].kind

    @property
    def measures(self) -> dict[str, Measure]:
        """Every measured number with its standard error, in the order of the report."""
        both = {**self.latent.measures, **self.decoder}
        return {name: both[name] for name in _NAMES if name in both}

    def __str__(self) -> str:
        """The report as text."""
        lines = [f"Finding: {self.findings[0].sentence}."]
        lines += [f"  Also: {finding.sentence}." for finding in self.findings[1:]]
        lines += ["", *(f"  {_NAMES[name]:46} {_pair(m)}" for name, m in self.measures.items())]
        lines += [f"  {self._sizes()}"]
        lines += [f"Suggested: {one.text} (see {one.page})." for one in self.advice]
        lines += [f"Not told: {limit}." for limit in self.limits]
        return "\n".join(lines)

    def _sizes(self) -> str:
        latent = self.latent
        return (
            f"{latent.examples} examples, {len(latent.signal)} dimensions; MI over "
            f"{latent.points} of them, so at most {math.log(latent.points):.2f} nats"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings and lists, for JSON."""
        latent = self.latent

        def plain(values: torch.Tensor | None) -> list[float] | None:
            return None if values is None else values.tolist()

        return {
            "kind": self.kind,
            "findings": [finding._asdict() for finding in self.findings],
            "advice": [one._asdict() for one in self.advice],
            "limits": list(self.limits),
            "measures": {name: measure._asdict() for name, measure in self.measures.items()},
            "kl_per_dimension": plain(latent.kl),
            "kl_per_dimension_stderr": plain(latent.kl_stderr),
            "signal_per_direction": plain(latent.signal),
            "examples": latent.examples,
            "points": latent.points,
            "mutual_information_cap": math.log(latent.points),
        }

    def figure(self) -> Figure:
        """KL of each dimension and the signal of each direction, as bars.

        Raises:
            BadInput: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise BadInput(
                "report.figure() needs matplotlib (pip install matplotlib); report.save() does not"
            ) from error
        figure = Figure(figsize=(8.0, 3.0), layout="constrained")
        for axes, (title, label, values) in zip(figure.subplots(1, 2), self._panels(), strict=True):
            axes.bar(range(1, len(values) + 1), values, color="#0072B2")
            axes.set(title=title, xlabel=label, ylabel="nats")
        return figure

    def _panels(self) -> list[tuple[str, str, list[float]]]:
        """Two rows of bars, largest first: title, what is counted, and heights in nats."""
        kl = self.latent.kl
        per_dimension = [] if kl is None else kl.sort(descending=True).values.tolist()
        carried = (0.5 * torch.log1p(self.latent.signal)).tolist()
        return [
            ("KL by dimension", "dimension, largest first", per_dimension),
            ("What a direction can carry", "direction, largest first", carried),
        ]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML page that asks no other place for anything.

        Returns:
            The file.

        Raises:
            BadInput: the name doesn't end in .html, or the folder can't be written.
        """
        file = Path(path)
        if file.suffix.lower() not in (".html", ".htm"):
            raise BadInput(f"a report is saved as a page, so its name ends in .html: {file.name!r}")
        try:
            file.write_text(self._page(), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"can't write {file}: {error.strerror or error}") from error
        return file

    def _page(self) -> str:
        sentences = "".join(f"<p>{html.escape(f.sentence)}.</p>" for f in self.findings)
        rows = "".join(
            f"<tr><td>{html.escape(_NAMES[name])}</td><td>{_number(m.value)}</td>"
            f"<td>{'' if m.stderr is None else _number(m.stderr)}</td></tr>"
            for name, m in self.measures.items()
        )
        bars = "".join(_bars(*panel) for panel in self._panels() if panel[2])
        listed = "".join(
            f"<li>{html.escape(one.text)} ({html.escape(one.page)})</li>" for one in self.advice
        )
        suggested = f"<h2>What the papers suggest</h2><ul>{listed}</ul>" if listed else ""
        unknown = "".join(f"<li>{html.escape(limit)}</li>" for limit in self.limits)
        kind = "good" if self.kind == "healthy" else "bad"
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>Diagnosis: {html.escape(self.kind)}</title><style>{_STYLE}</style>"
            f'<body class="{kind}"><h1>Diagnosis of a VAE</h1><div class="finding">{sentences}'
            f"</div>{bars}<h2>Measured</h2><p>{html.escape(self._sizes())}.</p>"
            "<table><tr><th>measure</th><th>value</th><th>standard error</th></tr>"
            f"{rows}</table>{suggested}<h2>What this can't tell</h2><ul>{unknown}</ul></body>"
            "</html>\n"
        )


def _number(value: float) -> str:
    return f"{value:z.3f}" if abs(value) < 1e4 else f"{value:.3e}"


def _pair(measure: Measure) -> str:
    stderr = "" if measure.stderr is None else f" +- {_number(measure.stderr)}"
    return f"{_number(measure.value):>10}{stderr}"


def _bars(title: str, label: str, values: list[float]) -> str:
    """Bars as SVG, with a text that says what a reader of the picture sees."""
    shown, top = values[:_MOST_BARS], max(max(values), 1e-9)
    width = 600.0 / len(shown)
    drawn = "".join(
        f'<rect x="{40 + place * width:.1f}" y="{110 - 100 * max(v, 0.0) / top:.1f}" '
        f'width="{0.8 * width:.1f}" height="{100 * max(v, 0.0) / top:.1f}"/>'
        for place, v in enumerate(shown)
    )
    more = f", the first {_MOST_BARS} of {len(values)}" if len(values) > _MOST_BARS else ""
    alt = f"{title}: from {_number(values[0])} down to {_number(values[-1])} nats"
    return (
        f"<h2>{title}</h2>"
        f'<svg viewBox="0 0 640 130" role="img" aria-label="{html.escape(alt)}">{drawn}'
        f'<text x="36" y="18" text-anchor="end">{top:.2f}</text>'
        f'<text x="36" y="112" text-anchor="end">0</text>'
        f'<text x="340" y="127" text-anchor="middle">{html.escape(label + more)} (nats)</text>'
        "</svg>"
    )
