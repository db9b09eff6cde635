"""Tables of records: written whole or not at all, and no number changes its kind."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord
from gradlab_core.sinks import TableSink, export, open_sink
from tests.recorded import CUT, DEAD, NONFINITE_AT, eventful, step


def test_csv_keeps_nan_inf_missing_and_zero_apart(tmp_path: Path) -> None:
    export(eventful(), tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    at = {(int(r["step"]), r["path"], r["quantity"]): r for r in rows}
    assert at[NONFINITE_AT, "", "loss"]["value"] == "NaN"
    assert at[NONFINITE_AT, "", "grad_norm"]["value"] == "Inf"
    assert at[0, CUT, "grad"]["value"] == ""
    assert at[0, DEAD, "grad"]["value"] == "0.0"
    assert (at[0, CUT, "state"]["value"], at[0, CUT, "state"]["state"]) == ("", "disconnected")
    assert float(at[3, "fc.bias", "grad"]["value"]) == eventful()[3].tensors["fc.bias"].grad
    assert len(at) == len(rows)  # tidy: one number a row


def test_parquet_keeps_nan_and_null_apart(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [*eventful(), step(60, paths=("a<b>é",))]
    export(records, tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "string", "double", "string"]
    at = {(r["step"], r["path"], r["quantity"]): r for r in table.to_pylist()}
    assert math.isnan(at[NONFINITE_AT, "", "loss"]["value"])
    assert at[NONFINITE_AT, "", "grad_norm"]["value"] == math.inf
    assert at[0, CUT, "grad"]["value"] is None
    assert at[0, DEAD, "grad"]["value"] == 0.0
    assert at[60, "a<b>é", "state"]["state"] == "ok"
    missing = [r for r in at.values() if r["quantity"] != "state" and r["value"] is None]
    assert table["value"].null_count == len(missing) + sum(r["quantity"] == "state" for r in at.values())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_as_a_sink_is_the_table_of_an_export(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    export(eventful(), tmp_path / f"whole.{kind}")
    with open_sink(f"{kind}:{tmp_path / 'run'}") as sink:
        for record in eventful():
            sink(record)
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "run").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    with pytest.raises(GradlabError, match="closed"):
        sink(step(0))
    with contextlib.suppress(KeyboardInterrupt), TableSink(tmp_path / f"cut.{kind}") as sink:
        sink(step(0))
        raise KeyboardInterrupt  # what was measured is kept
    assert (tmp_path / f"cut.{kind}").stat().st_size > 100
    with pytest.raises(GradlabError, match="is a folder"):
        TableSink(tmp_path, kind=f".{kind}")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[StepRecord]:
        yield step(0)
        raise KeyboardInterrupt

    for name in ("run.csv", "run.parquet"):
        with pytest.raises(KeyboardInterrupt):
            export(failing(), tmp_path / name)
    with pytest.raises(GradlabError, match=r"'\.xlsx'; expected \.parquet or \.csv"):
        export([step(0)], tmp_path / "run.xlsx")
    assert list(tmp_path.iterdir()) == []
