"""The published rules of other tools, over the same records: which codes each would raise, in our words.

They are judged by what a record holds. Where that is not what they measure, the comment says what stands in for it:
a norm over n elements gives the root mean square, norm/√n, and for a normal distribution the mean of |x| (0.80 of it),
the distance of the 5th and 95th percentile (3.29 of it) and about the largest of n elements (√(2·ln n) of it).
A rule whose quantity is in no record is left out, by name.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gradlab_core.records import LayerStats, StepRecord

Records = Sequence[StepRecord]
Tool = Callable[[Records], set[str]]

_MEAN, _PERCENTILES = math.sqrt(2 / math.pi), 3.29


def sagemaker_debugger(records: Records) -> set[str]:
    """Amazon SageMaker Debugger's built-in rules with their defaults.

    Left out: saturation (inputs of tanh beyond ±9.5, of a sigmoid beyond −23 and 17: records hold outputs).
    """
    codes = set()
    if any(_MEAN * rms < 1e-7 for _, rms, _ in _gradients(records)):
        codes.add("vanishing-gradient")
    if any(not math.isfinite(v) for r in records for v in _numbers(r)):
        codes.add("nonfinite-loss")  # its rule is called exploding tensor, and looks for NaN and Inf alone
    # A unit that is on for less than 1 % of a batch of at most 64 is never on.
    if any((row.dead_unit_frac or 0.0) > 0.5 for row in _rows(records)):
        codes.add("dead-relu")
    first = [r for r in records if r.step < 10]
    variances = [row.std**2 for row in _rows(first) if row.std > 0]
    if variances and max(variances) / min(variances) > 10:
        codes.add("poor-initialisation")
    if any(_PERCENTILES * rms < 1e-3 for _, rms, _ in _gradients(first)):
        codes.add("poor-initialisation")
    ratios = [t.ratio for r in records for t in r.tensors.values() if math.isfinite(t.ratio)]
    if any(ratio > 10 for ratio in ratios):
        codes.add("learning-rate-too-high")
    if any(ratio < 1e-8 for ratio in ratios):
        codes.add("not-updating")
    # allclose at a relative 1e-5 is of elements; the norms of tensor and update stand for them.
    if any(_longest(ratios, below=1e-5) >= 3 for ratios in _ratios(records).values()):
        codes.add("not-updating")
    losses = [r.loss for r in records if r.loss is not None and r.step % 10 == 0]
    if any(not after < before for before, after in itertools.pairwise(losses)):
        codes.add("loss-plateau")
    return codes


def autotrainer(records: Records) -> set[str]:
    """AutoTrainer (Zhang et al. 2021).

    Left out: oscillation and slow convergence, which are of accuracy. Its other alarms are raised only if the accuracy
    is below 0.6; the loss of a net that gives the right class 0.6 stands in for that, for a regression no fall by 1 %.
    """
    losses = [r.loss for r in records if r.loss is not None]
    end = statistics.median(losses[-10:]) if losses else math.nan
    classes = next((r.probe.classes for r in records if r.probe is not None), None)
    if math.isfinite(end) and (end < -math.log(0.6) if (classes or 0) > 1 else end < 0.99 * losses[0]):
        return set()
    codes = set()
    for first, last in _ends(records):
        if not math.isfinite(first):
            codes.add("exploding-gradient")
        elif last > 0:
            codes |= {"exploding-gradient"} if first / last > 70 else set()
            codes |= {"vanishing-gradient"} if first / last < 1e-3 and first < 1e-4 else set()
    # Of a dead unit the whole row of the gradient is 0: the share of dead units is that of zeros in the gradient.
    if any((row.dead_unit_frac or 0.0) >= 0.7 for row in _rows(records)):
        codes.add("dead-relu")
    return codes


def deep_diagnosis(records: Records) -> set[str]:
    """DeepDiagnosis (Wardat et al. 2022).

    Left out: saturation of tanh (|x| ≥ 5, where it is 0.9999: records count from 0.98).
    """
    codes = set()
    if any(row.kind == "relu" and row.zero_frac >= 0.7 for row in _rows(records)):  # after a ReLU, x ≤ 0 is 0
        codes.add("dead-relu")
    # A sigmoid is within 1 % of a bound from |x| = 4.6 on.
    if any(row.kind == "sigmoid" and (row.saturated_frac or 0.0) > 0.5 for row in _rows(records)):
        codes.add("saturated-activation")
    if any(_MEAN * rms < 1e-7 for _, rms, _ in _gradients(records)):
        codes.add("vanishing-gradient")
    if any(not math.isfinite(v) for r in records for v in _numbers(r)):
        codes.add("nonfinite-loss")
    shapes = _sizes(records)
    for record in records[:1]:
        variances = [t.param**2 / shapes[p] for p, t in record.tensors.items() if p in shapes and "weight" in p]
        if any(not 1e-5 <= v <= 10 for v in variances):
            codes.add("poor-initialisation")
    for record in records:
        for tensor in record.tensors.values():
            if record.learning_rate is not None and math.isfinite(tensor.ratio) and tensor.param > 0:
                value = record.learning_rate * tensor.ratio
                codes |= {"learning-rate-too-low"} if value < 1e-5 else set()
                codes |= {"learning-rate-too-high"} if value > 1e-1 else set()
    return codes


def torchmortem(records: Records) -> set[str]:
    """torchmortem's detectors with their defaults; saturation from |x| = 0.98 on, where it has 0.95."""
    codes = set()
    ends = [(first, last) for first, last in _ends(records) if math.isfinite(first) and first > 0]
    if ends and statistics.median(last / first for first, last in ends) >= 100:
        codes.add("vanishing-gradient")
    if any(not math.isfinite(r.grad_norm) or r.grad_norm >= 1000 for r in records):
        codes.add("exploding-gradient")
    if any(r.loss is not None and not math.isfinite(r.loss) for r in records):
        codes.add("nonfinite-loss")
    for ratios in _ratios(records).values():
        moved = [ratio for ratio in ratios if ratio != 0 and math.isfinite(ratio)]  # it drops updates that are 0
        if moved:
            codes |= {"learning-rate-too-low"} if statistics.median(moved) < 1e-5 else set()
            codes |= {"learning-rate-too-high"} if statistics.median(moved) > 1e-1 else set()
    if any(row.kind == "relu" and row.zero_frac > 0.5 for row in _rows(records)):
        codes.add("dead-relu")
    if any((row.saturated_frac or 0.0) > 0.5 for row in _rows(records)):
        codes.add("saturated-activation")
    losses = [r.loss for r in records if r.loss is not None]
    if any(_flat(losses[i : i + 20], 1e-5) for i in range(len(losses) - 19)):
        codes.add("loss-plateau")
    return codes


