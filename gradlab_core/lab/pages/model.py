"""The section of a user's model: signal and gradient of every layer call, beside theory if it applies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from gradlab_core.lab.jacobian import NEAR_ONE, JacobianSpectrum
from gradlab_core.lab.pages.scale import log_point, magnitude, shown, verdict
from gradlab_core.lab.pages.section import WHOLE, Section, Sheet
from gradlab_core.lab.prediction import Expected
from gradlab_core.lab.propagation import LayerSignal, Signal
from gradlab_core.lab.studies.model import ModelStudy
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, percent

NO_PATH = "no gradient path"
_Side = tuple[str, Callable[[LayerSignal], Signal | None], Callable[[LayerSignal], Expected | None]]
_SIDES: tuple[_Side, ...] = (
    ("Signal", lambda layer: layer.output, lambda layer: layer.expected),
    ("Gradient", lambda layer: layer.gradient, lambda layer: layer.expected_gradient),
)


def model_section(name: str, study: ModelStudy) -> Section:
    """The section of a model, with the name that the user gave."""
    logs = [log for log in (study.log_signal, study.log_gradient) if log is not None]
    bad = bool(study.nonfinite or study.unreached) or any(verdict(log) != "survives" for log in logs)
    layers = study.propagation.layers
    words = (
        "Root mean square of every layer's output (above) and of the gradient in it (below), in the order in which "
        "layers run. Where the model is a plain chain of random layers theory has a say: the band is where 95 % of "
        "such nets lie. Healthy: no steep slope from one end to the other."
    )
    return Section(
        key="model",
        title=f"Signal propagation of {name}",
        about="What this model does to a signal and its gradient before the first step.",
        level="bad" if bad else "good",
        said=list(_sentences(study)),
        sheets=[_table(layers), *_spectrum(study.spectrum)],
        charts=[Illustration("model", "Signal and gradient, layer by layer", words, _chart(layers))],
    )


def _sentences(study: ModelStudy) -> Iterable[str]:
    calls = f"{len(study.propagation.layers)} layer calls"
    yield f"{framework_name(study.framework)}, {calls}, {study.propagation.mode} mode."
    forward, backward = "from the first dense or convolutional layer to the last", "from the last to the first"
    ways = ("signal", forward), ("gradient", backward)
    for (name, way), log in zip(ways, (study.log_signal, study.log_gradient), strict=True):
        if log == -math.inf:
            yield f"The {name} vanishes: on its way {way} it is exactly 0."
        elif log is not None:
            yield f"The {name} {verdict(log)}: its root mean square changes by a factor of {magnitude(log)} {way}."
    if all(log is None for log in (study.log_signal, study.log_gradient)):
        yield "It has fewer than two dense or convolutional layers, so there is no change with depth to judge."
    if study.nonfinite:
        yield f"NaN or Inf in the output of, or the gradient in, {_paths(study.nonfinite)}."
    if study.unreached:
        yield f"No gradient leads to {_paths(study.unreached)}."
    if study.no_spectrum:
        yield f"No Jacobian: {study.no_spectrum}."


def _paths(paths: Sequence[str]) -> str:
    return listed([path or WHOLE for path in paths])


def _table(layers: Sequence[LayerSignal]) -> Sheet:
    headings = ["layer", "kind", "signal", "theory", "gradient", "theory "]
    rows = []
    for layer in layers:
        call = f" (call {layer.call + 1})" if layer.call else ""
        row = [(layer.path or WHOLE) + call, layer.kind]
        for _, signal, expected in _SIDES:
            row += [_cell(signal(layer)), _theory(expected(layer))]
        rows.append(row)
    return Sheet("Orders of magnitude of the root mean square", headings, rows, words=["kind"])


def _cell(signal: Signal | None) -> str:
    if signal is None:
        return NO_PATH
    return shown(signal.log_second_moment / 2)


def _theory(expected: Expected | None) -> str:
    if expected is None:
        return "no say"
    return f"{shown(expected.centre / 2)} ± {expected.spread / math.log(10):.2f}"


def _spectrum(spectrum: JacobianSpectrum | None) -> list[Sheet]:
    if spectrum is None:
        return []
    outputs, inputs = spectrum.shape
    rows = [
        ("outputs × inputs", f"{outputs:,} × {inputs:,}"),
        ("largest", number(spectrum.values[0])),
        ("mean square", number(spectrum.mean_squared) + _error(spectrum)),
    ]
    if spectrum.smallest is not None and spectrum.condition is not None and spectrum.near_one is not None:
        rows += [("smallest", number(spectrum.smallest)), ("largest over smallest", number(spectrum.condition))]
        rows += [(f"share within {number(NEAR_ONE)}× of 1", percent(spectrum.near_one))]
    return [Sheet("Singular values of the Jacobian, first example, eval mode", ["figure", "value"], rows)]


def _error(spectrum: JacobianSpectrum) -> str:
    return f" ± {number(spectrum.mean_squared_error, 2)} (estimated)" if spectrum.method == "lanczos" else ""


def _chart(layers: Sequence[LayerSignal]) -> Chart:
    canvas = Canvas([Panel(f"{name}: root mean square", "orders of magnitude") for name, *_ in _SIDES], "layer call")
    theory = Line("theory, 95 % of such nets", style.sequence(2, 3), runs=range(2))
    measured = Line("measured", style.sequence(0, 3))
    for panel, (name, signal, expected) in enumerate(_SIDES):
        known = [
            (i, layer, expectation) for i, layer in enumerate(layers, 1) if (expectation := expected(layer)) is not None
        ]
        if known:
            mode = "lines" if len(known) > 1 else "markers"
            canvas.line(
                panel, theory, [_expected(i, layer, name, expectation) for i, layer, expectation in known], mode=mode
            )
        canvas.line(panel, measured, [_measured(i, layer, name, signal(layer)) for i, layer in enumerate(layers, 1)])
    return canvas.figure()


def _expected(x: int, layer: LayerSignal, name: str, expected: Expected) -> Point:
    text = f"{_where(layer)}<br>{name.lower()} by theory <b>{magnitude(expected.centre / 2)}</b>"
    return log_point(x, expected.centre / 2, text, error=expected.spread)


def _measured(x: int, layer: LayerSignal, name: str, signal: Signal | None) -> Point:
    if signal is None:
        return Point(x, Spread(None, None, None), f"{_where(layer)}<br>{name.lower()}", why=NO_PATH)
    log = signal.log_second_moment / 2
    return log_point(x, log, f"{_where(layer)}<br>{name.lower()} <b>{magnitude(log)}</b>")


def _where(layer: LayerSignal) -> str:
    return f"{style.text(layer.path or WHOLE, 80)} ({layer.kind})"
