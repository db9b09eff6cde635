"""The arithmetic is named: what each side multiplies in is set and put back, measured, judged by, and said."""

from __future__ import annotations

import jax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import compare
from gradlab_core.parity.arithmetic import ARITHMETICS
from parity_tests.conftest import SPECS, batch_for, pair

SPEC = SPECS["mlp"]
NAMES = ["tf32", "bfloat16", "float16"]


def sides():
    torch_model, jax_model = pair(SPEC)
    return gradlab_torch.Subject(torch_model), gradlab_jax.Subject(jax_model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("coarse", ["torch", "jax"])
def test_a_side_that_multiplies_coarsely_is_named_and_not_called_broken(coarse, name):
    exact, other = sides() if coarse == "jax" else sides()[::-1]
    report = compare(exact, other.at(name), batch_for(SPEC), steps=3)
    assert not report.failures, str(report)
    power = {"tf32": "TF32 (2⁻¹¹)", "bfloat16": "bfloat16 (2⁻⁸)", "float16": "float16 (2⁻¹¹)"}[name]
    assert f"the candidate multiplies in {power}, the reference in float32 (2⁻²⁴)" in str(report)
    # It really did: in float32 the candidate is as far off as that arithmetic, not as float32, says.
    assert report.worst("candidate_error") > 100 * report.worst("reference_error")


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_beside_it_is_found(name):
    reference, candidate = sides()

    class Shifted(type(candidate.model.model)):
        def __call__(self, x):
            return super().__call__(x * 1.001)

    candidate.model.model.__class__ = Shifted
    report = compare(reference, candidate.at(name), batch_for(SPEC), steps=1)
    assert "another definition" in report.first_divergence.problem


def test_products_coarser_than_the_name_says_are_explained():
    reference, candidate = sides()

    class Lying(type(candidate)):  # says float32, and multiplies in TF32
        def arithmetic(self):
            return ARITHMETICS["highest"]

        def cast(self, dtype):
            made = super().cast(dtype)
            made.__class__ = Lying
            return made

    lying = candidate.at("tf32")
    lying.__class__ = Lying
    report = compare(reference, lying, batch_for(SPEC), steps=2)
    assert report.failures
    assert report.explanation == ARITHMETICS["tf32"]
    assert "products in TF32 (2⁻¹¹) on the candidate's side would explain every failure" in str(report)


def test_as_is_measures_what_holds_around_it():
    reference, candidate = sides()
    device = jax.config.jax_default_device
    has_tf32 = device.platform == "gpu" and float(getattr(device, "compute_capability", 0)) >= 8
    assert [side.at("as-is").arithmetic().name for side in (reference, candidate)] == ["highest", "highest"]
    with jax.default_matmul_precision("default"):  # what JAX multiplies in where nobody says anything
        assert candidate.at("as-is").arithmetic().name == ("tf32" if has_tf32 else "highest")
    with torch.autocast("cpu", torch.bfloat16):
        assert reference.at("as-is").arithmetic().name == "bfloat16"
    report = compare(reference, candidate, batch_for(SPEC), steps=1, precision="as-is")
    assert not report.failures


def test_settings_are_put_back(monkeypatch):
    reference, candidate = sides()
    torch.set_float32_matmul_precision("high")
    try:
        with jax.default_matmul_precision("tensorfloat32"):
            compare(reference, candidate, batch_for(SPEC), steps=1)
            assert jax.config.jax_default_matmul_precision == "tensorfloat32"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("side", [0, 1])
def test_an_unknown_precision_is_refused(side):
    with pytest.raises(GradlabError, match="precision is 'fp8'; expected one of highest, tf32"):
        sides()[side].at("fp8")
    with pytest.raises(GradlabError, match="precision is 'double'"):
        compare(*sides(), batch_for(SPEC), precision="double")


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_either_twin_can_be_the_reference(name):
    """Both estimate the same rounding, within the scatter of eight draws and of how each program is put together."""
    spec = SPECS[name]
    torch_model, jax_model = pair(spec)
    ours, theirs = gradlab_torch.Subject(torch_model), gradlab_jax.Subject(jax_model)
    one, other = (compare(a, b, batch_for(spec), steps=1) for a, b in ((ours, theirs), (theirs, ours)))
    assert not one.failures, str(one)
    assert not other.failures, str(other)
    expected = {(row.step, row.key): row.reference_expected for row in other.rows}
    ratios = [
        row.reference_expected / expected[row.step, row.key]
        for row in one.rows
        if row.quantity in ("activation", "gradient") and row.reference_expected and expected[row.step, row.key]
    ]
    assert all(0.1 < ratio < 10 for ratio in ratios), (min(ratios), max(ratios))
