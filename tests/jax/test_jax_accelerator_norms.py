"""The arithmetic that JAX uses on GPUs and TPUs, run here on the CPU; what is lowered for them has no branch."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gradlab_jax as gl
from gradlab_core.definitions import reference
from gradlab_jax.trees.norm_arithmetic import _joint_binned, _joint_branching, alike, joined, side_by_side, wide
from gradlab_jax.trees.norm_arithmetic import _rows_binned as rows_binned


def _stacked_binned(arrays):
    """What `stacked_norms` does where there is no branch."""
    groups = alike(arrays)
    return joined(groups, rows_binned([wide(side_by_side([arrays[i] for i in group])) for group in groups]))


NUMBERS = st.floats(2.0**-116, 2.0**127, width=32) | st.floats(-(2.0**127), -(2.0**-116), width=32) | st.just(0.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, st.sampled_from([1, 7, 64]), elements=NUMBERS))
def test_three_sums_are_right_over_the_whole_range(x):
    expected = reference.norm(x)
    found = float(_joint_binned([jnp.asarray(x)]))
    if expected > np.finfo(np.float32).max:
        assert found == np.inf
    else:
        assert found == pytest.approx(expected, rel=1e-6)
    assert float(_stacked_binned([jnp.asarray(x)])[0]) == found or np.isinf(found)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.nan, 1e30], np.nan), ([np.inf, 1.0], np.inf), ([np.nan, np.inf], np.nan), ([0.0, 0.0], 0.0), ([], 0.0)],
)
def test_what_is_no_number_is_told_apart(values, expected):
    for found in (_joint_binned, _stacked_binned):
        np.testing.assert_equal(np.asarray(found([jnp.array(values, jnp.float32)])).ravel()[0], np.float32(expected))


def test_all_types_and_shapes():
    rng = np.random.default_rng(0)
    tree = [rng.standard_normal(shape) for shape in ((3, 4), (3, 4), (), (70_000,), (5,))]
    with jax.enable_x64(True):
        for dtype, rel in (("bfloat16", 2e-2), ("float16", 2e-3), ("float32", 1e-6), ("float64", 1e-13)):
            arrays = [jnp.asarray(x, dtype).astype("float64" if dtype == "float64" else "float32") for x in tree]
            found = _stacked_binned(arrays)
            assert list(found) == pytest.approx([reference.norm(x) for x in tree], rel=rel)
        assert float(_joint_binned([jnp.array([1e300, 1e-300])])) == pytest.approx(1e300, rel=1e-14)
        assert float(_joint_binned([jnp.array([3e-300, 4e-300])])) == pytest.approx(5e-300, rel=1e-14)


def branches_on_data(function, *args, platform: str) -> int:
    """How many branches of the lowered program are chosen by what is computed: one that is chosen by a constant, as the
    choice of a platform is, the compiler takes out."""
    text = jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    fixed = set(re.findall(r"(%\w+) = stablehlo\.constant", text))
    count = 0
    for made, index in re.findall(r'(%\w+)(?::\d+)? = "stablehlo\.(?:case|if)"\((%\w+)\)', text):
        if index in fixed:
            fixed.add(made)
        else:
            count += 1
    return count


PARAMS = {"w": jnp.ones((300, 300)), "b": jnp.ones(7), "c": jnp.ones(7)}


@pytest.mark.parametrize("function", [gl.global_norm, gl.leaf_norms, gl.module_norms])
@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_no_branch_is_lowered_for_an_accelerator(function, platform):
    tree = {"fc": PARAMS}
    assert branches_on_data(function, tree, platform=platform) == 0
    assert branches_on_data(function, tree, platform="cpu") > 0  # the search finds those that the CPU is given


def test_a_monitored_step_has_no_branch_on_a_gpu():
    tx = gl.monitor(optax.adam(1e-3))
    state = tx.init(PARAMS)

    def step(grads, state, params):
        return tx.update(grads, state, params, value=jnp.float32(1.0))

    assert branches_on_data(step, PARAMS, state, PARAMS, platform="cuda") == 0
    assert branches_on_data(step, PARAMS, state, PARAMS, platform="cpu") > 0


def test_the_choice_of_a_platform_leaves_no_branch_in_the_compiled_program():
    def elsewhere(arrays):  # what a GPU gets, compiled here
        return jax.lax.platform_dependent(arrays, tpu=_joint_branching, default=_joint_binned)

    arrays = list(PARAMS.values())
    assert "conditional(" not in jax.jit(elsewhere).lower(arrays).compile().as_text()
    assert "conditional(" in jax.jit(_joint_branching).lower(arrays).compile().as_text()
