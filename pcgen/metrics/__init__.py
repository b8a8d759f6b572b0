"""Scores."""

from pcgen.metrics.latent import KLPerDimension

__all__ = ["KLPerDimension"]
