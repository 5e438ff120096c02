"""Questions asked of a trained model: likelihood, mutual information, the true posterior.

All results are in nats.
Randomness comes from the ``torch.Generator`` passed in, and from nowhere else.
Every Monte Carlo answer carries its standard error and the number it depends on.
"""

from posterior_collapse.estimators.estimate import Estimate
from posterior_collapse.estimators.evaluation import (
    Evaluated,
    Evaluation,
    evaluate,
    evaluate_each,
)
from posterior_collapse.estimators.information import aggregate_kl, mutual_information
from posterior_collapse.estimators.likelihood import (
    SEQUENCES_PER_CALL,
    count_tokens,
    evaluating,
    importance_weighted_nll,
    perplexity,
)
from posterior_collapse.estimators.quadrature import Moments, posterior_moments_1d
from posterior_collapse.estimators.scaled import (
    ScaleBalance,
    ScaledEvaluation,
    evaluate_scaled,
    scale_balance,
)
from posterior_collapse.estimators.windows import NODES_PER_CALL
from posterior_collapse.objectives import Model

__all__ = [
    "NODES_PER_CALL",
    "SEQUENCES_PER_CALL",
    "Estimate",
    "Evaluated",
    "Evaluation",
    "Model",
    "Moments",
    "ScaleBalance",
    "ScaledEvaluation",
    "aggregate_kl",
    "count_tokens",
    "evaluate",
    "evaluate_each",
    "evaluate_scaled",
    "evaluating",
    "importance_weighted_nll",
    "mutual_information",
    "perplexity",
    "posterior_moments_1d",
    "scale_balance",
]
