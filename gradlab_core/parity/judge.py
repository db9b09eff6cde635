"""The judgement: do two models train the same, and if not, where do they first differ?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.parity import tolerance
from gradlab_core.parity.trace import Key, Subject, Trace


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One tensor of one step. Errors are relative to the oracle, norm-wise, and None where there is no tensor to
    compare: both sides say that there is no gradient path, or `missing` says which side lacks what."""

    step: int
    quantity: str
    path: str
    call: int
    logic_error: float | None
    logic_tolerance: float | None
    reference_error: float | None
    candidate_error: float | None
    reference_tolerance: float | None
    candidate_tolerance: float | None
    missing: str | None

    @property
    def problem(self) -> str | None:
        """What is wrong, worst first; None when the tensor passes."""
        if self.missing is not None or self.logic_error is None:
            return self.missing
        checks = (
            (self.logic_error, self.logic_tolerance, "another definition: differs in float64"),
            (self.candidate_error, self.candidate_tolerance, "the candidate rounds worse: float32 error"),
            (self.reference_error, self.reference_tolerance, "the reference rounds worse: float32 error"),
        )
        for error, limit, words in checks:
            # Negated, so that a NaN fails; and what is infinite is a fault whatever the limit.
            if error is None or limit is None or not (error <= limit and math.isfinite(error)):
                return f"{words} {error:.2e}, at most {limit:.1e}"
        return None

    @property
    def name(self) -> str:
        return f"step {self.step}, {Key(self.quantity, self.path, self.call)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All rows, in the order in which they were computed."""

    rows: tuple[ParityRow, ...]

    @property
    def failures(self) -> tuple[ParityRow, ...]:
        return tuple(row for row in self.rows if row.problem)

    @property
    def first_divergence(self) -> ParityRow | None:
        """Where the trouble starts: everything before it agrees."""
        return next(iter(self.failures), None)

    @property
    def unresolved(self) -> tuple[ParityRow, ...]:
        """Tensors without a correct digit in float32 even in the reference: only their magnitude is compared."""
        return tuple(row for row in self.rows if (row.reference_error or 0.0) > tolerance.NO_DIGIT)

    def worst(self, field: str) -> float:
        """The largest of `logic_error`, `reference_error`, `candidate_error` where float32 has digits to compare."""
        dark = set(self.unresolved)
        found = (getattr(row, field) for row in self.rows if row not in dark)
        return max((e for e in found if e is not None), default=math.nan)

    def __str__(self) -> str:
        failures = self.failures
        lost = (
            f" ({len(self.unresolved)} without a digit in float32, compared in magnitude only)"
            if self.unresolved
            else ""
        )
        head = (
            f"{len(self.rows)} tensors compared{lost}; largest difference in float64 {self.worst('logic_error'):.1e}, "
            f"largest float32 error {self.worst('reference_error'):.1e} (reference) and "
            f"{self.worst('candidate_error'):.1e} (candidate)"
        )
        if not failures:
            return f"parity holds: {head}"
        lines = [f"  {row.name}: {row.problem}" for row in failures[:10]]
        more = [f"  … and {len(failures) - 10} more"] if len(failures) > 10 else []
        return "\n".join([f"parity broken at {failures[0].name}: {len(failures)} of {head}", *lines, *more])


def compare(
    reference: Subject, candidate: Subject, batch: tuple[np.ndarray, np.ndarray], *, steps: int = 3
) -> ParityReport:
    """Train both from the reference's weights on one batch, and compare every tensor of every step.

    Four runs go in step: each subject in float64 and in its own float32. Only one step's tensors are held at a time.

    Args:
        reference, candidate: a `Subject` of either twin; neither is changed.
        batch: canonical `(x, y)`, the same for both.
        steps: training steps, in train mode.

    Raises:
        GradlabError: weights that do not fit, or a batch or weights in which an error could hide.
    """
    x, y = batch
    if steps < 1:
        raise GradlabError(f"steps is {steps}; expected at least 1")
    start = reference.state()
    refuse_hiding_places(x, start)
    runs = [subject.cast(dtype) for dtype in ("float64", "float32") for subject in (reference, candidate)]
    for run in runs:
        run.load(start)
    rows: list[ParityRow] = []
    switched = 0.0  # a unit that switched once leaves its mark on the weights of all later steps
    for step in range(steps):
        traces = [run.step(x, y, step) for run in runs]
        found, switched = _judge_step(step, traces, switched)
        rows += found
    return ParityReport(rows=tuple(rows))


def assert_parity(
    reference: Subject, candidate: Subject, batch: tuple[np.ndarray, np.ndarray], *, steps: int = 3
) -> ParityReport:
    """`compare`, and an AssertionError that names the first divergence if there is one."""
    report = compare(reference, candidate, batch, steps=steps)
    if report.failures:
        raise AssertionError(str(report))
    return report


