"""What XLA makes of the JAX twin for a GPU, compiled without one: how many kernels, what is read twice, what is copied.

Needs JAX's CUDA plugin, which is gigabytes: `GPU=cuda13 make matrix` runs these in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re

import pytest

if importlib.util.find_spec("jax_plugins") is None or importlib.util.find_spec("jax_plugins.xla_cuda13") is None:
    pytest.skip("needs JAX's CUDA plugin: GPU=cuda13 make matrix", allow_module_level=True)

os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # it asks libraries of the driver, which is not here

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.experimental import topologies

import gradlab_jax as gl
from gradlab_core.parity.arithmetic import ARITHMETICS
from gradlab_jax.parity.rounding import _rounded

CARD = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
TYPES = {"large": (768, 1024), "line": (1 << 20,), "small": (96,)}


@pytest.fixture(scope="module")
def card():
    topology = topologies.get_topology_desc("h100", platform="cuda", target_config=CARD, topology="1x1x1")
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


def program(card, function, *args, **options):
    """The whole text of what is compiled for the card, and the kernels and copies of its entry."""
    placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=card), args)
    text = jax.jit(function, **options).lower(*placed).compile().as_text()
    lines = [line.split(", metadata")[0] for line in text[text.index("\nENTRY") :].splitlines()]
    return text, [line for line in lines if re.search(r" (fusion|custom-call|copy)\(", line)]


def arrays(*shapes):
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


@pytest.mark.parametrize("function", [gl.global_norm, lambda tree: list(gl.leaf_norms(tree).values())])
@pytest.mark.parametrize("shape", ["large", "line"])
def test_a_norm_is_one_pass_and_a_kernel_an_array(card, function, shape):
    _, kernels = program(card, function, arrays(*[TYPES[shape]] * 16))
    made = [line for line in kernels if "slice" not in line.split(" = ")[0]]  # a dictionary's values are cut apart
    assert len(made) <= 16 + 8, made  # each array's, and what is left together
    for i in range(16):
        assert sum(f"tree_{i}_" in line.split(" = ")[1] for line in kernels) == 1, kernels


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("function", [gl.global_norm, gl.leaf_norms])
def test_no_scale_is_squared_out_of_range(card, function, count):
    text, _ = program(card, function, arrays((count,)))
    assert not re.search(r"constant\(\{?(inf|nan)", text)


def test_that_search_finds_what_it_looks_for(card):
    text, _ = program(card, lambda x: jnp.square(x * 2.0**90), *arrays((1,)))
    assert re.search(r"constant\(\{?inf", text)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "tf32"])
def test_rounding_of_operands_is_kept(card, name):
    text, _ = program(card, lambda x: _rounded(x, ARITHMETICS[name]), *arrays((64, 64)))
    assert re.search(r"convert\(|reduce-precision\(", text)
    text, _ = program(card, lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), *arrays((64, 64)))
    assert "convert(" not in text  # what XLA does where nothing holds it back


RULES = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adamw": optax.adamw(1e-3),
    "lion": optax.lion(1e-3),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_monitored_step_writes_in_place_and_adds_few_kernels(card, rule):
    shapes = {f"{kind}{i}": TYPES[kind] for kind in ("large", "small") for i in range(6)}
    shapes |= {f"wide{i}": (1024, 768) for i in range(6)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def loss(params, x):
        def layer(x, i):
            return jnp.tanh(x @ params[f"large{i}"] @ params[f"wide{i}"]) @ jnp.ones((768, 96)) + params[f"small{i}"]

        return sum(layer(x, i).sum() for i in range(6))

    def kernels_of(tx):
        tx = optax.with_extra_args_support(tx)

        def step(params, state, x):
            value, grads = jax.value_and_grad(loss)(params, x)
            updates, state = tx.update(grads, state, params, value=value)
            return optax.apply_updates(params, updates), state, value

        state = jax.eval_shape(tx.init, params)
        return program(card, step, params, state, *arrays((32, 768)), donate_argnums=(0, 1))[1]

    bare, watched = kernels_of(RULES[rule]), kernels_of(gl.monitor(RULES[rule]))
    copies = [line for line in watched if re.search(r"f32\[(768,1024|1024,768)\]\S* copy\(", line)]
    assert not copies
    # Of 12 large arrays the gradient's norm each, of the rest a handful; and each step's own numbers.
    assert len(watched) - len(bare) <= 12 + 40, (len(bare), len(watched))


def test_two_sums_that_read_the_parameters_would_copy_them(card):
    """Why the applied update and the parameters are summed as one."""
    inner = optax.adamw(1e-3)
    params = dict(zip("ab", arrays(TYPES["large"], TYPES["large"]), strict=True))

    def step(params, state, grads, together):
        updates, state = inner.update(grads, state, params)
        new = optax.apply_updates(params, updates)
        pairs = [(jnp.square(params[k]), jnp.square(new[k] - params[k])) for k in params]
        sums = [jnp.sum(lax.complex(*pair)) if together else [jnp.sum(x) for x in pair] for pair in pairs]
        return new, state, sums

    state = jax.eval_shape(inner.init, params)
    counts = []
    for together in (True, False):
        _, kernels = program(
            card, lambda p, s, g, t=together: step(p, s, g, t), params, state, params, donate_argnums=(0, 1)
        )
        counts.append(sum(bool(re.search(r"f32\[768,1024\]\S* copy\(", line)) for line in kernels))
    assert counts[0] == 0
    assert counts[1] > 0
