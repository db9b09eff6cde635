"""What a layer may take in: earlier tensors of the step, and the ways in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradlab_core.parity.batch import each
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_NEAREST = 8
"""Of the tensors before a layer, so many are also added to each other, as residual nets do."""


def outputs(local: Local, key: Key) -> list[tuple[str, np.ndarray]]:
    """Outputs of the layers before that one, with their names, in order."""
    before: list[tuple[str, np.ndarray]] = []
    for other, value in local.truth.items():
        if other == key or other.quantity != "activation":
            break
        if value is not None:
            before.append((other.path or "the model", value))
    return before


def sources(local: Local, key: Key) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors before that layer with their names: outputs of layers, the nearest first, inputs of the net, and sums of
    two of the nearest."""
    before = outputs(local, key)[::-1]
    yield from before
    inputs = [(name or "the input", np.asarray(array)) for name, array in each(local.batch[0]).items()]
    yield from inputs
    near = before[:_NEAREST] + inputs
    for i, (name, array) in enumerate(near):
        for second, addend in near[i + 1 :]:
            if array.shape == addend.shape and addend.dtype.kind == "f":
                yield f"{name} + {second}", array + addend


Reading = Callable[[np.ndarray], np.ndarray]


def readings(array: np.ndarray) -> Mapping[str, Reading]:
    """Ways in which a layer may read a tensor, by what they are called."""
    ways: dict[str, Reading] = {"as it is": lambda a: a}
    if array.dtype.kind != "f":
        return ways
    if array.ndim > 2:
        ways |= {
            "flattened, channels first": lambda a: a.reshape(len(a), -1),
            "flattened, channels last": lambda a: np.moveaxis(a, 1, -1).reshape(len(a), -1),
        }
    if array.ndim == 3:
        ways |= {
            "its mean over positions": lambda a: a.mean(axis=1),
            "its first position": lambda a: a[:, 0],
            "its last position": lambda a: a[:, -1],
            "its largest over positions": lambda a: a.max(axis=1),
            "its sum over positions": lambda a: a.sum(axis=1),
        }
    if array.ndim > 3:
        space = tuple(range(2, array.ndim))
        ways |= {
            "its mean over space": lambda a: a.mean(axis=space),
            "its largest over space": lambda a: a.max(axis=space),
            "its sum over space": lambda a: a.sum(axis=space),
        }
    if array.ndim == 4 and min(array.shape[2:]) >= 2:
        pools = {name: pool for name, pool in _POOLS.items() if pool(array).size}
        ways |= pools
        for order in ("first", "last"):
            ways |= {f"{name}, flattened, channels {order}": _flat(pool, order) for name, pool in pools.items()}
    return ways


def _flat(pool: Reading, order: str) -> Reading:
    def read(array: np.ndarray) -> np.ndarray:
        pooled = pool(array)
        return (pooled if order == "first" else np.moveaxis(pooled, 1, -1)).reshape(len(array), -1)

    return read


def windows(array: np.ndarray, kernel: int, stride: int, pads: tuple[int, int], **padding: Any) -> np.ndarray:
    """(N, C, H′, W′, k, k): what each window of a square kernel sees; `padding` as `numpy.pad` takes it."""
    padded = np.pad(array, [(0, 0), (0, 0), pads, pads], **padding)
    seen = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return seen[:, :, ::stride, ::stride]


def _pool(kind: str, kernel: int, stride: int, pads: tuple[int, int], fill: float = 0.0) -> Reading:
    def read(array: np.ndarray) -> np.ndarray:
        if min(array.shape[2:]) + sum(pads) < kernel:
            return np.zeros(0)
        value = -np.inf if kind == "max" and np.isnan(fill) else fill
        seen = windows(array, kernel, stride, pads, constant_values=value)
        if kind == "max":
            return seen.max(axis=(-2, -1))
        if not np.isnan(fill):
            return seen.mean(axis=(-2, -1))
        inside, zeroed = (windows(a, kernel, stride, pads) for a in (np.ones_like(array), array))
        return zeroed.sum(axis=(-2, -1)) / inside.sum(axis=(-2, -1))

    return read


_POOLS: dict[str, Reading] = {
    "its largest of 2×2": _pool("max", 2, 2, (0, 0)),
    "its mean of 2×2": _pool("mean", 2, 2, (0, 0)),
    "its largest of 2×2 with stride 1": _pool("max", 2, 1, (0, 0)),
    "its largest of 3×3 with stride 2": _pool("max", 3, 2, (0, 0)),
    "its largest of 3×3 with stride 2, padded with −∞": _pool("max", 3, 2, (1, 1), np.nan),
    "its largest of 3×3 with stride 2, padded with zeros": _pool("max", 3, 2, (1, 1), 0.0),
    "its largest of 3×3 with stride 2, padded at the end": _pool("max", 3, 2, (0, 1), np.nan),
    "its mean of 3×3 with stride 2, padding counted": _pool("mean", 3, 2, (1, 1), 0.0),
    "its mean of 3×3 with stride 2, padding not counted": _pool("mean", 3, 2, (1, 1), np.nan),
    "its mean of 3×3 with stride 2": _pool("mean", 3, 2, (0, 0)),
}