def moved(weights: dict[str, np.ndarray], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights moved a little at random, as a few training steps would: no zero bias and no unit scale in which an error
    could hide. Running variances stay positive.

    >>> bool(moved({"bn.bias": np.zeros(3, np.float32)})["bn.bias"].all())
    True
    """
    rng = np.random.default_rng(seed)
    noise = {path: 0.05 * rng.standard_normal(w.shape) for path, w in weights.items()}
    return {
        path: (w + (np.abs(noise[path]) if path.endswith("running_var") else noise[path])).astype(w.dtype)
        for path, w in weights.items()
    }


def refuse_hiding_places(x: np.ndarray, weights: dict[str, np.ndarray]) -> None:
    """Refuse inputs under which different programs give equal results: a constant image looks the same flipped,
    transposed or shifted."""
    problems = []
    flat = np.asarray(x).reshape(len(x), -1)
    if flat.dtype.kind == "f":
        if not np.isfinite(flat).all():
            problems.append("the batch holds NaN or Inf; expected finite numbers")
        elif len(np.unique(flat)) < 0.5 * flat.size:
            problems.append(
                "over half the inputs are ties (all ones, zeros, …); expected values that differ: add noise"
            )
    if len(x) < 2:
        problems.append("the batch holds one example; expected at least two, so that a mix-up of examples shows")
    idle = [p for p, w in weights.items() if p.endswith("bias") and not np.any(w)]
    if idle:
        problems.append(
            f"the bias {idle[0]} is all zeros, so a lost one looks the same; expected weights that have moved: "
            "load gradlab_core.parity.moved(weights)"
        )
    square = [w for p, w in weights.items() if p.endswith("weight") and w.ndim > 1 and w.shape[0] == w.shape[1] > 1]
    if any(np.array_equal(w, np.swapaxes(w, 0, 1)) for w in square):
        problems.append("a square weight is symmetric, so a transposed one looks the same; expected random weights")
    refuse("parity inputs", problems)


_ERRORS = ("logic_error", "reference_error", "candidate_error")


def _judge_step(step: int, traces: list[Trace], switched: float) -> tuple[list[ParityRow], float]:
    oracle, candidate64, reference32, candidate32 = traces
    known = [{key.quantity for key in trace} for trace in (oracle, candidate64)]
    keys = [
        key
        for key in [*oracle, *(key for key in candidate64 if key not in oracle)]
        # A subject may not know these of an optimizer that is not gradlab's; then nobody is asked for them.
        if key.quantity not in ("learning_rate", "optimizer") or all(key.quantity in side for side in known)
    ]
    errors: dict[Key, dict[str, float]] = {}
    before = switched
    for key in keys:
        values = [trace.get(key) for trace in (candidate64, reference32, candidate32)]
        truth = oracle.get(key)
        there = [value for value in values if value is not None]
        if truth is None or len(there) < len(values):
            continue
        errors[key] = {
            name: tolerance.error(value, truth, noise=there[1]) for name, value in zip(_ERRORS, there, strict=True)
        }
        if key.quantity == "activation":
            switched += max(tolerance.switched_units(value, truth) for value in there[1:])
    least = tolerance.floor(_longest_sum(oracle))
    rows = []
    for key in keys:
        # Activations are continuous: what switches at this step shows in its gradients and in later steps.
        kink = tolerance.kink_floor(before if _family(key) == "activation" else switched)
        limits = _limits(key, errors, max(least, kink)) if key in errors else {}
        where = {"step": step, "quantity": key.quantity, "path": key.path, "call": key.call}
        numbers = {**dict.fromkeys((*_ERRORS, *_LIMITS)), **errors.get(key, {}), **limits}
        missing = None if key in errors else _missing(key, oracle, candidate64)
        rows.append(ParityRow(**where, **numbers, missing=missing))  # type: ignore[arg-type]
    return rows, switched


_LIMITS = ("logic_tolerance", "reference_tolerance", "candidate_tolerance")


def _limits(key: Key, errors: dict[Key, dict[str, float]], least: float) -> dict[str, float]:
    own = errors[key]
    family = [e for k, e in errors.items() if _family(k) == _family(key)]

    def against(side: str) -> float:
        usual = float(np.median([e[side] for e in family]))
        return tolerance.rounding_tolerance(own[side], usual, own["logic_error"], least)

    return {
        "logic_tolerance": tolerance.logic_tolerance(own["reference_error"]),
        "reference_tolerance": against("candidate_error"),
        "candidate_tolerance": against("reference_error"),
    }


def _missing(key: Key, oracle: Trace, candidate: Trace) -> str | None:
    """None when both sides agree that there is no gradient path. A path along which all is exactly 0 (through `round`
    or `sign`) is one in PyTorch and none in JAX; nothing follows from it."""
    if all(key in trace and (trace[key] is None or not np.any(trace[key])) for trace in (oracle, candidate)):
        return None
    sides = [
        "is absent" if key not in trace else "has no gradient path" if trace[key] is None else "has a value"
        for trace in (oracle, candidate)
    ]
    return None if sides[0] == sides[1] else f"{sides[0]} in the reference, {sides[1]} in the candidate"


def _family(key: Key) -> str:
    """Quantities whose errors are of one size: logits and loss belong to the activations they come from."""
    return "activation" if key.quantity in ("logits", "loss") else key.quantity


def _longest_sum(trace: Trace) -> int:
    """The longest sum of a training step: over the batch and all positions of one channel."""
    activations = [v for k, v in trace.items() if k.quantity == "activation" and v is not None and v.ndim > 1]
    return max((v.size // v.shape[1] for v in activations), default=1)
