"""The page of the lab, with a section for each study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradlab_core.lab.pages.section import Section
from gradlab_core.records import codec
from gradlab_core.show.rendering import fill, version

DEFINITIONS = (
    ("Second moment", "The mean square of a tensor's elements; where the mean is 0, the variance."),
    ("Order of magnitude", "A factor of ten; charts count them from a start of 1, so that nothing is out of range."),
    ("σ_w, σ_b", "Standard deviation of the weights times the root of fan-in, and that of the biases."),
    ("χ", "The factor by which a layer multiplies the second moment of a gradient on its way down."),
    ("Edge of chaos", "The σ_w with χ = 1: there a gradient neither vanishes nor explodes with depth."),
    (
        "Phase",
        "Ordered: χ < 1, with depth gradients shrink and inputs merge. Chaotic: χ > 1, gradients grow and inputs part. "
        "How many layers that takes stands beside it: with χ = 1.003 a factor of e takes 334.",
    ),
    ("Fan-in", "How many inputs one output of a layer sums up."),
    ("Gain", "√(fan-in · mean square of the weights), a layer's own σ_w; wanted is the one that keeps the variance."),
    ("Pre-activation", "What a dense or convolutional layer gives, before the activation."),
    ("Jacobian", "The derivatives of all outputs in all inputs; its singular values say how it stretches directions."),
    ("Lyapunov exponent", "The rate, a factor, at which a singular value of a product of random matrices grows."),
    ("LSUV", "A repair before training: scales each layer's weights so that its output has unit variance on a batch."),
    ("LARS, trust ratio", "Steps that are scaled by ‖θ‖/‖g‖, the trust ratio of each layer, so that all move alike."),
    (
        "Chain rule",
        "The gradient of the loss in a layer's input is that in its output times the layer's own derivative. Its norm "
        "changes by a factor, layer by layer; where paths part or meet the gradients of several add up.",
    ),
    ("Tied units", "Units that take the same and give the same, so that no step of training tells them apart."),
)


def write_lab(sections: Sequence[Section], path: Path) -> None:
    """Write one HTML file with these sections, whole or not at all. It makes no network request.

    Raises:
        GradlabError: the file cannot be written.
        MissingDependency: plotly or jinja2 is not installed.
    """
    codec.write_text(path, render(sections))


def render(sections: Sequence[Section]) -> str:
    """The whole HTML page."""
    content = {
        "sections": sections,
        "figures": {item.key: item.figure for section in sections for item in section.charts},
        "definitions": DEFINITIONS,
        "version": version(),
    }
    return fill(Path(__file__).with_name("page.html.j2"), content)
