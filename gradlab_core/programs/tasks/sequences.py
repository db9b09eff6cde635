"""Sequences that only a memory solves: what decides stands far before the end. Their length is the knob."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SYMBOLS, _SIGNALS = 6, 2


class TemporalOrder:
    """Which of two signals came first: class 0 for A before B, 1 for B before A.

    One-hot sequences (N, T, 6) of the symbols A, B, c, d, e, f. The first signal stands at a place drawn from T/10 to
    2T/10, the second at one from 4T/10 to 5T/10, every other step holds a random letter of c to f. Nothing after T/2
    tells the class, and neither does how often a symbol occurs.

    Source: Hochreiter & Schmidhuber 1997, experiment 6a, with the places and symbols of Pascanu, Mikolov & Bengio 2013.
    There the pair is one of AA, AB, BA, BB, four classes; the two in which order is all there is are kept here.
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
    """The sum of the two marked numbers among T.

    Sequences (N, T, 2) of numbers, uniform on [0, 1] and then standardised, each beside its marker: 1 at one place of
    the first half and one of the second, 0 elsewhere. The target (N, 1) is the sum, standardised: to answer 0 costs a
    mean squared error of 1.

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
