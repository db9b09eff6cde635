"""What the judgement found, tensor by tensor, and in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from gradlab_core.parity import tolerance
from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.causes import Fault
from gradlab_core.parity.correspondence.links import Correspondence
from gradlab_core.parity.trace import OF_LAYERS, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One tensor of one step. Errors are relative to the oracle, norm-wise, and None where there is no tensor to
    compare: both sides say that there is no gradient path, or `missing` says which side lacks what. A rounding
    tolerance is K·σ: K from the number of tensors, σ by perturbation (`reference_expected`, `candidate_expected`).
    """

    step: int
    quantity: str
    path: str
    call: int
    logic_error: float | None
    logic_tolerance: float | None
    reference_error: float | None
    candidate_error: float | None
    reference_expected: float | None
    candidate_expected: float | None
    reference_tolerance: float | None
    candidate_tolerance: float | None
    missing: str | None

    @property
    def problem(self) -> str | None:
        """What is wrong, worst first; None when the tensor passes."""
        if self.missing is not None or self.logic_error is None:
            return self.missing
        if not within(self.logic_error, self.logic_tolerance):
            return f"another definition: differs in float64 {self.logic_error:.2e}, at most {self.logic_tolerance:.1e}"
        for side in ("candidate", "reference"):
            error, limit = getattr(self, f"{side}_error"), getattr(self, f"{side}_tolerance")
            if not within(error, limit):
                expected = getattr(self, f"{side}_expected")
                return (
                    f"the {side} rounds worse: float32 error {error:.2e}, at most {limit:.1e} (expected {expected:.1e})"
                )
        return None

    @property
    def is_rounding(self) -> bool:
        """Whether the only problem is an error larger than rounding explains."""
        return bool(self.problem) and self.missing is None and within(self.logic_error, self.logic_tolerance)

    @property
    def is_saturated(self) -> bool:
        """Whether it fails in float64 by a limit taken from a spread in float32 that could not have been larger."""
        expected = max(self.reference_expected or 0.0, self.candidate_expected or 0.0)
        return (
            self.missing is None
            and not within(self.logic_error, self.logic_tolerance)
            and (expected > tolerance.SATURATES)
        )

    @property
    def key(self) -> Key:
        return Key(self.quantity, self.path, self.call)

    @property
    def name(self) -> str:
        return f"step {self.step}, {self.key}"


def within(error: float | None, limit: float | None) -> bool:
    """Whether an error is in order; NaN is not, and what is infinite is a fault whatever the limit."""
    return error is None or limit is None or (error <= limit and math.isfinite(error))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All rows, in the order in which they were computed.

    Attributes:
        rows: a row a tensor and step.
        arithmetic: what the reference and the candidate multiply in.
        explanation: the arithmetic that would explain what the candidate rounds worse, if one does.
        correspondence: which of the candidate's weights is which of the reference's.
        unpaired: tensors of layers that one side alone shows; they are not compared.
        faults: where the candidate is wrong by itself, each with its cause if one is known; found if the definitions
            differ and both subjects can run a step layer by layer.
    """

    rows: tuple[ParityRow, ...]
    arithmetic: tuple[Arithmetic, Arithmetic]
    explanation: Arithmetic | None = None
    correspondence: Correspondence | None = None
    unpaired: tuple[Key, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def failures(self) -> tuple[ParityRow, ...]:
        wrong = self._wrong
        return () if self._is_elsewhere(wrong) else wrong

    @property
    def elsewhere(self) -> tuple[ParityRow, ...]:
        """Layers' tensors that differ, while nothing that is computed from them does: each side shows another point of
        the same program, as where one writes an activation out and the other calls it."""
        wrong = self._wrong
        return wrong if self._is_elsewhere(wrong) else ()

    @property
    def _wrong(self) -> tuple[ParityRow, ...]:
        return tuple(row for row in self.rows if row.problem)

    def _is_elsewhere(self, wrong: tuple[ParityRow, ...]) -> bool:
        compared = {row.quantity for row in self.rows}
        return compared >= {"logits", "gradient", "parameter"} and all(
            row.quantity in OF_LAYERS and row.missing is None and not row.is_rounding for row in wrong
        )

    @property
    def first_divergence(self) -> ParityRow | None:
        """Where the trouble starts: everything before it agrees."""
        return next(iter(self.failures), None)

    @property
    def unresolved(self) -> tuple[ParityRow, ...]:
        """Tensors of which float32 is not expected to have a correct digit: only their magnitude is compared."""
        return tuple(row for row in self.rows if (row.reference_expected or 0.0) > tolerance.NO_DIGIT)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the arithmetic: where the sides differ in it, or it explains what was found."""
        reference, candidate = self.arithmetic
        notes = []
        if reference != candidate:
            coarse = min(reference, candidate, key=lambda a: a.bits)
            notes.append(
                f"the candidate multiplies in {candidate.words}, the reference in {reference.words}: expected "
                f"differences of {coarse.words.partition(' ')[2][1:-1]}"
            )
        elif candidate.name != "highest":
            notes.append(f"both sides multiply in {candidate.words}")
        if self.correspondence is not None and not self.correspondence.is_identity:
            notes.append(f"weights have other names or another layout: {len(self.correspondence.links)} links")
        if self.unpaired:
            layers = _some(key.path or "the model itself" for key in self.unpaired)
            notes.append(f"layers seen on one side only are not compared: {layers}")
        if self.elsewhere:
            notes.append(
                "taken at another point of the program, for nothing computed from it differs: "
                f"{_some(str(row.key) for row in self.elsewhere)}"
            )
        if self.explanation is not None:
            notes.append(
                f"products in {self.explanation.words} on the candidate's side would explain every failure: look at "
                "its matmul precision before its code, or judge with precision='as-is'"
            )
        return tuple(notes)

    def worst(self, field: str) -> float:
        """The largest of `logic_error`, `reference_error`, `candidate_error` where float32 has digits to compare."""
        dark = set(self.unresolved)
        errors = (getattr(row, field) for row in self.rows if row not in dark)
        return max((e for e in errors if e is not None), default=math.nan)

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
        notes = [f"  note: {note}" for note in self.notes]
        if not failures:
            return "\n".join([f"parity holds: {head}", *notes])
        lines = [f"  {row.name}: {row.problem}" for row in failures[:10]]
        told = [f"  fault {i}: {fault.words}" for i, fault in enumerate(self.faults[:10], 1)]
        told += [f"  … and {len(self.faults) - 10} more faults"] if len(self.faults) > 10 else []
        more = [f"  … and {len(failures) - 10} more"] if len(failures) > 10 else []
        return "\n".join(
            [f"parity broken at {failures[0].name}: {len(failures)} of {head}", *told, *lines, *more, *notes]
        )


def _some(names: Iterable[str]) -> str:
    """The first few of them, each once."""
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
