"""The section of the initialisers: what each should draw and what it drew, fans, and the effect on a deep net."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradlab_core.lab.laws import SampleLayer, torch_fan_in
from gradlab_core.lab.pages.initializer_charts import starts_chart, weights_chart
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.pages.starts import end, start_name, starts_said
from gradlab_core.lab.samples import TOO_FAR, Sample
from gradlab_core.lab.studies.initializers import FansRow, InitializerRow, InitializerStudy
from gradlab_core.show.canvas import Illustration
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, odd

FORMULAS = {
    "normal": "N(0, 0.01²)",
    "xavier_uniform": "U(±√(6/(n_in+n_out)))",
    "xavier_normal": "N(0, 2/(n_in+n_out))",
    "kaiming_uniform": "U(±√(6/n_in))",
    "kaiming_normal": "N(0, 2/n_in)",
    "lecun_normal": "N(0, 1/n_in)",
    "orthogonal": "orthonormal",
    "torch_default": "U(±1/√n), biases too",
}
_FAULTS = {
    "mean": "its mean is off",
    "std": "its standard deviation is off",
    "bounds": "a weight is out of bounds",
    "distribution": "another distribution",
    "biases": "its biases",
    "orthogonality": "it is not orthogonal",
}


def initializer_section(study: InitializerStudy) -> Section:
    """The section of a study."""
    wrong = [row for row in study.rows if row.wrong] or not all(row.right for row in study.fans)
    return Section(
        key="initializers",
        title="Initialisers",
        about="A start is a choice of σ, the standard deviation of the weights: a layer multiplies a signal by about "
        "σ·√fan-in. Each formula is held against what is really drawn; then, what the choice does with depth.",
        level="bad" if wrong else "good",
        said=[*_sentences(study), *starts_said(study)],
        sheets=[_formulas(study), _measured(study), *_frameworks(study), _fans(study), _starts(study)],
        charts=[
            Illustration(
                "initializer-weights",
                "What each initialiser draws",
                f"All weights of {study.draws} draws of {layer_name(study.layer)}, on one axis: the area is a "
                "histogram of what was drawn, the line the formula. Heights are each panel's own, σ is measured. "
                "Healthy: the area fills what is under the line. Look at the widths: a fixed σ, as that of normal, "
                "takes no notice of the layer; the others choose it by the fans.",
                weights_chart(study),
            ),
            Illustration(
                "initializer-starts",
                f"What each start does to {study.depth:,} layers of {study.width:,} {study.activation} units",
                "Root mean square of pre-activations, from the input on, and of the gradient in them, from the loss "
                "down, as theory predicts them; a straight slope is exponential growth or decay. Healthy: near 0, to "
                "the very end. A line that leaves the plot is marked with where it ends. Starts that theory cannot "
                "tell apart share a line; constant weights are followed exactly, through as many inputs as draws.",
                starts_chart(study),
            ),
        ],
    )


def layer_name(layer: SampleLayer) -> str:
    """The name of a layer in words.

    >>> layer_name(SampleLayer(kind="grouped", inputs=32, outputs=64, kernel=3, groups=4))
    'a grouped convolution 32 → 64, 3×3, 4 groups'
    """
    sizes = f"{layer.inputs:,} → {layer.outputs:,}"
    if layer.kind == "dense":
        return f"a dense layer {sizes}"
    kind = "" if layer.kind == "conv" else f"{layer.kind} "
    groups = f", {_groups(layer)}" if layer.kind == "grouped" else ""
    return f"a {kind}convolution {sizes}, {layer.kernel}×{layer.kernel}{groups}"


def _groups(layer: SampleLayer) -> str:
    return f"{layer.groups} group{'s' if layer.groups > 1 else ''}"


def _sentences(study: InitializerStudy) -> Iterable[str]:
    right = [row for row in study.rows if not row.wrong]
    drawn = f"{study.draws} draws of {layer_name(study.layer)}"
    if right:
        farthest = max(abs(off) for row in right for off in (row.weights.mean_off, row.weights.std_off))
        every = "Every initialiser" if len(right) == len(study.rows) else listed([row.name for row in right])
        yield (
            f"{every} draws what the formula says: over {drawn} no mean and no standard deviation is further from it "
            f"than {number(farthest, 2)} standard errors (wrong: {number(TOO_FAR)})."
        )
    for row in study.rows:
        if row.wrong:
            yield f"{row.name} is wrong: {listed([_fault(row, what) for what in row.wrong])}."
    for row in study.rows:
        if row.orthogonality is not None and not row.wrong:
            yield f"{row.name}: WWᵀ (or WᵀW, the smaller) is 1 up to {number(row.orthogonality, 2)}."
    equal = [f for f in study.rows[0].differences if all(row.differences[f] == 0 for row in study.rows)]
    if equal:
        yield f"For the same seeds layers of {listed([framework_name(f) for f in equal])} hold the very same numbers."
    swapped = [row for row in study.fans if not row.right]
    if swapped:
        yield f"The fans are wrong of {listed([layer_name(row.layer) for row in swapped])}."


def _fault(row: InitializerRow, what: str) -> str:
    if what == "nonfinite":
        return f"{row.weights.nonfinite:,} of its weights are NaN or Inf"
    return _FAULTS.get(what) or f"{framework_name(what)}'s layer holds other numbers"


def formula(row: InitializerRow) -> str:
    """The formula of an initialiser in symbols, where n_in and n_out are the fans."""
    return FORMULAS.get(row.name) or f"all {number(row.number)}"


def _formulas(study: InitializerStudy) -> Sheet:
    layer = study.layer
    return Sheet(
        f"Formulas, for n_in = {layer.fan_in:,} and n_out = {layer.fan_out:,}, and between what the weights lie",
        ["initialiser", "weights", "σ", "bounds", "drawn between"],
        [
            [row.name, formula(row), number(row.weights.law.std), _bounds(row.weights), _between(row.weights)]
            for row in study.rows
        ],
        words=["weights"],
        levels=["bad" if "bounds" in row.wrong else "" for row in study.rows],
    )


def _bounds(sample: Sample) -> str:
    low, high = sample.law.low, sample.law.high
    if low is None or high is None:
        return "none"
    return number(high) if low == high else f"±{number(high)}"


def _between(sample: Sample) -> str:
    if sample.low == sample.high:
        return number(sample.low)
    return f"{number(sample.low)} … {number(sample.high)}".replace("-", "−")


def _measured(study: InitializerStudy) -> Sheet:
    count = study.rows[0].weights.count + study.rows[0].weights.nonfinite
    return Sheet(
        f"Measured, {count:,} weights each; off: from the formula, in standard errors; p: of a worse fit by chance",
        ["initialiser", "mean", "off", "standard deviation", "off", "p"],
        [
            [
                row.name,
                with_error(row.weights.mean, row.weights.mean_error),
                _off(row.weights.mean_off),
                with_error(row.weights.std, row.weights.std_error),
                _off(row.weights.std_off),
                "–" if row.weights.probability is None else number(row.weights.probability, 2),
            ]
            for row in study.rows
        ],
        levels=["bad" if row.wrong else "" for row in study.rows],
    )


def with_error(value: float, error: float) -> str:
    """A number and its standard error, rounded to the first digit of the error, which is left out if it is 0.

    >>> with_error(0.0998765, 0.00016), with_error(-2e-7, 3e-6), with_error(0.1, 0.0), with_error(math.nan, math.nan)
    ('0.0999 ± 0.0002', '−2e-07 ± 3e-06', '0.1', 'NaN')
    """
    if odd(value) or not error > 0:
        return number(value).replace("-", "−") if not odd(value) else str(odd(value))
    digits = -math.floor(math.log10(error))
    if not 0 <= digits <= 5:
        return f"{'−' if value < 0 else ''}{abs(value):.{max(1, _digits(value, error))}g} ± {error:.1g}"
    text = f"{value:.{digits}f}"
    return f"{text[1:] if float(text) == 0 and value < 0 else text} ± {error:.{digits}f}".replace("-", "−")


def _digits(value: float, error: float) -> int:
    return math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 1 if value else 1


def _off(value: float) -> str:
    return odd(value) or (f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0")


def _frameworks(study: InitializerStudy) -> list[Sheet]:
    frameworks = list(study.rows[0].differences)
    return (
        [
            Sheet(
                "Largest difference of a framework's layer, same seed",
                ["initialiser", *map(framework_name, frameworks)],
                [[row.name, *(number(row.differences[f]) for f in frameworks)] for row in study.rows],
                levels=["bad" if any(row.differences[f] != 0 for f in frameworks) else "" for row in study.rows],
            )
        ]
        if frameworks
        else []
    )


def _fans(study: InitializerStudy) -> Sheet:
    return Sheet(
        "Fans: what an output sums up, what an input feeds; n: what torch_default goes by",
        ["layer", "weight", "fan-in", "fan-out", "n"],
        [_fans_row(row) for row in study.fans],
        levels=["" if row.right else "bad" for row in study.fans],
    )


def _fans_row(row: FansRow) -> list[str]:
    layer = row.layer
    name = layer_name(layer).removeprefix("a ").replace("convolution", "conv.").partition(", ")
    groups = f", {_groups(layer)}" if layer.kind == "grouped" else ""
    shape = "×".join(map(str, layer.shape))
    return [name[0] + groups, shape, *(f"{fan:,}" for fan in row.found), f"{torch_fan_in(layer):,}"]


def _starts(study: InitializerStudy) -> Sheet:
    return Sheet(
        f"Orders of magnitude after {study.depth:,} {study.activation} layers of {study.width:,}, by theory"
        + ("; orthogonal taken as Gaussian" if any("orthogonal" in start.names for start in study.starts) else ""),
        ["start", f"signal, layer {study.depth}", "gradient, layer 1"],
        [[start_name(start), end(start, start.signal[-1]), end(start, start.gradient[0])] for start in study.starts],
    )
