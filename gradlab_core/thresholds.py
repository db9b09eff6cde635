"""Thresholds that hold for any net, each with its source."""

from __future__ import annotations

TINY_GRADIENT_RMS = 1e-7
"""A gradient whose root mean square is below this is called tiny. Source: Amazon SageMaker Debugger's and
DeepDiagnosis's vanishing-gradient rules (mean |g| < 1e-7); the root mean square bounds the mean from above."""

ANOMALY_WARM_UP = 20
ANOMALY_DECAY = 0.98
ANOMALY_LEAST_STD = 1e-3
"""The moving figures of the log gradient norm: scored from so many steps on, with a memory of about 50 steps, against a
standard deviation of at least 0.1 % (a gradient that hardly changes must not turn rounding into an alarm). Windows in
use elsewhere: 128 steps (OLMo-core, MaxText), 100 samples (Megatron)."""

ANOMALY_SCORE = 6.0
"""From so many standard deviations on a step is called an anomaly. Source: OLMo-core and MaxText, mean + 6σ."""

HEALTHY_UPDATE_RATIO = (1e-4, 1e-2)
"""Where ‖Δθ‖/‖θ‖ of a whole net lies in runs that learn: about 1e-3 in practice, a decade around it. A lead, not a law:
fine-tuning and the end of a schedule lie below."""
