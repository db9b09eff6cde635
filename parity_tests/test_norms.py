"""Norms, ratios and clipping against the float64 definition, over the whole range of their type, in both twins."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.errors import GradlabError

LIMIT = 1e-6  # relative error against the exact value
SMALLEST = float(np.finfo(np.float32).tiny)  # below it processors flush to zero

TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
NUMPY_DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}

jitted_norm = jax.jit(gradlab_jax.global_norm)
jitted_leaves = jax.jit(gradlab_jax.leaf_norms)


def as_torch(x):
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(x)


def both(arrays):
    """The global norm of each twin, as Python numbers."""
    return float(gradlab_torch.global_norm([as_torch(a) for a in arrays])), float(
        jitted_norm([*map(jnp.asarray, arrays)])
    )


def draw(rng, size, magnitude, kind):
    x = {"normal": rng.standard_normal, "constant": lambda n: np.full(n, 0.7), "uniform": rng.random}[kind](size)
    x = x * magnitude
    return np.where(np.abs(x) < 2 * SMALLEST, magnitude, x).astype(np.float32)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 3, 1000, 1025, 70_000]), min_size=1, max_size=4),
    exponents=st.lists(st.integers(-37, 37), min_size=4, max_size=4),
    kind=st.sampled_from(["normal", "constant", "uniform"]),
    seed=st.integers(0, 99),
)
def test_norms_of_mixed_trees(sizes, exponents, kind, seed):
    rng = np.random.default_rng(seed)
    arrays = [draw(rng, n, min(10.0**e, 3e36), kind) for n, e in zip(sizes, exponents, strict=False)]
    truth = reference.global_norm(arrays)
    if truth > np.finfo(np.float32).max:
        truth = math.inf  # it does not fit the result type, and says so
    for found in both(arrays):
        assert found == pytest.approx(truth, rel=LIMIT)
    tensors = {str(i): torch.from_numpy(a) for i, a in enumerate(arrays)}
    leaves = gradlab_torch.leaf_norms(tensors), jitted_leaves({k: jnp.asarray(v.numpy()) for k, v in tensors.items()})
    for path, array in zip(tensors, arrays, strict=True):
        exact = reference.norm(array)
        for found in leaves:
            assert float(found[path]) == pytest.approx(exact if exact < 3.4e38 else math.inf, rel=LIMIT)


@pytest.mark.parametrize("magnitude", [1e-37, 1e-30, 1e-19, 1.0, 1e19, 1e30])
@pytest.mark.parametrize("kind", ["normal", "constant"])
def test_ten_million_elements(magnitude, kind):
    x = draw(np.random.default_rng(0), 10**7, magnitude, kind)
    for found in both([x]):
        assert found == pytest.approx(reference.norm(x), rel=LIMIT)


def test_peers_fail_where_these_hold():
    """Why there is code of our own: the usual norms overflow, underflow, and lose digits in long tensors."""
    import optax

    for value, wrong in ((1e30, math.inf), (1e-30, 0.0)):
        x = np.full(1000, value, np.float32)
        assert float(optax.tree.norm([jnp.asarray(x)])) == wrong
        assert float(torch.nn.utils.get_total_norm([torch.from_numpy(x)])) == wrong
        for found in both([x]):
            assert found == pytest.approx(value * math.sqrt(1000), rel=LIMIT)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("magnitude", [1e-4, 1.0, 200.0])
def test_half_precision_accumulates_in_float32(dtype, magnitude):
    x = (np.random.default_rng(0).standard_normal(100_000) * magnitude).astype(NUMPY_DTYPES[dtype])
    exact = reference.norm(x.astype(np.float64))
    for found in both([x]):
        assert found == pytest.approx(exact, rel=LIMIT)
    assert gradlab_torch.global_norm([as_torch(x)]).dtype == torch.float32
    assert jitted_norm([jnp.asarray(x)]).dtype == jnp.float32


@pytest.mark.parametrize("magnitude", [1e-300, 1.0, 1e300])
def test_float64_over_its_own_range(magnitude):
    x = np.random.default_rng(0).standard_normal(1000) * magnitude
    assert float(gradlab_torch.global_norm([torch.from_numpy(x)])) == pytest.approx(reference.norm(x), rel=1e-14)
    with jax.enable_x64(True):
        for function in (gradlab_jax.global_norm, jitted_norm):
            assert float(function([jnp.asarray(x)])) == pytest.approx(reference.norm(x), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.nan], math.nan),
        ([math.inf, math.nan], math.nan),
        ([1.0, -math.inf], math.inf),
        ([0.0], 0.0),
        ([], 0.0),
    ],
)
def test_nan_inf_zero_and_nothing(dtype, values, expected):
    x = np.array(values, np.float32).astype(NUMPY_DTYPES[dtype])
    for found in (*both([x]), float(jitted_leaves([jnp.asarray(x)])["0"]), reference.norm(x.astype(np.float64))):
        assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_a_zero_leaf_leaves_its_neighbours_alone():
    """Zeros ask for the rescaled pass; a leaf in range must not be pushed out of it by that."""
    tree = {"zero": np.zeros(5, np.float32), "one": np.ones(4, np.float32), "large": np.full(4, 1e30, np.float32)}
    for found in (
        gradlab_torch.leaf_norms({k: torch.from_numpy(v) for k, v in tree.items()}),
        jitted_leaves({k: jnp.asarray(v) for k, v in tree.items()}),
    ):
        assert {k: float(v) for k, v in found.items()} == {"zero": 0.0, "one": 2.0, "large": pytest.approx(2e30)}


def test_vmap_scan_and_gradient_of_clipping():
    x = (
        np.random.default_rng(0).standard_normal((5, 300)).astype(np.float32)
        * np.logspace(-30, 30, 5, dtype=np.float32)[:, None]
    )
    exact = [reference.norm(row) for row in x]
    assert jax.vmap(gradlab_jax.global_norm)(jnp.asarray(x)).tolist() == pytest.approx(exact, rel=LIMIT)
    _, scanned = jax.lax.scan(lambda c, row: (c, gradlab_jax.global_norm({"w": row})), 0, jnp.asarray(x))
    assert scanned.tolist() == pytest.approx(exact, rel=LIMIT)


def test_sharded_arrays():
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    x = jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("data")))
    assert float(jitted_norm([x])) == pytest.approx(reference.norm(np.arange(8.0)), rel=LIMIT)


def test_order_is_the_order_of_definition():
    """JAX sorts dictionary keys; a table of layers must not."""
    tree = {"z": {"weight": np.ones(1, np.float32)}, "a": {"weight": np.ones(1, np.float32), "bias": None}}
    expected = ["z.weight", "a.weight", "a.bias"]
    assert (
        list(
            gradlab_torch.leaf_norms(
                {m: {k: None if v is None else torch.from_numpy(v) for k, v in t.items()} for m, t in tree.items()}
            )
        )
        == expected
    )
    assert list(gradlab_jax.leaf_norms(tree)) == expected
    assert gradlab_jax.leaf_norms(tree)["a.bias"] is None
    for twin in (gradlab_torch, gradlab_jax):
        names = list(twin.leaf_norms(twin.build(gradlab_torch.ModelSpec(base=2), seed=0)))
        assert names[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
        assert names[-1] == "fc.bias"


def test_layer_norms_and_counts():
    rng = np.random.default_rng(0)
    tree = {"fc": {"weight": rng.standard_normal((3, 4)), "bias": rng.standard_normal(3)}}
    tree["fc"]["bias"][0] = np.inf
    tensors = {"fc": {k: torch.from_numpy(v) for k, v in tree["fc"].items()}}
    for twin, native in ((gradlab_torch, tensors), (gradlab_jax, tree)):
        assert {k: int(v) for k, v in twin.nonfinite_counts(native).items()} == {"fc.weight": 0, "fc.bias": 1}
        assert math.isinf(float(twin.module_norms(native)["fc"]))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(scale=st.floats(1e-3, 1e3), limit=st.floats(0.0, 100.0))
def test_clipping(scale, limit):
    x = (np.random.default_rng(1).standard_normal(50) * scale).astype(np.float32)
    exact, size = reference.clip_by_global_norm([x], limit)
    torch_tree, torch_size = gradlab_torch.clip_by_global_norm([torch.from_numpy(x)], limit)
    jax_tree, jax_size = jax.jit(gradlab_jax.clip_by_global_norm)([jnp.asarray(x)], limit)
    assert [float(torch_size), float(jax_size)] == pytest.approx([size, size], rel=LIMIT)
    np.testing.assert_allclose(torch_tree[0].numpy(), exact[0], rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(np.asarray(jax_tree[0]), exact[0], rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_never_hides_what_is_not_finite(bad):
    x = np.array([3.0, bad], np.float32)
    for tree, size in (
        gradlab_torch.clip_by_global_norm([torch.from_numpy(x)], 1.0),
        gradlab_jax.clip_by_global_norm([jnp.asarray(x)], 1.0),
    ):
        assert not math.isfinite(float(size))
        np.testing.assert_array_equal(np.asarray(tree[0]), x)


WORKED = [(0.33, 69.77, 4.73e-6), (1783.42, 965.10, 1.848e-3), (0.0008, 3.12, 2.564e-7)]


@pytest.mark.parametrize(("gradient", "parameter", "ratio"), WORKED)
def test_worked_step_ratios(gradient, parameter, ratio):
    """The three examples of the source report, at a learning rate of 0.001."""
    assert reference.step_ratio([[parameter]], [[gradient]], 0.001) == pytest.approx(ratio, rel=1e-3)
    for twin, array in ((gradlab_torch, torch.tensor), (gradlab_jax, jnp.array)):
        assert float(twin.step_ratio([array([parameter])], [array([gradient])], 0.001)) == pytest.approx(
            ratio, rel=1e-3
        )


@pytest.mark.parametrize(
    ("update", "parameter"), [(0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (1e-3, 2.0), (math.nan, 1.0), (math.inf, 1.0)]
)
def test_ratios_at_the_edges(update, parameter):
    exact = reference.update_ratio([[parameter]], [[update]])
    for twin, array in ((gradlab_torch, torch.tensor), (gradlab_jax, jnp.array)):
        params, updates = {"w": array([parameter])}, {"w": array([update])}
        for found in (twin.update_ratio(params, updates), twin.update_ratios(params, updates)["w"]):
            assert float(found) == pytest.approx(exact, rel=LIMIT, nan_ok=True)


def test_trust_ratios_say_which_layer_has_no_gradient():
    params = {"a": {"weight": np.array([6.0], np.float32)}, "b": {"weight": np.array([1.0], np.float32)}}
    grads = {"a": {"weight": np.array([2.0], np.float32)}, "b": {"weight": None}}
    for twin, array in ((gradlab_torch, torch.from_numpy), (gradlab_jax, jnp.asarray)):
        convert = lambda t: {m: {k: None if v is None else array(v) for k, v in d.items()} for m, d in t.items()}  # noqa: E731, B023
        assert {
            k: v if v is None else float(v) for k, v in twin.trust_ratios(convert(params), convert(grads)).items()
        } == {
            "a": 3.0,
            "b": None,
        }


def test_what_is_no_tensor_is_refused():
    for twin in (gradlab_torch, gradlab_jax):
        with pytest.raises(GradlabError, match="expected a"):
            twin.global_norm({"w": "weights"})


@pytest.mark.parametrize("shape", [(3,), (4, 2, 1, 1), (300, 300)])
def test_zeros_that_the_compiler_knows(shape):
    """A gradient that no path leads to is a constant of the program, beside others that are not."""

    def norms(x):
        return gradlab_jax.leaf_norms({"cut": jnp.zeros(shape), "x": x, "small": x * 1e-30})

    found = jax.jit(norms)(jnp.ones((3, 3)))
    assert {k: float(v) for k, v in found.items()} == pytest.approx({"cut": 0.0, "x": 3.0, "small": 3e-30})
    with jax.enable_x64(True):
        wide = jax.jit(lambda x: gradlab_jax.leaf_norms({"cut": jnp.zeros(shape), "x": x}))(jnp.ones((3, 3)))
        assert {k: float(v) for k, v in wide.items()} == {"cut": 0.0, "x": 3.0}
