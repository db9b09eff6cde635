"""How much the two frameworks differ at initialisation, when they have the same weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from gradlab_core.compare.comparison import CORRECT, INITIAL, Run, differences
from gradlab_core.compare.pages.nets import Net
from gradlab_core.judge import bands
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.show.words import LABELS
from gradlab_core.text import number, odd

AGREE = 1e-2
"""Up to this relative difference the page says that the frameworks agree. It only decides about
the words: float32 figures behind twenty layers were seen to differ by 1e-4, and another definition differs by far more
than 1e-2. The proof is `gradlab parity`, which derives its tolerance."""
FLOAT32 = 2.0**-23


@dataclasses.dataclass(frozen=True)
class Gap:
    """One figure of one net: what PyTorch measured, and JAX minus that; None if one of them lacks the figure."""

    block: str
    seed: int
    figure: str
    torch: float | None
    difference: float | None

    @property
    def relative(self) -> float | None:
        if self.torch is None or self.difference is None:
            return None
        if self.torch == 0 or math.isinf(self.difference):
            return 0.0 if self.difference == 0 else math.inf if self.difference == self.difference else math.nan
        return abs(self.difference / self.torch)


def gaps(runs: Iterable[Run]) -> list[Gap]:
    """The gaps of every figure at initialisation, for every net that was run in both frameworks."""
    every = list(runs)
    torch = {(r.block, r.seed): r.initial for r in every if r.framework == "torch" and r.setup == CORRECT}
    rows = []
    for block, seed, moment, by_figure in differences(every):
        if moment == INITIAL:
            record = torch[block, seed]
            known = bands.figures(record.activations, record.flow, record.sensitivity)
            rows += [Gap(block, seed, name, known[name], gap) for name, gap in by_figure.items()]
    return rows


def statement(runs: Sequence[Run]) -> tuple[str, str]:
    """The level and the sentence that say whether the frameworks agree, with the measured figure."""
    every = gaps(runs)
    if not every:
        return "unknown", (
            "Whether PyTorch and JAX agree was not measured: no net of the correct set-up was "
            "run in both with the same seed."
        )
    known = [(gap.relative, gap) for gap in every if gap.relative is not None]
    broken = [gap for relative, gap in known if not math.isfinite(relative)]
    if broken or not known:
        what = ", ".join(dict.fromkeys(f"{LABELS[g.figure]} of {g.block}" for g in broken[:3])) or "any figure"
        return "bad", f"The two frameworks cannot be compared at initialisation: no finite difference for {what}."
    largest, where = max(known, key=lambda pair: pair[0])
    level = "good" if largest <= AGREE else "bad"
    return level, (
        f"The two frameworks {'agree' if level == 'good' else 'do not agree'} at initialisation: over {len(known)} "
        f"figures the largest relative difference between JAX and PyTorch is {number(largest, 2)} "
        f"({LABELS[where.figure]} of {where.block}, seed {where.seed})."
    )


def chart(runs: Sequence[Run]) -> Chart:
    """The chart of the relative differences of every figure, with a mark for each seed."""
    every = gaps(runs)
    canvas = Canvas([Panel("", "relative difference", log=True)], "")
    blocks, labels = list(dict.fromkeys(g.block for g in every)), list(dict.fromkeys(g.figure for g in every))
    for place, block in enumerate(blocks):
        mine = [run for run in runs if run.block == block]
        # The marks are single seeds, so there is no range behind them.
        net = Net(CORRECT, block, "torch", tuple(mine[:1]))
        shift = 0.22 * (place - (len(blocks) - 1) / 2)
        points = [
            Point(labels.index(g.figure) + shift, Spread(g.relative, g.relative, g.relative), _hover(g))
            for g in every
            if g.block == block
        ]
        canvas.line(0, net, points, mode="markers")
    place_of_line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": FLOAT32, "y1": FLOAT32}
    canvas.shapes.append({**place_of_line, "line": {"color": style.MUTED, "width": 1, "dash": "dash"}})
    words = {"xref": "paper", "x": 1, "xanchor": "right", "y": math.log10(FLOAT32), "yanchor": "bottom"}
    canvas.annotations.append({**words, "text": "one rounding step of float32", "showarrow": False})
    figure = canvas.figure()
    for trace in figure["data"]:
        trace["name"] = trace["name"].removesuffix(" · PyTorch")
    ticks = {
        "tickvals": list(range(len(labels))),
        "ticktext": [LABELS[name].replace(" ", "<br>", 1) for name in labels],
    }
    figure["layout"]["xaxis"] |= {**ticks, "range": [-0.5, len(labels) - 0.5]}
    return figure


def _hover(gap: Gap) -> str:
    relative = odd(gap.relative) or number(gap.relative)
    shown = f"PyTorch {number(gap.torch)}, JAX − PyTorch {number(gap.difference)}<br><b>relative {relative}</b>"
    return f"{style.text(gap.block)}, seed {gap.seed}<br>{LABELS[gap.figure]}<br>{shown}"
