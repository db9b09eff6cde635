"""`gradlab bench parity`: one drawn pair, healthy and with everything that is planted in it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from benchmarks import bench_parity
from gradlab_core.cli.main import app
from gradlab_core.errors import GradlabError

MLP = 23
"""A seed whose first net is an MLP, which JAX compiles in a second."""


def test_a_pair_is_judged_healthy_and_with_each_fault(tmp_path):
    out = tmp_path / "parity.json"
    done = CliRunner().invoke(app, ["bench", "parity", "--pairs", "1", "--seed", str(MLP), "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document == json.loads(out.read_text())
    found = {row["case"]: (row["alarms"], row["named"] > 0) for row in document["rows"]}
    assert found["healthy mlp"] == (0, False)
    assert found["planted 10 × the expected rounding"][0] == 1
    assert found["planted 2 × the expected rounding"][0] == 0
    for precision in ("tf32", "bfloat16"):
        assert found[f"candidate in {precision}"] == (0, True)
        assert found[f"candidate in {precision}, and a fault"][0] == 1


def test_no_pairs_are_refused():
    with pytest.raises(GradlabError, match="pairs is 0; expected at least 1"):
        bench_parity.run(pairs=0)
