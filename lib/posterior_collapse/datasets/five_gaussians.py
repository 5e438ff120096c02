"""Sequences whose latent variable comes from five Gaussians: one in the centre, four around it.

DU-VAE (Shen et al. 2021, section 4.3 and figure 1) draws a latent z in two dimensions from a
mixture of five Gaussians and lets an LSTM write a text from it.  Its text does not say where the
Gaussians lie, how wide they are, or what the LSTM's weights are.  From its figure come one
component in the middle, four around it, and a true density that fits in [-3, 3] x [-3, 3].
From its public code and logs come 1,000 words and 16,000 training sequences.

Decided here: the four are at (+-2, +-2), where He et al. 2019 have theirs, and every component
has the standard deviation 0.5.  The nearest centre then names the component of nearly every z
(all but 1 in 200), so what a model merges was lost in learning.  The LSTM and everything else
are those of :mod:`posterior_collapse.datasets.synthetic`, with another seed.
"""

from __future__ import annotations

from posterior_collapse.datasets.synthetic import Mixture

CENTRES = ((0.0, 0.0), (-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))
SPREAD = 0.5  # standard deviation of every component in each dimension

_LABELS = ("centre", *(f"corner {centre}" for centre in CENTRES[1:]))
# The year of the paper is the seed; the authors' own draw is not available.
MIXTURE = Mixture("five-gaussians", 2021, CENTRES, SPREAD, _LABELS)
latents = MIXTURE.latents
