"""Statistics of every activation, computed where it arises; no activation is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from gradlab_core.definitions import kinds
from gradlab_core.records import LayerStats, Rows, TensorStats
from gradlab_torch.model.inputs import Inputs, checked_inputs
from gradlab_torch.model.modules import private_copy
from gradlab_torch.model.taps import Tap, run_tapped
from gradlab_torch.trees.transfer import transferred


def activation_stats(model: torch.nn.Module, x: Inputs, *, mode: str) -> list[LayerStats]:
    """Statistics of each call of each convolution, normalisation and activation, in execution order.

    Activations called as functions (`F.relu(x)`) count, under the path of the module that called them; a layer
    called twice gives two rows. The model is left as it was, running statistics included.

    Args:
        model: any `torch.nn.Module`.
        x: input batch, native layout (N, C, spatial…); several inputs by name in a mapping, by
            place in a tuple or a list.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: not a PyTorch model, an unknown mode, or a batch with NaN or Inf.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
    >>> [(row.path, row.kind, row.shape) for row in activation_stats(net, torch.ones(2, 3, 8, 8), mode="eval")]
    [('0', 'conv', (2, 4, 8, 8)), ('1', 'relu', (2, 4, 8, 8))]
    """
    private = private_copy(model, mode)
    x = checked_inputs(x)
    with torch.no_grad():
        _, handed = run_tapped(private, x, tracked)
    rows = rows_of(handed)
    numbers = transferred({str(i): row.part() for i, row in enumerate(rows)}) if rows else {}
    return Rows([row.record(mode, numbers[str(i)]) for i, row in enumerate(rows)])


@dataclasses.dataclass(frozen=True)
class Row:
    """The statistics of one tensor on the device, and where it is from."""

    tap: Tap
    shape: tuple[int, ...]
    numbers: dict[str, torch.Tensor]

    def part(self) -> tuple[list[str], torch.Tensor]:
        """What is to be transferred; float64 holds every statistic and every count exactly."""
        return list(self.numbers), torch.stack([value.double() for value in self.numbers.values()])

    def record(self, mode: str, numbers: Mapping[str, Any]) -> LayerStats:
        known = {"saturated_frac": None, "dead_unit_frac": None, **numbers, "nonfinite": int(numbers["nonfinite"])}
        tap = self.tap
        return LayerStats(path=tap.path, kind=tap.kind, call=tap.call, shape=self.shape, mode=mode, **known)

    def of_tensor(self, numbers: Mapping[str, Any]) -> TensorStats:
        """As the statistics of any tensor, which is no layer's."""
        return TensorStats(shape=self.shape, **{**numbers, "nonfinite": int(numbers["nonfinite"])})


def tracked(tap: Tap, value: torch.Tensor) -> Row | None:
    """The row of a layer's output, None for a layer of a kind that gets none."""
    return stats(value, tap) if tap.kind in kinds.TRACKED else None


def rows_of(handed: list[tuple[Tap, Row | None]]) -> list[Row]:
    """The rows that `tracked` handed out."""
    return [row for _, row in handed if row is not None]


def stats(x: torch.Tensor, tap: Tap) -> Row:
    """The statistics of one tensor, over its finite elements, on its device."""
    wide = x.detach() if x.dtype == torch.float64 else x.detach().float()
    finite = torch.isfinite(wide)
    count = finite.sum()
    if wide.numel():
        low, high = torch.where(finite, wide, torch.inf).amin(), torch.where(finite, wide, -torch.inf).amax()
    else:
        low, high = wide.new_tensor(torch.inf), wide.new_tensor(-torch.inf)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return torch.where(finite, values, 0).sum() / count  # 0/0 is NaN: nothing finite, no statistic

    def fraction(condition: torch.Tensor) -> torch.Tensor:
        return (finite & condition).sum().to(wide.dtype) / count

    # Squares of large or small elements leave the type; a power of two brings them back and costs no digit.
    limit = 120 if wide.dtype == torch.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = torch.frexp(torch.maximum(low.abs(), high.abs()))[1].clamp(-limit, limit)
    scaled = torch.ldexp(wide, -exponent)
    centre = mean(scaled)
    spread = mean((scaled - centre).square()).sqrt()
    numbers = {
        "mean": torch.ldexp(centre, exponent),
        "std": torch.ldexp(spread, exponent),
        "min": torch.where(count > 0, low, torch.nan),
        "max": torch.where(count > 0, high, torch.nan),
        "rms": torch.ldexp(torch.hypot(centre, spread), exponent),  # E[x²] = E[x]² + Var[x]: no pass of its own
        "zero_frac": fraction(wide == 0),
        "nonfinite": wide.numel() - count,
    }
    if tap.kind in kinds.BOUNDS:
        floor, ceiling = kinds.BOUNDS[tap.kind]
        margin = kinds.SATURATION_MARGIN * (ceiling - floor)
        numbers["saturated_frac"] = fraction((wide <= floor + margin) | (wide >= ceiling - margin))
    if tap.kind in kinds.RELU_LIKE:
        # Without an axis besides the batch there is one unit.
        units = wide.movedim(tap.channel_axis(wide), 0).flatten(1) if wide.ndim > 1 else wide.reshape(1, -1)
        numbers["dead_unit_frac"] = (units == 0).all(dim=1).to(wide.dtype).mean()
    return Row(tap, tuple(x.shape), numbers)