def torchlens(records: Records) -> set[str]:
    """TorchLens: the norm of each gradient."""
    codes = set()
    for norm, _, _ in _gradients(records):
        codes |= {"vanishing-gradient"} if norm < 1e-7 else set()
        codes |= {"exploding-gradient"} if norm > 1e4 else set()
    if any(not math.isfinite(v) for r in records for v in _numbers(r)):
        codes.add("nonfinite-gradient")
    return codes


def dlcheck(records: Records) -> set[str]:
    """DLCheck: the norm of each gradient, and dead units."""
    codes = {"vanishing-gradient"} if any(norm < 1e-7 for norm, _, _ in _gradients(records)) else set()
    if any(not r.grad_norm <= 1e6 for r in records):
        codes.add("exploding-gradient")
    if any((row.dead_unit_frac or 0.0) >= 0.95 for row in _rows(records)):
        codes.add("dead-relu")
    return codes


def torchdiag(records: Records) -> set[str]:
    """torchdiag: the largest element of each gradient."""
    codes = set()
    for _, rms, size in _gradients(records):
        largest = rms * math.sqrt(2 * math.log(size)) if size > 2 else rms
        codes |= {"exploding-gradient"} if largest > 100 else set()
        codes |= {"vanishing-gradient"} if largest < 1e-7 else set()
    if any(not math.isfinite(r.grad_norm) for r in records):
        codes.add("nonfinite-gradient")
    return codes


def torch_audit(records: Records) -> set[str]:
    """torch-audit: the global norm."""
    return {"exploding-gradient"} if any(not r.grad_norm <= 100 for r in records) else set()


def six_sigma(records: Records) -> set[str]:
    """OLMo-core and MaxText: a loss or gradient norm beyond the rolling mean and six standard deviations of 128 steps,
    from half a window on. A NaN is beyond nothing."""
    for values in ([r.loss for r in records if r.loss is not None], [r.grad_norm for r in records]):
        for i in range(64, len(values)):
            window = np.array(values[max(0, i - 128) : i])
            if np.isfinite(window).all() and values[i] > window.mean() + 6 * window.std():
                return {"exploding-gradient"}
    return set()


