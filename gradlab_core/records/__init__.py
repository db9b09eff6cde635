"""Records: what was measured, frozen, and its JSON.

No definition of a number and no judgement of it. Imports errors, files and text, and no other room.

Four things are never mixed up: a number (which may be zero), NaN, ±Inf, and *missing*, which is None.
"""

from gradlab_core.records.derivatives import ChainRule, DerivativeCheck, DerivativeRow, LayerFactor
from gradlab_core.records.finding import Finding, Severity
from gradlab_core.records.model import (
    MODES,
    ActivationSummary,
    Answers,
    ArchitectureRecord,
    GradientFlow,
    HiddenStateNorms,
    LayerStats,
    Mode,
    NonfiniteOrigin,
    Probe,
    TensorStats,
    Verdict,
)
from gradlab_core.records.notebook import Rows
from gradlab_core.records.ordering import RecordedRun
from gradlab_core.records.step import (
    EpochRecord,
    GradientState,
    QuantityValues,
    StepRecord,
    TensorNorms,
    TrainingRecord,
)

__all__ = [
    "MODES",
    "ActivationSummary",
    "Answers",
    "ArchitectureRecord",
    "ChainRule",
    "DerivativeCheck",
    "DerivativeRow",
    "EpochRecord",
    "Finding",
    "GradientFlow",
    "GradientState",
    "HiddenStateNorms",
    "LayerFactor",
    "LayerStats",
    "Mode",
    "NonfiniteOrigin",
    "Probe",
    "QuantityValues",
    "RecordedRun",
    "Rows",
    "Severity",
    "StepRecord",
    "TensorNorms",
    "TensorStats",
    "TrainingRecord",
    "Verdict",
]
