"""How charts look: every line has a colour and a dash, and the dash decides its marker."""

from __future__ import annotations

import html
import math
import zlib
from typing import Any

SOLID, DOTTED = "solid", "dot"
# Okabe and Ito's palette, whose colours can be told apart with every common kind of colour blindness.
_NAMED = {
    "plain": "#0072B2",
    "postact": "#D55E00",
    "preact": "#009E73",
    "plain_unpadded": "#4AA3DF",
    "preact_noskip": "#B5548A",
}
_OTHERS = ("#B07C00", "#333333", "#7A5195", "#8C564B")
_SEQUENCE = ("#25457f", "#2f86b5", "#1f9d86", "#8a9a01", "#d98104", "#b3310e")
INK, GRID, MUTED = "#1f2933", "#e4e7eb", "#52606d"
ZONES = {"good": "rgba(0,158,115,0.16)", "watch": "rgba(240,190,40,0.18)", "bad": "rgba(213,94,0,0.16)"}


def colour_of(name: str) -> str:
    """The colour of something named, such as a block. It is the same in every chart."""
    return _NAMED.get(name) or _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]


def sequence(place: int, of: int) -> str:
    """The colour of one of several things that have an order, from blue to red.

    >>> sequence(0, 3), sequence(2, 3)
    ('#25457f', '#b3310e')
    """
    return _SEQUENCE[round(place * (len(_SEQUENCE) - 1) / max(of - 1, 1))]


def faint(colour: str) -> str:
    """The same colour almost transparent, for the range behind a line."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def line(colour: str, dash: str) -> dict[str, Any]:
    """The style of a line of that colour; `dash` is `SOLID` or `DOTTED`."""
    return {"color": colour, "width": 2, "dash": dash}


def marker(colour: str, dash: str, *, large: bool = False) -> dict[str, Any]:
    """A small disc for a solid line and a larger open diamond for a dotted one, so that equal values show both."""
    size = (9 if dash == SOLID else 13) if large else (5 if dash == SOLID else 9)
    symbol = "circle" if dash == SOLID else "diamond-open"
    return {"color": colour, "size": size, "symbol": symbol, "line": {"width": 1.5, "color": colour}}


def text(name: str, most: int = 200) -> str:
    """A user's text for a chart, cut to at most so many characters, and escaped because plotly reads some HTML in its
    texts.

    >>> text("a <b> c"), text("stage1.conv", 6)
    ('a &lt;b&gt; c', 'stage…')
    """
    return html.escape(name if len(name) <= most else name[: most - 1] + "…", quote=False)


def rounded(value: float | None) -> float | None:
    """The value with six digits, more than a chart can show; None, which leaves a gap, if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def layout(height: int) -> dict[str, Any]:
    """The layout that all charts share."""
    return {
        "height": height,
        "margin": {"l": 58, "r": 14, "t": 26, "b": 46},
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",  # transparent, for the page may be dark
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "bordercolor": MUTED, "font": {"color": INK}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "yref": "paper"},
        "showlegend": True,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a thin grid and a title that keeps clear of the numbers."""
    base = {
        "title": {"text": title, "standoff": 8} if title else {},
        "gridcolor": GRID,
        "linecolor": "#9aa5b1",
        "showline": True,
    }
    return {**base, "zeroline": False, "ticks": "outside", "tickcolor": "#9aa5b1", "automargin": True, **more}
