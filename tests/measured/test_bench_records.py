"""The benchmarks of record files and of sweeps run, and say what they measured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import bench_records, bench_sweep
from gradlab_core.errors import GradlabError


def text(parts: Any) -> str:
    console = Console(width=150, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def test_columns_take_less_room_than_lines() -> None:
    rows = bench_records.run(steps=300, tensors=24)
    size = {(row.form, row.numbers): row.bytes_each for row in rows}
    assert 12 * size["columns", "float32"] < size["JSON lines", "float32"]
    assert 8 * size["columns", "float64"] < size["JSON lines", "float64"]
    assert "300 steps × 24 tensors" in text(bench_records.report(rows))


def test_a_sweep_is_written_once_and_measured(tmp_path: Path) -> None:
    told: list[str] = []
    rows = bench_sweep.run(runs=6, steps=30, tensors=4, jobs=1, folder=tmp_path, on_call=told.append)
    assert sum(rows[0].verdicts.values()) == 6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("00[0-3]/*")}
    bench_sweep.run(runs=6, steps=30, tensors=4, jobs=1, folder=tmp_path)
    assert {path: path.stat().st_size for path in before} == {path: path.stat().st_size for path in before}
    assert "6 runs of 30 steps × 4 tensors" in text(bench_sweep.report(rows))
    assert told == ["writing", "judging"]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(GradlabError, match="steps is 0"):
        bench_records.run(steps=0)
    with pytest.raises(GradlabError, match="expected at least 1"):
        bench_sweep.run(runs=0)
