"""The benchmark of causes: traps are planted, judged and counted."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import bench_causes
from benchmarks.traps.catalogue import NETS, TRAPS
from gradlab_core.errors import GradlabError
from gradlab_core.parity import causes

ROOT = Path(__file__).parents[2]


def test_every_trap_is_planted_somewhere_and_its_cause_is_one_that_is_told():
    planted = "".join((ROOT / "benchmarks" / "traps" / f"{name}.py").read_text() for name in ("ports", "recipes"))
    told = "".join(path.read_text() for path in Path(causes.__file__).parent.glob("*.py"))
    assert len({trap.name for trap in TRAPS}) == len(TRAPS)
    for trap in TRAPS:
        part = trap.name.partition(" ")[2] if trap.name.startswith(("conv", "fc")) else trap.name
        assert part in planted, trap.name
        assert f'"{trap.cause}"' in told or not trap.cause, trap.cause
        assert trap.net in NETS


def test_a_trap_a_pair_and_a_healthy_net_are_judged_and_counted():
    told: list[str] = []
    rows = bench_causes.run(seeds=1, pairs=1, only=["mse: half", "sgd: momentum"], on_call=told.append)
    assert [row.traps for row in rows[:3]] == [(), ("sgd: momentum 0.8",), ("mse: half",)]
    assert set(rows[3].traps) == {"sgd: momentum 0.8", "mse: half"}
    assert len(told) == 4
    assert not rows[0].alarm
    assert not any(rows[0].fixed.values())
    assert all(row.alarm and row.placed and row.named for row in rows[1:])
    assert sorted(rows[3].told) == ["momentum", "mse-half"]
    console = Console(width=150, record=True, file=io.StringIO())
    for part in bench_causes.report(rows):
        console.print(part)
    text = console.export_text()
    assert "one trap" in text
    assert "expected" not in text  # nothing was missed


def test_what_cannot_be_run_is_refused():
    with pytest.raises(GradlabError, match="seeds is 0"):
        bench_causes.run(seeds=0)
    with pytest.raises(GradlabError, match="only is nothing of that name"):
        bench_causes.run(only=["nothing of that name"])
