"""What came of holding derivatives against differences, and the factors of the chain rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated

from gradlab_core.records.model import Mode
from gradlab_core.records.ranges import Count, Norm, OneOf

STATUSES = ("wrong", "disconnected", "nonfinite", "random", "unclear", "float32", "kink", "right")
Status = Annotated[str, OneOf(STATUSES)]
_MEANS = {
    "wrong": "backpropagation has another derivative than the differences",
    "disconnected": "nothing comes back, although the output hangs on it: a detach, a stop_gradient, or zeros",
    "nonfinite": "a value or a derivative is NaN or Inf",
    "random": "two runs on the same numbers differ",
    "unclear": "the differences do not settle",
    "float32": "right as far as float32 tells: something in it is computed in that",
    "kink": "at a kink, where any slope between the two sides is a derivative",
    "right": "equal",
}
_SHOWN = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivativeRow:
    """The derivative of one step of a model in one tensor that goes into it, along one random direction.

    Attributes:
        layer: the call whose own step this is, in words: `fc1`, `relu of block`, `the loss`.
        path: of that module; of an activation or a function with a derivative of its own, of the module that calls it.
        output: what comes out of the step: `output`, `output 2` of several, or the input of the layer that it leads to.
        of: the tensor that is moved: a parameter by its path, `input`, or the output or input of another layer.
        parameter: whether that is a parameter.
        backward: ⟨c, J·u⟩ by backpropagation of c; 0 if nothing comes back.
        difference: the same by differences.
        limit: what the two may differ by.
        status: `right`, `wrong`, or why the numbers do not tell.
    """

    layer: str
    path: str
    output: str
    of: str
    parameter: bool
    backward: float
    difference: float
    limit: Norm
    status: Status

    def __str__(self) -> str:
        own = "its " if self.output.startswith("output") else ""
        where = f"{self.layer}: {own}{self.output} in {self.of}"
        return f"{self.status}: {where}: backward {self.backward:.6g}, differences {self.difference:.6g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivativeCheck:
    """Every step of a model held against differences, from the loss back to the input.

    Attributes:
        mode: `train` or `eval`.
        rows: one for each step and each tensor that goes into it.
        parameters: `{path: status}`, the worst of the rows of each parameter. `disconnected` is also one on which
            nothing hangs.
    """

    mode: Mode
    rows: tuple[DerivativeRow, ...]
    parameters: Mapping[str, Status]

    @property
    def wrong(self) -> tuple[str, ...]:
        """The layers whose own backward is wrong, the first in the backward pass first."""
        return self.layers("wrong")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def layers(self, status: str) -> tuple[str, ...]:
        """The layers with a row of that status, the first in the backward pass first."""
        return tuple(dict.fromkeys(row.layer for row in self.rows if row.status == status))

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(check: DerivativeCheck) -> Iterable[str]:
    counts = {status: sum(row.status == status for row in check.rows) for status in STATUSES}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    yield f"{len(check.rows)} derivatives of the steps of the model, {check.mode} mode: {told or 'none'}."
    if check.wrong:
        yield f"Wrong by itself, the first in the backward pass first: {', '.join(check.wrong)}."
    for status in STATUSES[:-1]:
        rows = [row for row in check.rows if row.status == status]
        if rows:
            yield f"{status}: {_MEANS[status]}."
        yield from (f"  {str(row).partition(': ')[2]}" for row in rows[:_SHOWN])
        if len(rows) > _SHOWN:
            yield f"  and {len(rows) - _SHOWN} more"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerFactor:
    """What one layer call makes of the gradient on its way back.

    Attributes:
        path, kind, call: as in `LayerStats`.
        layer: the call in words.
        log_factor: ln ‖∂L/∂input‖/‖∂L/∂output‖; −inf if nothing comes through; None if no gradient comes to its
            output, or its input is of whole numbers.
        log_after: ln ‖∂L/∂output‖ of this layer over ‖∂L/∂input‖ of the layer that ran next, after the last one of
            ‖∂L/∂logits‖: 0 where the one is the other, something else where paths part or meet, or where a step that
            is no layer lies between. None if either is missing or 0.
        reached: whether a gradient comes to its output.
    """

    path: str
    kind: str
    call: Count
    layer: str
    log_factor: float | None
    log_after: float | None
    reached: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainRule:
    """The gradient's way back through a net as a product of factors. Logarithms, so that no depth is out of range.

    Attributes:
        mode: `train` or `eval`.
        layers: every layer call, in execution order.
        log_product: the sum of the `log_factor` of `layers`, without those that are None.
        log_whole: ln ‖∂L/∂input‖ of the first layer whose input has a gradient over ‖∂L/∂logits‖; None without either.
        start: that first layer, in words; empty if there is none.
    """

    mode: Mode
    layers: tuple[LayerFactor, ...]
    log_product: float
    log_whole: float | None
    start: str
