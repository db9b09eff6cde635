"""The statistics of one tensor, on its device: layers' outputs get a row of them, inputs and answers too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from gradlab_core.definitions import kinds
from gradlab_core.records import LayerStats, TensorStats
from gradlab_torch.model.taps import Tap

_BLOCK = 1 << 17  # elements; what is worked on stays in a processor's cache
_PLAIN = (1e-15, 1e15)  # magnitudes whose squares float32 holds


NO_LAYER = Tap("", "", 0, False)
"""Where a tensor is from that is no layer's output."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The statistics of one tensor as a vector on its device, and where the tensor is from."""

    tap: Tap
    shape: tuple[int, ...]
    names: tuple[str, ...]
    values: torch.Tensor

    def part(self) -> tuple[list[str], torch.Tensor]:
        """What is to be transferred."""
        return list(self.names), self.values

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
    x = x.detach()
    numbers = _on_host(x, tap) if x.device.type == "cpu" else None
    if numbers is not None:
        return Row(tap, tuple(x.shape), tuple(numbers), torch.tensor(list(numbers.values()), dtype=torch.float64))
    measured = _anywhere(x, tap)
    exact = torch.float32 if x.device.type == "mps" else torch.float64  # float64 holds every count exactly
    return Row(tap, tuple(x.shape), tuple(measured), torch.stack([value.to(exact) for value in measured.values()]))


def _on_host(x: torch.Tensor, tap: Tap) -> dict[str, float] | None:
    """The statistics of an ordinary tensor in a processor's memory, in one pass, block by block; None of one that is
    empty, holds what is not finite, or magnitudes whose squares leave the type."""
    count, mean, squares, zeros, outside = 0, 0.0, 0.0, 0, 0
    low, high = math.inf, -math.inf
    floor, ceiling = kinds.SATURATED.get(tap.kind, (-math.inf, math.inf))
    for block in _flat(x).split(_BLOCK) if x.numel() else ():
        wide = block if block.dtype in (torch.float32, torch.float64) else block.float()
        least, most = (value.item() for value in torch.aminmax(wide))
        size = max(abs(least), abs(most))
        if not (size == 0.0 or _PLAIN[0] < size < _PLAIN[1]):  # also for a NaN
            return None
        low, high, here = min(low, least), max(high, most), wide.numel()
        # The moments of the blocks are joined as Chan, Golub and LeVeque do (1979): nothing cancels.
        middle = wide.sum().item() / here
        centred = wide - middle
        rest = middle - mean
        squares += torch.dot(centred, centred).item() + rest * rest * count * here / (count + here)
        mean += rest * here / (count + here)
        signs = torch.sign(wide, out=centred)
        zeros += here - round(torch.dot(signs, signs).item())
        count += here
        if tap.kind in kinds.BOUNDS:
            outside += here - int(((wide > floor) & (wide < ceiling)).sum())
    if not count:
        return None
    std = math.sqrt(squares / count)
    numbers = {
        "mean": mean,
        "std": std,
        "min": low,
        "max": high,
        "rms": math.hypot(mean, std),
        "zero_frac": zeros / count,
        "nonfinite": 0.0,
    }
    if tap.kind in kinds.BOUNDS:
        numbers["saturated_frac"] = outside / count
    if tap.kind in kinds.RELU_LIKE:
        channel = tap.channel_axis(x) if x.ndim > 1 else None  # without an axis besides the batch there is one unit
        others = [axis for axis in range(x.ndim) if axis != channel]
        idle = x.amax(dim=others) == 0  # of a ReLU that is enough
        if low < 0:
            idle &= x.amin(dim=others) == 0
        numbers["dead_unit_frac"] = float(idle.double().mean())
    return numbers


def _flat(x: torch.Tensor) -> torch.Tensor:
    """The elements in the order of memory, without a copy where there are no gaps."""
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return x.permute(order).reshape(-1)


def _anywhere(x: torch.Tensor, tap: Tap) -> dict[str, torch.Tensor]:
    """The statistics of any tensor; nothing is looked at by the host, so that it never waits."""
    wide = x if x.dtype == torch.float64 else x.float()
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
        floor, ceiling = kinds.SATURATED[tap.kind]
        numbers["saturated_frac"] = fraction((wide <= floor) | (wide >= ceiling))
    if tap.kind in kinds.RELU_LIKE:
        channel = tap.channel_axis(wide) if wide.ndim > 1 else None
        idle = wide == 0
        for axis in reversed([axis for axis in range(wide.ndim) if axis != channel]):
            idle = idle.all(dim=axis)
        numbers["dead_unit_frac"] = idle.to(wide.dtype).mean()
    return numbers
