"""Thresholds that hold for any net, each with its source."""

from __future__ import annotations

TINY_GRADIENT_RMS = 1e-7
"""A gradient whose root mean square is below this is called tiny. Source: Amazon SageMaker Debugger's and
DeepDiagnosis's vanishing-gradient rules (mean |g| < 1e-7); the root mean square bounds the mean from above."""
