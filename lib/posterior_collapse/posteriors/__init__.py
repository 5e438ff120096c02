"""Slot 1 of a method: the approximate posterior q(z|x).

A posterior is a frozen dataclass of choices with ``build(features, latent_dim)``.
That gives a module which turns encoder features (B, F) into a torch distribution
with batch shape (B,) and event shape (D,).
"""

from posterior_collapse.posteriors.distributions import (
    Delta,
    DiagonalNormal,
    Flowed,
    ScaledNormal,
    draw,
    gaussian_code,
)
from posterior_collapse.posteriors.flow import Flow, FlowHead
from posterior_collapse.posteriors.heads import (
    Constrained,
    ConstrainedHead,
    Diagonal,
    DiagonalHead,
    Isotropic,
    IsotropicHead,
    PointMass,
    PointMassHead,
    Posterior,
    SoftplusDiagonal,
    Spread,
    Untied,
    UntiedHead,
)
from posterior_collapse.posteriors.normed import (
    ALPHA,
    BatchNormed,
    BatchNormedHead,
    DiversityUncertainty,
    DiversityUncertaintyHead,
)
from posterior_collapse.posteriors.scaled import (
    LARGEST_FACTOR,
    Average,
    FactorOfMeanSpread,
    MeanOfFactors,
    OwnEpochs,
    OwnGradient,
    OwnPhase,
    OwnThroughout,
    OwnUpdates,
    Scaled,
    ScaledHead,
    batch_spread,
)

__all__ = [
    "ALPHA",
    "LARGEST_FACTOR",
    "Average",
    "BatchNormed",
    "BatchNormedHead",
    "Constrained",
    "ConstrainedHead",
    "Delta",
    "Diagonal",
    "DiagonalHead",
    "DiagonalNormal",
    "DiversityUncertainty",
    "DiversityUncertaintyHead",
    "FactorOfMeanSpread",
    "Flow",
    "FlowHead",
    "Flowed",
    "Isotropic",
    "IsotropicHead",
    "MeanOfFactors",
    "OwnEpochs",
    "OwnGradient",
    "OwnPhase",
    "OwnThroughout",
    "OwnUpdates",
    "PointMass",
    "PointMassHead",
    "Posterior",
    "Scaled",
    "ScaledHead",
    "ScaledNormal",
    "SoftplusDiagonal",
    "Spread",
    "Untied",
    "UntiedHead",
    "batch_spread",
    "draw",
    "gaussian_code",
]
