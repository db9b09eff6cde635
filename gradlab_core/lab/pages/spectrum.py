"""Singular values of input-output Jacobians, which show whether a net passes on all directions, or one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradlab_core.definitions.thresholds import SURVIVES
from gradlab_core.lab.isometry import LogSpectrum
from gradlab_core.lab.jacobian import NEAR_ONE
from gradlab_core.lab.pages.scale import log_point, magnitude
from gradlab_core.lab.pages.section import Sheet
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Illustration, Line, Panel
from gradlab_core.text import listed, number, percent

BELOW = "lost in rounding"


def spectrum_sheet(spectra: Mapping[str, LogSpectrum], plain_edge: float | None) -> Sheet:
    """The table of singular values: largest, median, smallest. `plain_edge` is the σ_w of critical nets without
    biases."""
    rows = []
    for name, spectrum in spectra.items():
        logs = spectrum.log_values
        near = sum(abs(log) <= math.log(NEAR_ONE) for log in logs) / len(logs)
        middle, last = (magnitude(log) if log > -math.inf else BELOW for log in (logs[len(logs) // 2], logs[-1]))
        rows.append([name, magnitude(logs[0]), middle, last, magnitude(spectrum.log_mean_squared), percent(near)])
    headings = ["net", "largest", "median", "smallest", "mean square", "within 2× of 1"]
    critical = "no net without biases stays critical" if plain_edge is None else _critical(plain_edge)
    return Sheet(f"Singular values of the Jacobian, one net each; {critical}", headings, rows)


def _critical(plain_edge: float) -> str:
    """Say what the nets beside this one are."""
    return f"critical: σ_w = {number(plain_edge)}, no biases"


def _kept(spectra: Mapping[str, LogSpectrum]) -> str:
    """Say how many directions of each net can be told apart from 0."""
    parts = []
    for name, spectrum in spectra.items():
        logs = spectrum.log_values
        left = sum(log > -math.inf and log >= logs[0] - math.log(SURVIVES) for log in logs)
        parts.append(f"{left} of {len(logs)} ({name})")
    return listed(parts)


def spectrum_chart(spectra: Mapping[str, LogSpectrum], plain_edge: float | None) -> Illustration:
    """The chart of all singular values, largest first."""
    canvas = Canvas([Panel("Singular values of ∂output/∂input", "orders of magnitude")], "share of directions (%)")
    for i, (name, spectrum) in enumerate(spectra.items()):
        line = Line(name, style.sequence(2 - i, 3))
        size = len(spectrum.log_values)
        points = []
        for k, log in enumerate(spectrum.log_values):
            there = magnitude(log) if log > -math.inf else BELOW
            text = f"{name}<br>{k + 1} of {size}: <b>{there}</b>"
            points.append(log_point(100 * (k + 0.5) / size, log, text, below=BELOW))
        canvas.line(0, line, points, mode="lines" if size > 1 else "markers")
    beside = "" if plain_edge is None else f"; {_critical(plain_edge)}"
    figure = canvas.figure()
    figure["layout"]["meta"] = {"narrowLegendColumns": 1}
    return Illustration(
        "spectra",
        "Does every direction get through?",
        "Singular values of the Jacobian of the output in the input, largest first, of one net each. On 0 a direction "
        "keeps its length; where all do (dynamical isometry) gradients of any direction get through. Within a factor "
        f"of {number(SURVIVES)} of the largest: {_kept(spectra)}. What lies thirteen orders below it is lost in "
        f"rounding, and marked below the plot{beside}.",
        figure,
    )
