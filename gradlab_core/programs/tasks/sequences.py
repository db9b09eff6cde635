"""Tasks on sequences that need a memory: what decides the answer comes far before the end. Longer ones are harder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SYMBOLS, _SIGNALS = 6, 2


class TemporalOrder:
    """Tell which of two signals came first: class 0 for A before B, and 1 for B before A.

    One-hot sequences (N, T, 6) of the symbols A, B, c, d, e, f. The place of the first signal is drawn from T/10
    to 2T/10 and that of the second from 4T/10 to 5T/10; every other step holds a random letter from c to f. Neither
    the symbols after T/2 nor the number of times a symbol occurs tell the class.

    Source: Hochreiter & Schmidhuber 1997, experiment 6a, with the places and symbols of Pascanu, Mikolov & Bengio 2013.
    There the pairs AA, AB, BA and BB are four classes; only the two that differ in nothing but the order are kept here.
    """

    features, outputs, is_regression = _SYMBOLS, 2, False

    def __init__(self, length: int) -> None:
        self.length = length

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        n = np.arange(size)
        symbols = rng.integers(_SIGNALS, _SYMBOLS, (size, self.length))
        first = rng.integers(2, size=size)
        symbols[n, self._place(rng, 1, size)] = first
        symbols[n, self._place(rng, 4, size)] = 1 - first
        return np.eye(_SYMBOLS)[symbols], first

    def _place(self, rng: np.random.Generator, tenth: int, size: int) -> NDArray[Any]:
        return rng.integers(tenth * self.length // 10, (tenth + 1) * self.length // 10, size, endpoint=True)


class Adding:
    """Add the two marked numbers among T.

    An example is a sequence (N, T, 2) of numbers and their markers. The numbers are uniform on [0, 1] and then
    standardised; the marker is 1 at one place of the first half and at one of the second, and 0 elsewhere. The target
    (N, 1) is the standardised sum, so the constant answer 0 has a mean squared error of 1.

    Source: Hochreiter & Schmidhuber 1997, experiment 4, with the range of Pascanu, Mikolov & Bengio 2013 and the halves
    of Arjovsky, Shah & Bengio 2016.
    """

    features, outputs, is_regression = 2, 1, True

    def __init__(self, length: int) -> None:
        self.length = length

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        n, half = np.arange(size), self.length // 2
        numbers = (rng.random((size, self.length)) - 0.5) * math.sqrt(12)
        first, second = rng.integers(half, size=size), rng.integers(half, self.length, size=size)
        markers = np.zeros_like(numbers)
        markers[n, first] = markers[n, second] = 1.0
        total = numbers[n, first] + numbers[n, second]
        return np.stack([numbers, markers], axis=-1), (total / math.sqrt(2))[:, np.newaxis]
