"""Bands colour the figures of their own set-up, and those of others only where they are asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from gradlab_core.compare.comparison import Run, summarize
from gradlab_core.compare.pages.page import content, render
from gradlab_core.compare.pages.table import comparison_table
from gradlab_core.judge import bands

from .test_report import record, run

TINYNET = bands.TINYNET_CIFAR10


def levels(runs: Sequence[Run], **asked: Any) -> set[str]:
    table = comparison_table(runs, **asked)
    return {cell.level for _, rows in table.groups for _, cells in rows for cell in cells if cell.level != "unknown"}


def test_no_figure_is_coloured_by_bands_of_another_set_up() -> None:
    weak = run(initial=record(norm=0.4), trained=record(norm=0.4, std=0.1))
    assert levels([weak]) == {"", "good"}  # good: every parameter has a gradient path, whatever the set-up
    page = render([weak])
    assert "no figure is called good or bad" in page
    assert "tinynet-cifar10" in page  # still named, for who wants it
    assert content([weak])["verdict"].notes[-1].startswith("There is one seed only")
    assert not any(content([weak])["figures"][f"band-{name}"]["layout"]["shapes"] for name in ("global_norm", "ratio"))


def test_bands_judge_their_own_set_up_and_any_where_they_are_asked_for() -> None:
    weak = run(initial=record(norm=0.4), trained=record(norm=0.4))
    own = dataclasses.replace(weak, data="cifar10", base=32)
    judged = [(f.moment, f.level) for f in summarize([own]) if f.figure == "global_norm"]
    assert judged == [("at initialisation", "none"), ("after training", "bad")]
    assert "bad" in levels([own])
    judged = [(f.moment, f.level) for f in summarize([weak], judged_by=TINYNET) if f.figure == "global_norm"]
    assert judged == [("at initialisation", "bad"), ("after training", "bad")]
    assert "bad" in levels([weak], asked=TINYNET)
    assert "asked for by name" in render([weak], TINYNET)
    assert content([weak], TINYNET)["figures"]["band-global_norm"]["layout"]["shapes"]


def test_what_is_no_number_needs_no_band() -> None:
    odd = run(initial=record(norm=math.inf, ratio=None), trained=record(norm=math.nan))
    found = {(f.moment, f.figure): f.level for f in summarize([odd])}
    assert found["at initialisation", "global_norm"] == "bad"
    assert found["at initialisation", "ratio"] == found["after training", "global_norm"] == "unknown"
