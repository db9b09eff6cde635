"""The section of signal propagation: layers against theory, the map of depth and σ_w, and the Jacobian."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradlab_core.lab.meanfield import MeanField
from gradlab_core.lab.pages.phases import phase_chart
from gradlab_core.lab.pages.scale import decades, log_point, magnitude, shown, verdict
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.pages.spectrum import spectrum_chart, spectrum_sheet
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.studies.propagation import PropagationStudy, comparable, standard_errors
from gradlab_core.lab.theory_comparison import LayerComparison
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number

_FEW = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""The number of layers in the table."""
_MANY = 5.0
"""A difference of so many standard errors is mentioned, whether it is chance or not."""
_INPUTS = {"ordered": "inputs merge", "critical": "inputs neither merge nor part", "chaotic": "inputs part"}
_ROWS = (("Signal", "preactivation"), ("Gradient", "gradient"))


def propagation_section(study: PropagationStudy) -> Section:
    """The section of a study."""
    states = [verdict(study.log_signal), verdict(study.log_gradient)]
    bad = bool(study.wrong) or any(state != "survives" for state in states)
    charts = [
        Illustration(
            "propagation",
            "Signal and gradient, layer by layer",
            f"Root mean square of pre-activations (above) and of the gradient in them (below), over {study.nets} nets: "
            f"the mean with its 95 % interval; {_band(study.net)} and the limit of infinite width. Healthy: both stay "
            "near 0. A straight slope is exponential growth or decay with depth.",
            _layers(study),
        )
    ]
    if study.phases is not None:
        charts.append(phase_chart(study))
    charts.append(spectrum_chart(study.spectra, study.plain_edge))
    return Section(
        key="propagation",
        title="Signal propagation",
        about="Every layer multiplies the size of what passes through it, forward and back, by about the same factor: "
        "with depth a factor a little off 1 becomes an exponential. Theory says which.",
        level="bad" if bad else "good",
        said=list(_sentences(study, states)),
        sheets=[_table(study), *_field(study), spectrum_sheet(study.spectra, study.plain_edge)],
        charts=charts,
    )


def net_name(net: RandomMlp) -> str:
    """The name of a square net in words.

    >>> net_name(RandomMlp(widths=(8, 8, 8), sigma_w=1.5))
    '2 layers of 8 tanh units, σ_w = 1.5, σ_b = 0'
    """
    start = net.init or f"σ_w = {number(net.sigma_w)}, σ_b = {number(net.sigma_b)}"
    start += "" if net.init_number is None else f" ({number(net.init_number)})"
    return f"{net.depth} layers of {net.widths[0]} {net.activation} units, {start}"


def _sentences(study: PropagationStudy, states: Sequence[str]) -> Iterable[str]:
    yield f"{net_name(study.net)}; {study.nets} nets."
    logs = (study.log_signal, study.log_gradient)
    ways = ("signal", "from the input to the last layer"), ("gradient", "from the last layer to the first")
    for (name, way), log, state in zip(ways, logs, states, strict=True):
        if log == -math.inf:
            yield f"The {name} {state}: on its way {way} it becomes exactly 0 in at least one of the nets."
        else:
            pace = (
                f"; in the limit of many layers its {_pace(study.field)}"
                if name == "gradient" and study.field is not None
                else ""
            )
            yield f"The {name} {state}: its root mean square changes by a factor of {magnitude(log)} {way}{pace}."
    if study.edge is not None:
        stays = "" if study.edge.stable else "; a net that starts there does not stay there"
        yield f"The critical σ_w is {number(study.edge.sigma_w)}, that of this net {number(study.sigma_w)}{stays}."
    elif study.sigma_w is not None:
        yield f"No σ_w is critical for {study.net.activation}; that of this net is {number(study.sigma_w)}."
    yield from _beside_theory(study)
    if study.wrong:
        yield f"Not the definition's numbers: {listed([framework_name(f) for f in study.wrong])}."
    for framework, apart in study.differences.items():
        yield f"{framework_name(framework)}, in float64 on the same nets, is at most {number(apart)} off."


def _pace(field: MeanField) -> str:
    """How fast a gradient changes with depth in the limit, in one figure. Whether that is much depends on the depth.

    >>> from gradlab_core.lab.meanfield import mean_field
    >>> _pace(mean_field("tanh", sigma_w=1.5)), _pace(mean_field("relu", sigma_w=2**0.5))
    ('second moment grows by e in 7.67 layers', 'second moment stays')
    """
    length = abs(field.gradient_length)
    if length == math.inf:
        return "second moment stays"
    way = "grows" if field.gradient_length < 0 else "falls"
    return f"second moment {way} by e in {number(length)} layers"


