"""The section of the chain rule: what each layer of a model makes of the gradient on its way back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradlab_core.lab.pages.scale import log_point, magnitude, verdict
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.studies.chain_rule import ChainStudy
from gradlab_core.records import LayerFactor
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed

_MANY = 5
_NONE = "none"


def chain_section(name: str, study: ChainStudy) -> Section:
    """The section of a model, with the name that the user gave."""
    whole = study.chain.log_whole
    bad = bool(study.cut or study.unreached) or whole is None or verdict(whole) != "survives"
    words = (
        "Above the factor by which each layer call multiplies the norm of the gradient as it comes back, and what "
        "arises between it and the layer that ran next. Below what has become of the gradient from the logits to the "
        "input of each layer, and the product of the layers' own factors so far. In a plain chain the two are one line."
    )
    return Section(
        key="chain",
        title=f"The chain rule on {name}",
        about="The gradient's way back, read from right to left: one factor for each layer.",
        level="bad" if bad else "good",
        said=list(_sentences(study)),
        sheets=[_table(study.chain.layers)],
        charts=[Illustration("chain", "The factors, and their product", words, _chart(study.chain.layers))],
    )


def _sentences(study: ChainStudy) -> Iterable[str]:
    chain = study.chain
    yield f"{framework_name(study.framework)}, {len(chain.layers)} layer calls, {chain.mode} mode."
    if chain.log_whole is None or study.log_between is None:
        yield "No gradient comes from the loss to any layer."
    else:
        yield (
            f"On its way from the logits to the input of {chain.start} the gradient {verdict(chain.log_whole)}: its "
            f"norm is multiplied by {magnitude(chain.log_whole)}."
        )
        if study.parts:
            more = f" and {len(study.parts) - _MANY} others" if len(study.parts) > _MANY else ""
            yield (
                f"The layers' own factors make {magnitude(chain.log_product)}; the rest, a factor of "
                f"{magnitude(study.log_between)}, arises where paths part or meet, or at steps that are no layer: "
                f"after {listed(list(study.parts[:_MANY]))}{more}."
            )
        else:
            yield "That is the product of the layers' own factors: the net is a plain chain."
    if study.cut:
        yield f"Nothing comes through {listed(list(study.cut))}."
    if study.unreached:
        yield f"No gradient comes to {listed(list(study.unreached))}."


def _table(rows: Sequence[LayerFactor]) -> Sheet:
    headings = ["layer", "kind", "its factor", "after it", "gradient at its input"]
    sofar = _sofar(rows)[0]
    cells = [
        [row.layer, row.kind, _cell(row.log_factor), _cell(row.log_after), _cell(total)]
        for row, total in zip(rows, sofar, strict=True)
    ]
    return Sheet("Factors of the gradient's norm; at the logits it is 1", headings, cells, words=["kind"])


def _cell(log: float | None) -> str:
    return _NONE if log is None else magnitude(log)


def _sofar(rows: Sequence[LayerFactor]) -> tuple[list[float | None], list[float | None]]:
    """At the input of each layer ln of the gradient over that at the logits, and of the layers' own factors alone; None
    where it does not pass."""
    whole, own = [], []
    total, product = 0.0, 0.0
    for row in reversed(rows):
        passes = row.log_factor is not None and row.log_after is not None
        if row.log_factor is not None and row.log_after is not None:
            total, product = total + row.log_factor + row.log_after, product + row.log_factor
        whole.append(total if passes else None)
        own.append(product if passes else None)
    return whole[::-1], own[::-1]


def _chart(rows: Sequence[LayerFactor]) -> Chart:
    canvas = Canvas(
        [
            Panel("Factor of the gradient's norm", "orders of magnitude"),
            Panel("Gradient over that at the logits", "orders of magnitude"),
        ],
        "layer call, in the order in which they ran",
    )
    layer, between = (
        Line("the layer itself", style.sequence(0, 4)),
        Line("after it", style.sequence(1, 4), style.DOTTED),
    )
    whole, own = Line("gradient", style.sequence(2, 4)), Line("product of the layers alone", style.sequence(3, 4))
    columns = [row.log_factor for row in rows], [row.log_after for row in rows], *_sofar(rows)
    for panel, line, logs in zip((0, 0, 1, 1), (layer, between, whole, own), columns, strict=True):
        points = [
            log_point(i, log, f"{_where(row)}<br>{line.name} <b>{magnitude(log)}</b>", below="nothing comes through")
            for i, (row, log) in enumerate(zip(rows, logs, strict=True), 1)
            if log is not None and not math.isnan(log)
        ]
        if points:
            canvas.line(panel, line, points)
    figure = canvas.figure()
    figure["layout"]["meta"] = {"narrowLegendColumns": 1}
    return figure


def _where(row: LayerFactor) -> str:
    return f"{style.text(row.layer, 80)} ({row.kind})"
