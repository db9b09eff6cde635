"""Small charts of each figure, with the zones of its band if one applies. Each block has a row, which shows its
frameworks before and after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradlab_core.compare.comparison import INITIAL, TRAINED, Figure
from gradlab_core.judge.bands import Band
from gradlab_core.show import style
from gradlab_core.show.canvas import Chart
from gradlab_core.show.words import framework_name
from gradlab_core.text import odd, with_std

_MOMENTS = (INITIAL, TRAINED)
_BAR = {"thickness": 1, "width": 3, "color": style.MUTED}


def against_band(name: str, figures: Sequence[Figure], band: Band | None) -> Chart:
    """The chart of one figure; others in `figures` are ignored. Without a band there are no zones."""
    chosen = [f for f in figures if f.figure == name and f.moment in _MOMENTS]
    blocks = list(dict.fromkeys(f.block for f in chosen))
    frameworks = list(dict.fromkeys(f.framework for f in chosen))
    drawn = [f for f in chosen if odd(f.value) is None]
    edges = [edge for edge, _, _ in band.zones if math.isfinite(edge)] if band is not None else []
    reach = [*edges, *(e for f in drawn if f.value is not None for e in _ends(f))] or [0.0, 1.0]
    # Figures that span decades need a logarithmic axis, which cannot show a 0.
    log = min(reach) > 0 and max(reach) / min(reach) > 12
    low, high = (min(reach) * 0.8, max(reach) * 1.25) if log else _around(min(reach), max(reach))
    layout = style.layout(64 + 46 * max(len(blocks), 1))
    layout |= {"showlegend": False, "margin": {"l": 20, "r": 14, "t": 22, "b": 34}}
    limits = [math.log10(low), math.log10(high)] if log else [low, high]
    layout["xaxis"] = style.axis(range=limits, type="log" if log else "linear", showgrid=False, nticks=6)
    if log:
        layout["xaxis"] |= {"dtick": "D2" if high / low < 200 else 1, "tickformat": "~g"}
    rows = {block: len(blocks) - 1 - i for i, block in enumerate(blocks)}
    ticks = {"tickvals": list(rows.values()), "ticktext": [style.text(b, 16) for b in rows]}
    layout["yaxis"] = style.axis(showgrid=False, range=[-0.55, len(blocks) - 0.45], fixedrange=True) | ticks
    layout["shapes"], layout["annotations"] = ([], []) if band is None else _zones(band, low, high, log)
    traces = []
    for framework in frameworks:
        for moment in _MOMENTS:
            mine = [f for f in chosen if f.framework == framework and f.moment == moment]
            shift = _shift(frameworks.index(framework), _MOMENTS.index(moment), len(frameworks))
            traces.append(_trace([(f, rows[f.block] + shift) for f in mine if odd(f.value) is None], framework, moment))
            for f in mine:
                if word := odd(f.value):
                    layout["annotations"].append(_word(word, f, rows[f.block] + shift))
    return {"data": [trace for trace in traces if trace["x"]], "layout": layout}


def _trace(points: list[tuple[Figure, float]], framework: str, moment: str) -> Chart:
    symbol = ("circle" if framework == "torch" else "diamond") + ("" if moment == INITIAL else "-open")
    colours = [style.colour_of(f.block) for f, _ in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{framework_name(framework)}, {moment}",
        "x": [style.rounded(f.value) for f, _ in points],
        "y": [y for _, y in points],
        "error_x": {"type": "data", "array": [style.rounded(f.std) for f, _ in points], **_BAR},
        "marker": {"symbol": symbol, "size": 9, "color": colours, "line": {"width": 1.5, "color": colours}},
        "text": [_hover(f) for f, _ in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(f: Figure) -> str:
    judged = "" if f.level == "none" else f" ({f.level})"
    who = f"{style.text(f.block)} · {framework_name(f.framework)}, {f.moment}"
    return f"{who}<br><b>{with_std(f.figure, f.value, f.std)}</b>{judged}, seeds: {f.seeds}"


def _ends(f: Figure) -> list[float]:
    value, std = f.value or 0.0, f.std if f.std is not None and math.isfinite(f.std) else 0.0
    return [value - std if value - std > 0 else value, value + std]


def _around(low: float, high: float) -> tuple[float, float]:
    room = 0.25 * (high - low) or 0.25 * abs(high) or 1.0
    return low - room, high + room


def _shift(framework: int, moment: int, frameworks: int) -> float:
    """The place of a mark within its row: from the top both frameworks before training, then both after it."""
    count = 2 * frameworks
    return 0.3 - 0.6 * (moment * frameworks + framework) / (count - 1)


def _zones(band: Band, low: float, high: float, log: bool) -> tuple[list[Chart], list[Chart]]:
    shapes: list[Chart] = []
    words: list[Chart] = []
    start = low
    for edge, level, _ in band.zones:
        end = min(edge, high)
        if end <= start:
            continue
        place: dict[str, Any] = {"xref": "x", "yref": "paper", "x0": start, "x1": end, "y0": 0, "y1": 1}
        fill = {"fillcolor": style.ZONES[level], "line": {"width": 0}, "layer": "below"}
        shapes.append({"type": "rect", **place, **fill})
        part = math.log(end / start) / math.log(high / low) if log else (end - start) / (high - low)
        if part > 0.11 and (not words or words[-1]["text"] != level or part > 0.3):
            middle = (math.log10(start * end) / 2) if log else (start + end) / 2
            where = {"xref": "x", "yref": "paper", "x": middle, "y": 1, "yanchor": "bottom", "showarrow": False}
            words.append({**where, "text": level, "font": {"size": 11, "color": style.MUTED}})
        start = end
    return shapes, words


def _word(word: str, f: Figure, y: float) -> Chart:
    """Write what is not a number in words at the right edge of its row."""
    text = f"{framework_name(f.framework)} {f.moment}: {word}"
    look = {"showarrow": False, "font": {"size": 10, "color": style.colour_of(f.block)}}
    return {"xref": "paper", "yref": "y", "x": 1, "xanchor": "right", "y": y, "text": text, **look}