def _beside_theory(study: PropagationStudy) -> Iterable[str]:
    if study.sigma_w and any(row.mean == -math.inf for row in study.measured["numpy"]):
        yield "Where a signal or gradient is exactly 0 in some nets their mean cannot be held against theory."
    if study.largest_z == math.inf:
        yield "At some layer all nets are alike, where theory for Gaussian weights expects them to differ."
    elif study.largest_z is not None:
        what = ""
        if study.doubtful:
            rows = comparable(study.measured["numpy"])
            most = max(decades(abs(row.mean - row.expected.centre) / 2) for row in rows)
            what = f": more than chance, so theory is rough here, by up to {most:.2g} orders of magnitude"
        elif study.largest_z > _MANY:
            what = f": no more than chance, with {study.nets} nets"
        yield f"At no layer is the mean further from theory than {number(study.largest_z)} standard errors{what}."


def _band(net: RandomMlp) -> str:
    """The lines and the band of theory for nets of that width."""
    if net.init == "constant":
        return "what it must be, for these weights are not random;"
    if net.init == "orthogonal":
        return "theory for Gaussian weights of this width and variance, with the band in which 95 % of such nets lie;"
    return "theory for nets of this width, with the band in which 95 % of single nets lie;"


def _table(study: PropagationStudy) -> Sheet:
    rows = {name: _of(study, quantity) for name, quantity in _ROWS}
    layers = sorted({*(n for n in _FEW if n < study.net.depth), study.net.depth})
    headings = ["layer"]
    for name in rows:
        headings += [name.lower(), "theory", "∞ wide"]
    return Sheet(
        "Orders of magnitude of the root mean square: mean ± standard error, and theory",
        headings,
        [[str(n), *(text for own in rows.values() for text in _cells(own[n - 1]))] for n in layers],
    )


def _cells(row: LayerComparison) -> list[str]:
    error = f" ± {row.standard_error / 2 / math.log(10):.2f}" if math.isfinite(row.standard_error) else ""
    return [shown(row.mean / 2) + error, shown(row.expected.centre / 2), shown(row.expected.limit / 2)]


def _of(study: PropagationStudy, quantity: str) -> list[LayerComparison]:
    return [row for row in study.measured["numpy"] if row.quantity == quantity]


def _field(study: PropagationStudy) -> list[Sheet]:
    """Say where many layers lead by mean-field theory; empty for constant weights."""
    field = study.field
    if field is None:
        return []
    ends = {0.0: "0: the signal dies out", math.inf: "Inf: the signal explodes"}
    # What happens to two inputs is known only if the variance settles.
    inputs = "" if field.correlation is None else f", {_INPUTS[field.phase]}"
    rows = [
        ("variance that many layers lead to, q", ends.get(field.q, number(field.q))),
        ("χ there, the factor of a gradient's second moment a layer", number(field.chi, 7)),
        ("phase", f"{field.phase}: a gradient's {_pace(field)}{inputs}"),
    ]
    for name, value in (
        ("layers in which the variance settles by a factor e", field.variance_length),
        ("correlation of two inputs after many layers", field.correlation),
        ("layers in which that settles by a factor e, ξ", field.correlation_length),
    ):
        if value is not None:  # there is none if the signal dies out or explodes
            rows.append((name, "Inf: never" if value == math.inf else number(value)))
    return [Sheet("Mean field: nets of infinite width and depth", ["figure", "value"], rows, words=["value"])]


def _layers(study: PropagationStudy) -> Chart:
    canvas = Canvas([Panel(f"{name}: root mean square", "orders of magnitude") for name, _ in _ROWS], "layer")
    several = range(2)  # the lines that have a range
    measured = Line("measured, mean with 95 % interval", style.sequence(0, 3), runs=several)
    theory = Line("theory for this width, 95 % of nets", style.sequence(2, 3), runs=several)
    limit = Line("theory, infinite width", style.sequence(1, 3), style.DOTTED)
    reach = standard_errors(0.05, study.nets)
    for panel, (name, quantity) in enumerate(_ROWS):
        rows = _of(study, quantity)
        for line, log, error in (
            (limit, lambda row: row.expected.limit, lambda row: 0.0),
            (theory, lambda row: row.expected.centre, lambda row: 2 * row.expected.spread),
            (measured, lambda row: row.mean, lambda row: reach * row.standard_error),
        ):
            points = [
                log_point(row.layer, log(row) / 2, _hover(line.name, name, row.layer, log(row)), error=error(row) / 2)
                for row in rows
            ]
            canvas.line(panel, line, points, mode="lines+markers" if line is measured and len(rows) <= 60 else "lines")
    figure = canvas.figure()
    figure["layout"]["meta"] = {"narrowLegendColumns": 1}
    return figure


def _hover(line: str, name: str, layer: int, log: float) -> str:
    return f"{line}<br>layer {layer}<br>{name.lower()} <b>{magnitude(log / 2)}</b>"
