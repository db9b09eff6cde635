"""The page of a comparison: its content is gathered in Python and put into the template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradlab_core.compare.comparison import CORRECT, Run
from gradlab_core.compare.pages.charts import band_charts, main_charts, published_charts
from gradlab_core.compare.pages.nets import main_runs, nets
from gradlab_core.compare.pages.published_section import published_section
from gradlab_core.compare.pages.table import comparison_table
from gradlab_core.compare.pages.verdict import verdict
from gradlab_core.judge.bands import BAND_SETS, BandSet, suited
from gradlab_core.show.rendering import fill, version
from gradlab_core.show.words import BLOCKS, DEFINITIONS, framework_name
from gradlab_core.text import number


def render(runs: Sequence[Run], asked: BandSet | None = None) -> str:
    """The whole HTML page; `asked` are bands that were asked for by name."""
    return fill(Path(__file__).with_name("page.html.j2"), content(runs, asked))


def content(runs: Sequence[Run], asked: BandSet | None = None) -> dict[str, Any]:
    """Everything the template shows, under the names it uses."""
    main = main_runs(runs)
    charts = {"main": main_charts(runs, asked), "bands": band_charts(runs, asked), "published": published_charts(runs)}
    blocks = list(dict.fromkeys(run.block for run in main))
    return {
        "verdict": verdict(runs, asked),
        "about_blocks": [(block, BLOCKS[block]) for block in blocks if block in BLOCKS],
        "main_is_correct": main[0].setup == CORRECT,
        "trained": any(run.training.steps for run in main),
        "table": comparison_table(main, asked),
        "bands": _bands(main, asked),
        "known_bands": list(BAND_SETS.values()),
        "charts": charts,
        "figures": {item.key: item.figure for group in charts.values() for item in group},
        "published": published_section(runs),
        "definitions": DEFINITIONS,
        "settings": _settings(runs),
        "version": version(),
    }


def _bands(runs: Sequence[Run], chosen: BandSet | None) -> dict[str, Any] | None:
    """The bands that judge the figures of the page: those asked for, or else those of the runs' own set-up."""
    own = next((bands for run in runs if run.trained and (bands := suited(run.data, run.base, run.depth))), None)
    used = chosen or own
    return None if used is None else {"name": used.name, "source": used.source, "asked": chosen is not None}


SETTING_COLUMNS = (
    "Set-up", "Block", "Framework", "Seeds", "Data", "Base", "Depth", "Batch size", "Learning rate by epoch", "Steps",
    "Measured in",
)  # fmt: skip


def _settings(runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for net in nets(runs):
        run = net.runs[0]
        modes = run.initial.mode + (f", then {run.trained.mode}" if run.trained else "")
        steps = sorted({len(r.training.steps) for r in net.runs})
        row = [net.setup, net.block, framework_name(net.framework), ", ".join(str(r.seed) for r in net.runs)]
        row += [run.data, str(run.base), "-".join(map(str, run.depth)), str(run.batch_size), _rates(run)]
        rows.append([*row, ", ".join(map(str, steps)), f"{modes} mode"])
    return [list(SETTING_COLUMNS), *rows]


def _rates(run: Run) -> str:
    """The learning rates in order; equal ones that follow each other are named once."""
    parts: list[tuple[float, int]] = []
    for rate in run.learning_rates:
        parts = [*parts[:-1], (rate, parts[-1][1] + 1)] if parts and parts[-1][0] == rate else [*parts, (rate, 1)]
    return ", ".join(number(rate) + (f" (× {count})" if count > 1 else "") for rate, count in parts) or "no training"
