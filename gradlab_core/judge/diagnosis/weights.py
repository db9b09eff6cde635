"""Which of a run's parameters are weights, whether they start at 0, and whether they get gradients."""

from __future__ import annotations

from gradlab_core.judge.diagnosis.history import History
from gradlab_core.records import GradientState, StepRecord

_QUIET = frozenset({GradientState.TINY, GradientState.LOST, GradientState.ZERO})


def weight_paths(history: History) -> list[str]:
    """Weights of dense, convolutional and recurrent layers, in the order of the model: by their shape where a probe
    tells it, else by name."""
    paths = [path for path in history.order if path in history.early[0].tensors]
    if history.probes:
        shapes = history.probes[0][1].shapes
        return [path for path in paths if len(shapes.get(path, ())) > 1]
    return [path for path in paths if "bias" not in path.rpartition(".")[2]]


def starts_at_zero(history: History) -> bool:
    """Whether all weights are 0 at the first record, or all parameters of a run that trains no weights."""
    first = history.early[0].tensors
    return bool(first) and not any(first[path].param for path in weight_paths(history) or first)


def speaks(record: StepRecord) -> bool:
    """Whether some gradient is more than rounding, which is all that is left in weights that have settled (`tiny`)."""
    weights = [record.states[path] for path in record.tensors if path in record.states and "bias" not in path]
    return not weights or any(state not in _QUIET for state in weights)
