"""The arithmetic a program is run in, by name: how coarse it is, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from gradlab_core.errors import GradlabError

FLOAT32 = 2.0**-24
"""Float32's unit roundoff."""


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """How a program of float32 tensors rounds.

    Attributes:
        name: what it is called.
        bits: of the significand of what is multiplied in matrix products and convolutions; sums are in float32.
        smallest: below this magnitude the operands of products lose digits, half the least step of the format.
        sums: bits of the significand of everything else.
    """

    name: str
    bits: int = 24
    smallest: float = 0.0
    sums: int = 24

    @property
    def unit(self) -> float:
        """The unit roundoff of every other operation."""
        return 2.0**-self.sums

    @property
    def dither(self) -> float:
        """A relative change far below the unit roundoff that a float64 number still shows."""
        return max(self.unit * 2.0**-16, 2.0**-50)

    @property
    def products(self) -> float:
        """The unit roundoff of the operands of products."""
        return 2.0**-self.bits

    @property
    def words(self) -> str:
        """What it multiplies in, for a sentence.

        >>> Arithmetic("tf32", 11).words
        'TF32 (2⁻¹¹)'
        """
        power = str(-self.bits).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{ {'tf32': 'TF32', 'highest': 'float32'}.get(self.name, self.name) } (2{power})"


ARITHMETICS = {
    a.name: a
    for a in (
        Arithmetic("highest"),
        Arithmetic("tf32", 11),
        Arithmetic("bfloat16", 8),
        Arithmetic("float16", 11, 2.0**-25),
    )
}
BETWEEN = Arithmetic("between float32 and float64", 44, sums=44)
"""No machine's: where float32 has lost every digit of a tensor, this still has some, and float64 rounds 512 × finer."""

PRECISIONS = (*ARITHMETICS, "as-is")
"""What `precision=` takes. `highest`: products in full float32; `tf32`: operands of products rounded to TF32;
`bfloat16`, `float16`: PyTorch's autocast, and in JAX operands of products rounded so; `as-is`: nothing is set, and what
each side really multiplies in is measured."""


def check_precision(precision: str) -> str:
    """The word itself; one that is not known is refused.

    >>> check_precision("fp8")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: precision is 'fp8'; expected one of highest, tf32, bfloat16, float16, as-is
    """
    if precision not in PRECISIONS:
        raise GradlabError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return precision


def closest(error: float) -> Arithmetic:
    """The arithmetic that a measured relative error of products is explained by: the finest that is coarse enough.

    >>> closest(2.0**-12).name, closest(1e-7).name, closest(2.0**-9).name
    ('tf32', 'highest', 'bfloat16')
    """
    known = sorted((a for a in ARITHMETICS.values() if a.name != "float16"), key=lambda a: -a.bits)
    # The worst of many operands comes near the unit roundoff; float32's own error of a sum is a few units.
    return next((a for a in known if error <= max(a.products, 2.0**-20 if a.bits == 24 else 0.0)), known[-1])


def coarsest(arithmetics: Iterable[Arithmetic]) -> Arithmetic:
    """The one that rounds most."""
    return min(arithmetics, key=lambda a: a.bits)
