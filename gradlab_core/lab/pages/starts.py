"""The names of the starts of deep nets, and the sentences about them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradlab_core.lab.pages.scale import ZERO, shown, verdict
from gradlab_core.lab.studies.initializers import InitializerStudy
from gradlab_core.lab.studies.starts import Start
from gradlab_core.text import listed

_PAIRS = ("xavier", "kaiming")
_VERBS = {"vanishes": "vanish", "explodes": "explode"}


def start_name(start: Start) -> str:
    """The initialisers of a start, in a form short enough for a legend.

    >>> start_name(Start(names=("xavier_uniform", "xavier_normal", "orthogonal"), signal=(), gradient=()))
    'xavier_*, orthogonal'
    """
    names = [*start.names]
    for pair in _PAIRS:
        both = [f"{pair}_uniform", f"{pair}_normal"]
        if set(both) <= set(names):
            names = [f"{pair}_*" if name == both[0] else name for name in names if name != both[1]]
    return ", ".join(names)


def starts_said(study: InitializerStudy) -> Iterable[str]:
    """Say which starts survive the depth by theory, and what happens to the others."""
    fates = {start_name(start): _fate(start) for start in study.starts}
    net = f"{study.depth:,} {study.activation} layers of {study.width:,} units"
    well = [name for name, fate in fates.items() if not fate]
    if well:
        yield f"Through {net} signal and gradient survive, by theory, with {listed(well)}."
    for name, fate in fates.items():
        if fate:
            yield f"{name}: through {study.depth:,} layers {fate}."
    for start in study.starts:
        lost = max((*start.dead_signal, *start.dead_gradient), default=0)
        if 0 < lost < start.nets:
            yield f"{start_name(start)}: in {lost} of {start.nets} nets all is exactly 0; numbers are of the others."


def zero(start: Start) -> str:
    """Say what a signal or gradient of 0 means: if the signal itself is not 0, a slope is too small for float64."""
    return ZERO if -math.inf in start.signal else "0 in float64"


def end(start: Start, log: float, digits: int = 2) -> str:
    """The orders of magnitude of the root mean square, from ln of the second moment."""
    return zero(start) if log == -math.inf else shown(log / 2, digits)


def _fate(start: Start) -> str:
    fates = []
    for what, log in (("the signal", start.signal[-1]), ("the gradient", start.gradient[0])):
        if verdict(log / 2) != "survives":
            unit = " orders of magnitude" if math.isfinite(log) else ""
            fates.append(f"{what} {verdict(log / 2)} ({end(start, log, 1)}{unit})")
    return listed(fates) if fates else ""
