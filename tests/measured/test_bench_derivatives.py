"""The benchmark of derivatives: right nets are drawn and wrong backwards planted, checked and counted. A dozen of each
run here; `gradlab bench derivatives` runs as many as one likes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks import bench_derivatives
from benchmarks.planted import FAULTS
from gradlab_core.errors import GradlabError


def test_none_is_alleged_in_right_nets_and_each_planted_one_is_placed():
    told: list[str] = []
    rows = bench_derivatives.run(framework="torch", nets=12, faults=10, on_call=told.append)
    assert len(told) == 22
    assert [row.wrong for row in rows[:12]] == [()] * 12
    assert {row.net for row in rows[:12]} == set(bench_derivatives.NETS)
    assert any(row.statuses.get("kink") for row in rows[:12])
    assert {row.fault for row in rows[12:]} == set(FAULTS)
    assert all(row.placed for row in rows[12:])
    console = Console(width=150, record=True, file=io.StringIO())
    for part in bench_derivatives.report(rows):
        console.print(part)
    text = console.export_text()
    assert "nothing" in text
    assert "seed" not in text  # nothing was missed


def test_in_jax_too():
    rows = bench_derivatives.run(framework="jax", nets=2, faults=1)
    assert [row.wrong for row in rows[:2]] == [(), ()]
    assert rows[2].placed


def test_what_cannot_be_run_is_refused():
    with pytest.raises(GradlabError, match="nets is -1"):
        bench_derivatives.run(nets=-1)
