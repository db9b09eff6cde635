"""The report: what it says of every kind of run, and how it behaves in a real browser without a network."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.compare.comparison import AS_PUBLISHED, CORRECT, Run
from gradlab_core.compare.pages.agreement import statement
from gradlab_core.compare.pages.charts import main_charts
from gradlab_core.compare.pages.page import content, render
from gradlab_core.compare.pages.table import comparison_table
from gradlab_core.definitions.thresholds import HEALTHY_UPDATE_RATIO
from gradlab_core.errors import GradlabError
from gradlab_core.judge import bands
from gradlab_core.judge.judged import judged_runs
from gradlab_core.judge.norm_report import norm_report
from gradlab_core.records import (
    ActivationSummary,
    ArchitectureRecord,
    EpochRecord,
    GradientFlow,
    LayerStats,
    StepRecord,
    TrainingRecord,
)
from gradlab_core.report import write_html
from gradlab_core.show.run.page import content as recorded
from gradlab_core.text import number

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
LOST = "stage2.0.down.weight"


def layers(mode: str, std: float) -> tuple[LayerStats, ...]:
    paths = {"conv1": "conv", "bn1": "norm", "relu1": "relu", "stage1.0.conv1": "conv", "stage1.0.relu": "relu"}
    return tuple(
        LayerStats(
            path=path, kind=kind, call=0, shape=(4, 8, 32 // (1 + i), 32 // (1 + i)), mode=mode, mean=0.1, std=std,
            min=-1.0, max=1.0, rms=1.0, zero_frac=0.5 if kind == "relu" else 0.0,
            nonfinite=0 if math.isfinite(std) else 7, saturated_frac=None, dead_unit_frac=None,
        )
        for i, (path, kind) in enumerate(paths.items())
    )  # fmt: skip


def record(
    *, framework: str = "torch", mode: str = "train", std: float = 0.7, norm: float = 6.0, ratio: float | None = 1.0,
    grads: dict[str, float | None] | None = None,
) -> ArchitectureRecord:  # fmt: skip
    grads = grads or {"conv1.weight": 1.5, "bn1.weight": 0.1, LOST: 0.7, "fc.weight": 1.0}
    lost = tuple(path for path, value in grads.items() if value is None)
    flow = GradientFlow(
        mode=mode, loss=2.3, first=1.5, last=1.0, ratio=ratio, global_norm=norm, layers=grads, disconnected=lost
    )
    summary = ActivationSummary(
        layers_tracked=5, mean_mean=0.1, mean_std=std, min_std=std, max_std=std, relu_zero_frac_mean=0.5,
        relu_zero_frac_max=0.5,
    )  # fmt: skip
    return ArchitectureRecord(
        name="net", framework=framework, mode=mode, params=43634, flops=13419136, activations=summary,
        layers=layers(mode, std), flow=flow, sensitivity=0.0025, verdicts=bands.judge(summary, flow, 0.0025),
    )  # fmt: skip


def training(framework: str = "torch", *, steps: int = 6, diverged_at: int | None = None) -> TrainingRecord:
    rows = []
    for step in range(steps if diverged_at is None else diverged_at + 1):
        loss, norm = (math.nan, math.inf) if step == diverged_at else (2.3 / (1 + step), 3.0)
        norms = {"grad_norm": norm, "param_norm": 9.0, "update_norm": 0.1, "update_ratio": 0.01}
        rows.append(StepRecord(step=step, loss=loss, learning_rate=0.05, tensors={}, states={}, **norms))
    epoch = EpochRecord(epoch=0, learning_rate=0.05, train_loss=1.5, test_accuracy=0.4, grad_norm_mean=3.0, seconds=1.0)
    done = steps > 0 and diverged_at is None
    return TrainingRecord(
        framework=framework, steps=tuple(rows), epochs=(epoch,) if done else (), diverged_at=diverged_at
    )


def run(block: str = "plain", framework: str = "torch", seed: int = 0, **changes: Any) -> Run:
    done = record(framework=framework, std=0.8)
    fields: dict[str, Any] = {
        "setup": CORRECT, "data": "digits", "base": 8, "depth": (2, 2, 2), "batch_size": 32, "learning_rates": (0.05,),
        "initial": record(framework=framework), "untrained_eval": None, "training": training(framework),
        "trained": done,
    }  # fmt: skip
    return Run(block=block, framework=framework, seed=seed, **(fields | changes))


def diverged(block: str = "preact", seed: int = 1) -> Run:
    return run(block, seed=seed, training=training(diverged_at=3), trained=None)


def published(framework: str = "torch") -> list[Run]:
    grads = {"conv1.weight": 1.5, LOST: None, "fc.weight": 0.0}
    common: dict[str, Any] = {"setup": AS_PUBLISHED, "untrained_eval": record(mode="eval", std=0.06)}
    common |= {"learning_rates": (0.001,), "trained": record(mode="eval", std=0.6)}
    nets = {"plain_unpadded": record(), "postact": record(), "preact_noskip": record(grads=grads)}
    return [run(block, framework, initial=initial, **common) for block, initial in nets.items()]


def everything() -> list[Run]:
    pairs = [run(b, f, s) for b in ("plain", "postact") for f in ("torch", "jax") for s in (0, 1)]
    broken = run("preact", "jax", initial=record(framework="jax", std=math.nan, norm=math.inf, ratio=None))
    evil = run(EVIL, "torch", data=EVIL, initial=record(grads={EVIL: None, "fc.weight": 1.0}))
    return [*pairs, broken, diverged(), run("preact", seed=0), evil, *published()]


def numbers(figure: dict[str, Any]) -> list[Any]:
    return [value for trace in figure["data"] for value in trace["y"]]


def marks(figure: dict[str, Any]) -> set[str]:
    """The words of the rows below the plot."""
    axes = [axis for key, axis in figure["layout"].items() if key.startswith("yaxis")]
    return {word for axis in axes for word in axis.get("ticktext", [])}


def test_importing_the_report_loads_neither_plotly_nor_jinja2() -> None:
    code = "import sys, gradlab_core.report; print([m for m in ('plotly', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match="no runs"):
        write_html([], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_one_file_with_plotly_once_and_nothing_left_beside(tmp_path: Path) -> None:
    write_html([run()], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = (tmp_path / "report.html").read_text()
    assert text.count("plotly.js v") == 1
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", text)


@pytest.mark.parametrize(
    "runs",
    [
        [run()],
        [run(framework="jax")],
        [diverged()],
        [run(training=training(steps=0), trained=None, learning_rates=())],
        published(),
        [*published(), *published("jax"), run("plain"), run("preact")],
        everything(),
    ],
    ids=["one", "jax", "diverged", "untrained", "published", "both", "everything"],
)
def test_every_kind_of_run_gives_a_page_with_valid_charts(runs: Sequence[Run]) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    page = render(runs)
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    for figure in json.loads(found[1], parse_constant=pytest.fail).values():
        go.Figure(figure)  # plotly's own schema: a misspelt key raises
        assert figure["data"]


def test_user_words_are_escaped_everywhere() -> None:
    page = render(everything())
    assert EVIL not in page
    assert "<img src=x" not in page
    assert "<script>window" not in page


def test_nan_inf_missing_and_zero_stay_four_things() -> None:
    odd = run(initial=record(std=math.nan, norm=math.inf, ratio=None))
    cells = {label: cells[0] for _, rows in comparison_table([odd]).groups[:2] for label, cells in rows}
    assert (cells["Mean activation std"].value, cells["Mean activation std"].level) == ("NaN", "unknown")
    assert cells["Global gradient norm"].value == "Inf"
    assert cells["First/last gradient ratio"].value == "not measured"
    assert cells["Parameters without a gradient path"].value == "0"
    chart = content([odd])["figures"]["activation-std"]
    assert marks(chart) == {"NaN"}
    words = [a["text"] for a in content([odd])["figures"]["band-global_norm"]["layout"]["annotations"]]
    assert "PyTorch at initialisation: Inf" in words


def test_a_disconnected_weight_is_a_gap_with_a_word_and_a_zero_is_another() -> None:
    chart = content(published())["figures"]["published-gradient-norms"]
    assert marks(chart) == {"no gradient path", "exactly 0"}
    line = next(t for t in chart["data"] if t["name"].startswith("preact_noskip"))
    assert line["y"] == [1.5, None, None]


def test_a_diverged_run_is_marked_and_does_not_pull_the_mean() -> None:
    runs = [run("preact", seed=0), diverged(seed=1)]
    chart = content(runs)["figures"]["training"]
    assert any("diverged at step 3" in a["text"] for a in chart["layout"]["annotations"])
    assert {"NaN", "Inf"} <= marks(chart)
    assert len(chart["data"]) == 6 + 2  # three panels for each of two lines, two rows of marks
    table = comparison_table(runs)
    accuracy = dict(table.groups[3][1])["Test accuracy"][0]
    assert (accuracy.value, accuracy.note) == ("40.0 %", "1 of 2 seeds")


def test_a_single_seed_shows_no_deviation() -> None:
    assert "±" not in dict(comparison_table([run()]).groups[1][1])["Mean activation std"][0].value
    assert any("one seed only" in note for note in content([run()])["verdict"].notes)


def test_the_agreement_is_measured() -> None:
    same = [run(), run(framework="jax")]
    assert statement(same)[0] == "good"
    other = [run(), run(framework="jax", initial=record(framework="jax", norm=9.0))]
    level, words = statement(other)
    assert level == "bad"
    assert "do not agree" in words
    assert "0.5" in words
    assert statement([run()])[0] == "unknown"


def test_the_published_section_shows_each_error_in_numbers() -> None:
    shown = content([*published(), run("plain"), run("preact")])["published"]
    assert [error.number for error in shown.errors] == list(range(1, 8))
    assert LOST in shown.errors[0].evidence.lines[0]
    assert shown.errors[3].evidence.rows[0][1] == "0.06"
    assert not shown.comparable
    assert shown.blocks[0][1][0][1] == "19.3"
    assert content([run()])["published"] is None


def test_on_the_published_data_the_figures_may_be_compared() -> None:
    runs = [dataclasses.replace(r, data="cifar10", base=32) for r in published()]
    assert content(runs)["published"].comparable


def test_one_range_of_update_ratios_is_called_usual() -> None:
    """On the page of a comparison, on that of a run and in the norm report."""
    low, high = map(number, HEALTHY_UPDATE_RATIO)
    captions = {item.key: item.caption for item in main_charts([run()])}
    assert f"update ratio stays within {low} to {high}" in captions["training"]
    steps = [dataclasses.replace(step, update_ratio=1e-3) for step in run().training.steps]
    (words,) = [
        item.caption
        for item in recorded(judged_runs({"a": steps}))["sections"][0]["charts"]
        if item.key == "run-0-curves"
    ]
    assert f"zone from {low} to {high}" in words
    assert any(f"usual {low} to {high}" in note for note in norm_report(steps).notes)


# In a real browser.


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser_without_a_network(opened: Callable[[Path, int], Any], tmp_path: Path, width: int) -> None:
    runs = everything()
    write_html(runs, tmp_path / "report.html")
    page = opened(tmp_path / "report.html", width)
    drawn = page.evaluate(
        "[...document.querySelectorAll('[data-chart]')].map(p => [p.dataset.chart, p.data.length, "
        "p.querySelectorAll('g.trace.scatter').length])"
    )
    figures = content(runs)["figures"]
    assert {key: count for key, count, _ in drawn} == {key: len(f["data"]) for key, f in figures.items()}
    assert all(0 < count == shown for _, count, shown in drawn), drawn
    text = page.inner_text("body")
    for words in (
        "In short",
        "no gradient reaches",
        "diverged",
        "✓ good",
        "not measured",
        "NaN",
        "Inf",
        "seven errors",
    ):
        assert words in text
    # The legend hides and shows: the charts are alive.
    chart = "#chart-activation-std"
    page.locator(f"{chart} .legendtoggle").first.click()
    page.wait_for_selector(f"{chart} g.traces[style*='opacity: 0.5']", state="attached", timeout=5_000)