def megatron(records: Records) -> set[str]:
    """Megatron: a loss or gradient norm of ten times the largest of the first 100."""
    for values in ([r.loss for r in records if r.loss is not None], [r.grad_norm for r in records]):
        if any(value > 10 * max(values[:100]) for value in values[100:]):
            return {"exploding-gradient"}
    return set()


def practice(records: Records) -> set[str]:
    """The rule of thumb, update/weight about 1e-3: here a decade around it, for the median of the run."""
    ratios = [r.update_ratio for r in records if math.isfinite(r.update_ratio)]
    usual = statistics.median(ratios) if ratios else math.inf
    return {"learning-rate-too-low"} if usual < 1e-4 else {"learning-rate-too-high"} if usual > 1e-2 else set()


def source_texts(records: Records) -> set[str]:
    """The texts on norm reports that this project began with: norm below 1e-4 or a loss at ln 2, norm above 100 or NaN.

    Left out: the accuracy of one half beside ln 2.
    """
    codes = set()
    if any(r.grad_norm < 1e-4 for r in records):
        codes.add("vanishing-gradient")
    if any(not r.grad_norm <= 100 for r in records):
        codes.add("exploding-gradient")
    losses = [r.loss for r in records if r.loss is not None]
    if any(not math.isfinite(loss) for loss in losses):
        codes.add("nonfinite-loss")
    two = next((r.probe.classes == 2 for r in records if r.probe is not None), False)
    if two and losses and abs(statistics.median(losses[-10:]) - math.log(2)) < 0.01:
        codes.add("loss-plateau")
    return codes


TOOLS: Mapping[str, Tool] = {
    "SageMaker Debugger": sagemaker_debugger,
    "AutoTrainer": autotrainer,
    "DeepDiagnosis": deep_diagnosis,
    "torchmortem": torchmortem,
    "TorchLens": torchlens,
    "DLCheck": dlcheck,
    "torchdiag": torchdiag,
    "torch-audit": torch_audit,
    "OLMo-core, MaxText (6σ)": six_sigma,
    "Megatron (10×)": megatron,
    "update ratio about 1e-3": practice,
    "source texts": source_texts,
}


def _sizes(records: Records) -> dict[str, int]:
    """Elements of every parameter, from a probe."""
    probe = next((r.probe for r in records if r.probe is not None), None)
    return {} if probe is None else {path: math.prod(shape) for path, shape in probe.shapes.items()}


def _gradients(records: Records) -> Iterator[tuple[float, float, int]]:
    """Norm, root mean square and size of every finite gradient at every step. A missing one is no gradient."""
    sizes = _sizes(records)
    for record in records:
        for path, tensor in record.tensors.items():
            if tensor.grad is not None and math.isfinite(tensor.grad) and path in sizes:
                yield tensor.grad, tensor.grad / math.sqrt(sizes[path]), sizes[path]


def _ends(records: Records) -> Iterator[tuple[float, float]]:
    """Norms of the first and the last weight's gradient at every step."""
    for record in records:
        weights = [t.grad for p, t in record.tensors.items() if "weight" in p and t.grad is not None]
        if len(weights) > 1:
            yield weights[0], weights[-1]


def _ratios(records: Records) -> dict[str, list[float]]:
    ratios: dict[str, list[float]] = {}
    for record in records:
        for path, tensor in record.tensors.items():
            ratios.setdefault(path, []).append(tensor.ratio)
    return ratios


def _rows(records: Records) -> Iterator[LayerStats]:
    return (row for r in records if r.probe is not None for row in r.probe.layers)


def _numbers(record: StepRecord) -> Iterator[float]:
    yield from (record.loss or 0.0, record.grad_norm, record.param_norm)


def _longest(values: Sequence[float], *, below: float) -> int:
    """The longest stretch of values below a limit."""
    longest = now = 0
    for value in values:
        now = now + 1 if value < below else 0
        longest = max(longest, now)
    return longest


def _flat(values: Sequence[float], share: float) -> bool:
    return all(map(math.isfinite, values)) and max(values) - min(values) <= share * abs(statistics.fmean(values))
