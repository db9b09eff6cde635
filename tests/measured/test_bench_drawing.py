"""The accuracy benchmark of the diagnosis: what it draws."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.diagnosis import faults, parts, programs
from benchmarks.diagnosis.draw import SHARE, draw, part
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import CODES
from gradlab_core.programs.specs import ModelSpec

TURNS = len(faults.FAULTS) + 2 * sum(family.hard for family in programs.FAMILIES.values())


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    first = draw(6, seed=3)
    assert first == draw(6, seed=3) == draw(60, seed=3)[: len(first)]
    assert first != draw(6, seed=4)
    assert len({d.name for d in draw(60, seed=3)}) == 120


def test_the_rounds_have_every_fault_every_hard_family_and_both_frameworks() -> None:
    drawn = draw(SHARE * TURNS, seed=0)
    assert {d.fault for d in drawn} == {None, *faults.FAULTS}
    assert {d.family for d in drawn if d.hard} == {n for n, f in programs.FAMILIES.items() if f.hard}
    for fault in faults.FAULTS:
        assert {d.framework for d in drawn if d.fault == fault} == {"torch", "jax"}


def test_a_pair_is_on_one_side_and_the_side_is_the_programs_alone() -> None:
    drawn = draw(TURNS, seed=1)
    sides: dict[int, set[str]] = {}
    for d in drawn:
        sides.setdefault(d.pair, set()).add(d.part)
        if d.fault is None:
            other = dataclasses.replace(d.spec, seed=d.spec.seed + 1, steps=7)
            assert part(d.family, other) == d.part
    assert all(len(side) == 1 for side in sides.values())
    assert 0.3 < sum(d.part == "tuning" for d in drawn) / len(drawn) < 0.7


def test_a_fault_is_the_only_difference_from_its_healthy_program() -> None:
    drawn = draw(2 * TURNS, seed=2)
    for healthy, faulty in zip(drawn[::2], drawn[1::2], strict=True):
        assert healthy.fault is None
        assert (faulty.pair, faulty.family, faulty.framework) == (healthy.pair, healthy.family, healthy.framework)
        assert faulty.spec != healthy.spec, faulty.fault
        assert (faulty.spec.seed, faulty.spec.steps) == (healthy.spec.seed, healthy.spec.steps)
        # What a healthy program has on purpose (a frozen trunk, biases below 0) no fault takes away.
        assert healthy.spec.fault in (None, faulty.spec.fault), faulty.fault
        assert healthy.spec.at in ("", faulty.spec.at)


def test_faults_say_codes_that_there_are_and_places_that_there_are() -> None:
    for fault in faults.FAULTS.values():
        assert set(fault.codes) | set(fault.follows) <= set(CODES)
        assert set(fault.families) <= set(programs.FAMILIES)
    for drawn in draw(2 * TURNS, seed=5):
        known = {*parts.weighted(drawn.spec.model), "extra"}
        known |= {p for places in parts.activations(drawn.spec.model).values() for p in places}
        assert set(drawn.where) <= known


@pytest.mark.parametrize(
    "model",
    [
        ModelSpec(kind="mlp", widths=(4, 4)),
        ModelSpec(kind="recurrent", cell="gru", features=8, hidden=4),
        ModelSpec(kind="transformer", features=8, hidden=4, heads=2, depth=1),
        ModelSpec(kind="tinynet", base=2, layers=(1, 1), block="preact"),
        ModelSpec(kind="tinynet", base=2, layers=(1, 1), block="postact"),
    ],
    ids=lambda model: f"{model.kind} {model.block}",
)
def test_places_are_those_of_the_nets(model: ModelSpec) -> None:
    torch = pytest.importorskip("torch")
    import gradlab_torch

    modules = dict(gradlab_torch.build(model, seed=0).named_modules())
    for layer in parts.weighted(model):
        assert any(len(p.shape) > 1 for p in modules[layer].parameters())
    for activation, places in parts.activations(model).items():
        assert isinstance(modules[activation], torch.nn.Module)
        assert not list(modules[activation].parameters())
        assert set(places) <= set(modules)


@pytest.mark.parametrize(("programs_", "seed"), [(0, 0), (1, -1)])
def test_a_drawing_of_nothing_is_refused(programs_: int, seed: int) -> None:
    with pytest.raises(GradlabError, match="expected a whole number"):
        draw(programs_, seed=seed)
