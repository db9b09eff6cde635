"""What a notebook shows: small tables, in which names are escaped and four things stay apart; and data frames."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from typing import Any

import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import GradientState, QuantityValues, RecordedRun, Rows, StepRecord, TensorNorms
from tests.recorded import CUT, ODD, eventful, healthy, step, with_tensor
from tests.runs import layer, run


def cells(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def shown(thing: Any) -> str:
    return str(thing._repr_html_())


def odd_step() -> StepRecord:
    record = step(3, paths=("a", "b", ODD), loss=math.nan, learning_rate=None)
    record = with_tensor(record, "a", GradientState.NONFINITE, grad=math.nan, update=math.inf, ratio=math.inf)
    return with_tensor(record, "b", GradientState.DISCONNECTED, grad=None, update=0.0, ratio=0.0)


def test_a_step_shows_its_tensors() -> None:
    rows = cells(shown(odd_step()))
    assert rows[0] == ["parameter", "param", "grad", "update", "ratio", "state"]
    assert rows[1] == ["a", "2", "NaN", "Inf", "Inf", "nonfinite"]
    assert rows[2] == ["b", "2", "not measured", "0", "0", "disconnected"]
    assert "<b>" not in shown(odd_step())
    shown(odd_step()).encode()  # half of a surrogate pair too
    assert "loss NaN" in shown(odd_step())
    assert "learning rate" not in shown(odd_step())


def test_a_run_shows_its_steps_and_hyperparameters() -> None:
    found = shown(RecordedRun(healthy(200), config={"rate": 0.1, "net": "<mlp>"}))
    assert "200 records, step 0 to 199; rate 0.1, net &lt;mlp&gt;" in found
    rows = cells(found)
    assert rows[0][:2] == ["step", "loss"]
    assert "raw grad norm" not in rows[0]  # measured at no step
    assert len(rows) == 1 + 60 + 1
    assert rows[31] == ["… 140 more …"]
    assert "0 records" in shown(RecordedRun([]))


def test_findings_and_layers_show_a_row_each() -> None:
    findings = diagnose(eventful())
    assert isinstance(findings, list)
    assert [row[0] for row in cells(shown(findings))[1:]] == [finding.code for finding in findings]
    assert cells(shown(findings[0]))[1][0] == findings[0].code
    layers = Rows([layer("act1"), layer("<i>", mean=math.nan, saturated_frac=None, dead_unit_frac=0.0)])
    rows = [dict(zip(cells(shown(layers))[0], row, strict=True)) for row in cells(shown(layers))[1:]]
    assert rows[1]["path"] == "&lt;i&gt;"
    assert (rows[1]["mean"], rows[1]["dead unit frac"], rows[0]["shape"]) == ("NaN", "0", "32, 32")
    assert "saturated frac" not in rows[0]
    assert "1 row<" in shown(layers[0])
    assert cells(shown(Rows())) == [[]]


def frames() -> RecordedRun:
    odd = dataclasses.replace(odd_step(), quantities={"mine": QuantityValues(tensors={"a": math.inf}, whole=None)})
    return RecordedRun([step(0, paths=("a",)), odd, *run(60)[10:12]])


@pytest.mark.parametrize(
    ("library", "method"), [("pyarrow", "to_arrow"), ("polars", "to_polars"), ("pandas", "to_pandas")]
)
def test_frames_keep_what_is_missing_apart_from_nan(library: str, method: str) -> None:
    pytest.importorskip(library)
    recorded = frames()

    def columns(of: str) -> dict[str, list[Any]]:
        frame = getattr(recorded, method)(of)
        if library == "pandas":
            import pandas

            return {n: [None if v is pandas.NA else v for v in frame[n].array] for n in frame.columns}
        return frame.to_pydict() if library == "pyarrow" else frame.to_dict(as_series=False)

    steps = columns("steps")
    assert steps["step"] == [0, 3, 10, 11]
    assert [str(v) for v in steps["loss"][:2]] == ["2.3", "nan"]
    assert steps["learning_rate"][1] is None
    assert [v is None for v in steps["mine"]] == [True] * 4
    assert steps["skipped"] == [False] * 4
    tensors = columns("tensors")
    assert len(tensors["step"]) == 1 + 3 + 2 * 5
    assert tensors["path"][1:3] == ["a", "b"]
    assert [str(v) for v in tensors["grad"][1:3]] == ["nan", "None"]
    assert tensors["update"][1:3] == [math.inf, 0.0]
    assert tensors["state"][2] == "disconnected"
    assert tensors["mine"] == [None, math.inf, *[None] * 12]


def test_a_frame_of_something_else_and_a_missing_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GradlabError, match="of is 'layers'; expected one of steps, tensors"):
        frames().to_arrow("layers")
    for library in ("pandas", "polars", "pyarrow"):
        for name in [m for m in sys.modules if m.split(".")[0] == library]:
            monkeypatch.delitem(sys.modules, name)

    class Gone:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.split(".")[0] in ("pandas", "polars", "pyarrow"):
                raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(sys, "meta_path", [Gone(), *sys.meta_path])
    for method, extra in (("to_pandas", "pandas"), ("to_polars", "polars"), ("to_arrow", "parquet")):
        with pytest.raises(MissingDependency, match=rf"pip install 'gradlab-parity\[{extra}\]'"):
            getattr(frames(), method)()


def test_a_record_of_another_time_without_tensors_shows_its_states() -> None:
    bare = StepRecord(
        step=0, loss=0.5, learning_rate=None, grad_norm=0.0, param_norm=1.0, update_norm=0.0, update_ratio=0.0,
        tensors={}, states={CUT: GradientState.FROZEN},
    )  # fmt: skip
    assert cells(shown(bare))[1] == [CUT, "frozen"]
    assert TensorNorms(param=1.0, grad=None, update=0.0, ratio=0.0).grad is None
