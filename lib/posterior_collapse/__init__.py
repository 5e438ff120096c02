"""Posterior collapse in variational autoencoders: models, estimators, runs and pages."""

__version__ = "0.1.0"
