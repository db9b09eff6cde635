"""The update that was applied, as the type rounds it: measured by both twins, against float64."""

from __future__ import annotations

import contextlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.definitions import reference
from gradlab_jax.monitoring import applied as applied
from gradlab_jax.trees.norm_arithmetic import stacked_sums, sums_together


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    shapes=st.lists(st.sampled_from([(), (3,), (2, 3), (300, 300), (0,)]), min_size=1, max_size=5),
    size=st.sampled_from([1e-30, 1e-12, 1.0, 1e12, 1e25]),
    kind=st.sampled_from(["float32", "bfloat16", "float16"]),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("way", ["as_here", "as_on_a_gpu"])
def test_applied_updates_over_the_range_of_the_types(way, shapes, size, kind, seed):
    """θ_new − θ as the type rounds it, measured by both twins, against float64."""
    size = size if kind != "float16" else min(max(size, 1e-4), 1e2)
    draw = np.random.default_rng(seed)
    params = [torch.from_numpy(np.asarray(draw.standard_normal(s) * size)).to(getattr(torch, kind)) for s in shapes]
    steps = [
        torch.from_numpy(np.asarray(draw.standard_normal(s) * size * 1e-2)).to(p.dtype)
        for s, p in zip(shapes, params, strict=True)
    ]
    new = [p + s for p, s in zip(params, steps, strict=True)]
    truth = [reference.norm(n.double() - p.double()) for n, p in zip(new, params, strict=True)]
    from gradlab_jax.monitoring.applied import step_norms
    from gradlab_torch.monitoring.applied import Applied

    copies = [p.clone() for p in params]
    watch = Applied(copies)
    norms = watch.before().tolist()
    for p, s in zip(copies, steps, strict=True):
        p += s
    assert norms == pytest.approx([reference.norm(p.double()) for p in params], rel=1e-6)
    assert watch.after([None] * len(params))[:, 0].tolist() == pytest.approx(truth, rel=1e-6)
    native = [[jnp.asarray(t.float().numpy()).astype(kind) for t in tree] for tree in (params, steps)]
    # The scale of a large array is that of the record before: here, of one like it.
    before = {"param": jnp.array(norms, jnp.float32) * 1e-3, "update": jnp.array(truth, jnp.float32) * 1e3}
    with {"as_here": as_here, "as_on_a_gpu": as_on_a_gpu}[way]():
        found = step_norms(native[0], native[1], native[1], {**before, "grad": before["update"]})
    assert found["param"].tolist() == pytest.approx(norms, rel=1e-6)
    assert found["grad"].tolist() == pytest.approx([reference.norm(s.double()) for s in steps], rel=1e-6)
    assert found["update"].tolist() == pytest.approx(truth, rel=1e-6)
    assert (found["proposed"] > 0).tolist() == [bool((s != 0).any()) for s in steps]


def test_the_scale_of_a_large_array_finds_itself():
    """Updates of 1e-30 and of 1e25 in a large array: out of range at the first record at worst, right at the next."""
    from gradlab_jax.monitoring.applied import step_norms

    for way in (as_here, as_on_a_gpu):
        for size in (1e-30, 1.0, 1e25):
            step, param = jnp.full(70_000, size, jnp.float32), jnp.zeros(70_000)
            norms = {quantity: jnp.ones(1) for quantity in ("param", "grad", "update")}
            for _ in range(3):
                with way():
                    norms = step_norms([param], [step], [step], norms)
            for quantity in ("grad", "update"):
                assert float(norms[quantity][0]) == pytest.approx(reference.norm(np.asarray(step)), rel=1e-6)
            assert float(norms["param"][0]) == 0.0


@pytest.mark.parametrize("count", [3, 70_000])
@pytest.mark.parametrize(
    ("step", "update", "proposed"),
    [((0.0, 0.0), 0.0, False), ((1e-9, 0.0), 0.0, True), ((1e-9, 0.5), 0.5, True), ((np.nan, 1e-9), np.nan, True)],
)
def test_what_rounding_swallows_is_proposed_and_not_applied(count, step, update, proposed):
    from gradlab_jax.monitoring.applied import step_norms

    steps = jnp.full(count, step[0]).at[0].set(step[1])
    if np.isnan(step[0]):
        steps = jnp.zeros(count).at[0].set(jnp.nan)
    before = {quantity: jnp.ones(1) for quantity in ("param", "grad", "update")}
    for way in (as_here, as_on_a_gpu):
        with way():
            found = step_norms([jnp.ones(count)], [steps], [steps], before)
        np.testing.assert_allclose(float(found["update"][0]), update, rtol=1e-6)
        assert np.isnan(update) or (float(found["proposed"][0]) > 0) == proposed


def as_here():
    return contextlib.nullcontext()


@contextlib.contextmanager
def as_on_a_gpu():
    """JAX's arithmetic for a GPU, run here. Several sums at once a GPU adds as a tree, and a CPU one by one."""
    ways = {"platform_dependent": lambda *args, cuda=None, default=None, **_: (cuda or default)(*args)}
    sums = {"sums_together": lambda *lists: tuple(map(stacked_sums, lists))}
    with mock.patch.multiple(jax.lax, **ways), mock.patch.multiple(applied, **sums):
        yield


@pytest.mark.parametrize("shape", [(5,), (70_000,), (131, 3), (300, 300), (4, 5, 200), ()])
def test_several_sums_at_once_are_each_sum(shape):
    draw = np.random.default_rng(0)
    lists = [[jnp.asarray(draw.standard_normal(shape)) for _ in range(2)] for _ in range(3)]
    for found, arrays in zip(sums_together(*lists), lists, strict=True):
        # Each of n partial sums, of about √n, is rounded, as often up as down: √n such errors in all.
        atol = arrays[0].size * float(np.finfo(np.float32).eps) / 2
        np.testing.assert_allclose(found, [np.float64(x).sum() for x in arrays], rtol=1e-5, atol=atol)
