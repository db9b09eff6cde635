"""A record whose parts are made later is in every way like one that was made whole."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.definitions import monitoring, reference
from gradlab_core.definitions.monitoring import Measured, step_record
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.definitions.states import gradient_state
from gradlab_core.records import GradientState, StepRecord, TensorNorms, codec
from gradlab_core.records.later import build

# NaN is one object here: a dictionary then calls itself equal to its copy.
SIZES = st.one_of(st.sampled_from([0.0, 5e-324, 1e-45, 1e-30, 1e30, 1.7e308, math.inf, math.nan]), st.floats(0.0))
COSINES = st.floats(-1.0, 1.0)


@st.composite
def measurements(draw):
    names = draw(st.lists(st.text(max_size=4), unique=True, max_size=5))
    n = len(names)

    def several(of):
        return draw(st.lists(of, min_size=n, max_size=n))

    wanted = draw(st.lists(st.sampled_from(EXTRAS), unique=True))
    kept = [name for name in names if draw(st.booleans())]
    return Measured(
        names=names,
        sizes=several(st.integers(0, 10**9)),
        params=several(SIZES),
        grads=several(st.none() | SIZES),
        updates=several(SIZES),
        lost=several(st.booleans()),
        raw_grad_norm=draw(st.none() | SIZES),
        extras={e: {name: draw(SIZES if e == "distance" else COSINES) for name in kept} for e in wanted},
        before={e: dict(zip(names, several(SIZES), strict=True)) for e in wanted if e != "distance"},
    )


def tensors(m: Measured) -> dict[str, TensorNorms]:
    """One after the other, as the definition says it."""
    found = {}
    for i, name in enumerate(m.names):
        found[name] = TensorNorms(
            param=m.params[i],
            grad=m.grads[i],
            update=m.updates[i],
            ratio=reference.ratio(m.updates[i], m.params[i]),
            **{e: m.extras[e].get(name) for e in m.extras},
        )
    return found


def states(m: Measured, known: dict[str, GradientState]) -> dict[str, GradientState]:
    rows = zip(m.grads, m.sizes, m.lost, strict=True)
    return {**known, **dict(zip(m.names, [gradient_state(g, size, lost=lost) for g, size, lost in rows], strict=True))}


def pair(m: Measured, known: dict[str, GradientState] | None = None) -> tuple[StepRecord, StepRecord]:
    """A record whose parts are not made yet, and the same made whole."""
    options = {"step": 3, "loss": 0.5, "learning_rate": None, "anomaly": None, "known": known}
    of_all = step_record(m, **options)
    fields = {f.name: getattr(of_all, f.name) for f in dataclasses.fields(StepRecord)}
    return step_record(m, **options), StepRecord(**fields | {"tensors": tensors(m), "states": states(m, known or {})})


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(measurements(), st.sampled_from([None, {"frozen": GradientState.FROZEN}]))
def test_made_later_and_made_whole_are_the_same(m, known):
    # repr tells NaN, Inf, 0.0 and None apart, and every digit of the others.
    lazy, whole = pair(m, known)
    assert repr(lazy) == repr(whole)
    assert type(lazy.tensors) is type(lazy.states) is dict
    assert lazy.tensors is lazy.tensors
    for way in (
        dataclasses.asdict,
        dataclasses.astuple,
        dataclasses.replace,
        copy.copy,
        copy.deepcopy,
        codec.encode,
        lambda record: pickle.loads(pickle.dumps(record)),
        lambda record: codec.document("step", [record]),
        lambda record: list(record.tensors.items()) + list(record.states.items()),
    ):
        assert repr(way(pair(m, known)[0])) == repr(way(whole))
    norms = [g for g in m.grads if g is not None]
    assert repr(lazy.grad_norm) == repr(reference.global_norm([norms]))
    assert repr(lazy.param_norm) == repr(reference.global_norm([m.params]))


def small(**changes):
    fields = {"names": ["w"], "sizes": [2], "params": [1.0], "grads": [2.0], "updates": [0.5], "lost": [False]}
    return Measured(**fields | changes)


def test_records_compare_whichever_was_made_whole():
    lazy, whole = pair(small())
    assert lazy == whole
    assert whole == pair(small())[0]
    assert pair(small(grads=[3.0]))[0] != whole
    # Planted: only what is made later differs.
    assert dataclasses.replace(whole, states={"w": GradientState.TINY}) != pair(small())[0]
    assert dataclasses.replace(whole, tensors={}) != pair(small())[0]


def test_nothing_is_made_before_it_is_asked_for_and_then_once(monkeypatch: pytest.MonkeyPatch):
    made = []
    for name in ("_tensors", "_states"):
        real = getattr(monitoring, name)
        monkeypatch.setattr(monitoring, name, lambda *a, real=real, name=name: (made.append(name), real(*a))[1])
    record = step_record(small(), step=0, loss=None, learning_rate=None, anomaly=None)
    assert made == []
    assert (record.states["w"], record.states["w"]) == ("ok", "ok")
    assert made == ["_states"]
    assert record.tensors["w"].ratio == record.tensors["w"].update == 0.5
    assert made == ["_states", "_tensors"]
    # What it was made of is given back: a run keeps thousands of records.
    assert set(vars(record)) == {field.name for field in dataclasses.fields(record)}


def test_a_record_is_frozen_and_has_no_other_fields():
    record, _ = pair(small())
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.tensors = {}
    with pytest.raises(AttributeError, match="tensor_norms"):
        record.tensor_norms  # noqa: B018
    assert not hasattr(StepRecord, "tensors")
    with pytest.raises(TypeError, match="missing"):
        build(StepRecord, {"step": 1}, {"tensors": dict, "states": dict})
    with pytest.raises(TypeError, match="missing"):
        StepRecord(step=1)


def test_many_threads_may_ask_at_once():
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            lazy, whole = pair(small())
            assert set(pool.map(lambda _, r=lazy: repr(r), range(16))) == {repr(whole)}
