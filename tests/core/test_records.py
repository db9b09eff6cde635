"""Records survive JSON unchanged, and NaN, Inf, missing and zero stay four different things."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientFlow, GradientState, LayerStats, StepRecord, TensorNorms, codec

numbers = st.floats(allow_nan=True, allow_infinity=True)
nonnegative = st.floats(min_value=0.0) | st.just(math.nan)
maybe = st.none() | nonnegative


@st.composite
def steps(draw):
    paths = draw(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=3))
    norms = st.builds(TensorNorms, param=nonnegative, grad=maybe, update=nonnegative, ratio=nonnegative)
    return StepRecord(
        step=draw(st.integers(0, 10**6)),
        tensors={path: draw(norms) for path in paths},
        states={path: draw(st.sampled_from(GradientState)) for path in paths},
        **{name: draw(numbers) for name in ("loss", "learning_rate")},
        **{name: draw(nonnegative) for name in "grad_norm param_norm update_norm update_ratio".split()},
    )


def same(a, b):
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(steps(), max_size=3))
def test_steps_make_the_round_trip(rows):
    text = codec.document("step", rows)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    back = codec.parse(text, "step", StepRecord)
    assert len(back) == len(rows)
    assert all(same(a, b) for a, b in zip(rows, back, strict=True))


def test_four_things_that_are_not_a_number_like_any_other():
    flow = GradientFlow(
        mode="train",
        loss=math.nan,
        first=None,
        last=0.0,
        ratio=None,
        global_norm=math.inf,
        layers={"a": None, "b": 0.0},
        disconnected=("a",),
    )
    text = codec.document("flow", [flow])
    row = json.loads(text)["rows"][0]
    assert (row["loss"], row["first"], row["last"], row["global_norm"]) == ("NaN", None, 0.0, "Infinity")
    assert same(codec.parse(text, "flow", GradientFlow)[0], flow)


BROKEN = {
    "not JSON": ("{", "is not JSON"),
    "no document": ("[]", "no schema_version"),
    "other version": ('{"schema_version": 99, "kind": "step", "rows": []}', "schema version 99"),
    "other kind": ('{"schema_version": 1, "kind": "flow", "rows": []}', "expected a list of 'step'"),
    "missing field": ('{"schema_version": 1, "kind": "step", "rows": [{"step": 1}]}', "missing"),
    "rows of another type": ('{"schema_version": 1, "kind": "step", "rows": [7]}', "is not a StepRecord"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_foreign_documents_are_refused(case):
    text, message = BROKEN[case]
    with pytest.raises(GradlabError, match=message):
        codec.parse(text, "step", StepRecord)


@pytest.mark.parametrize("value", ["nan", "1.0", True, [1.0]])
def test_a_field_of_the_wrong_type_is_named(value):
    good = LayerStats(
        path="a", kind="relu", call=0, shape=(1,), mode="eval", mean=0.0, std=0.0, min=0.0, max=0.0, rms=0.0,
        zero_frac=0.0, nonfinite=0, saturated_frac=None, dead_unit_frac=None,
    )  # fmt: skip
    body = json.loads(codec.document("layer", [good]))
    body["rows"][0]["std"] = value
    with pytest.raises(GradlabError, match="std"):
        codec.parse(json.dumps(body), "layer", LayerStats)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "out.json"
    codec.write_text(target, "first")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        codec.write_text(target, "second")
    assert target.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(GradlabError, match="cannot write"):
        codec.write_text(tmp_path / "missing" / "out.json", "text")
