"""The examples run, print what is right, and the runs they monitor are those of the same loop without a monitor."""

from __future__ import annotations

import re
import runpy
import tempfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

ROOT = Path(__file__).parents[2]
NUMBER = r"([\d.e+-]+)"
CLIPPED = rf"step +(\d+)  loss {NUMBER}  gradient {NUMBER} -> {NUMBER}  update/weights {NUMBER}"
STEP = rf"step +(\d+)  loss {NUMBER}  gradient {NUMBER}  update/weights {NUMBER}"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """What an example prints, run as a script in this process; its file goes to a folder of the test's own."""

    def call(name):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        assert len(list(tmp_path.rglob("run.gradlab"))) == 1
        return capsys.readouterr().out

    return call


def data(rng):
    x = rng.standard_normal((64, 3)).astype(np.float32)
    return x, np.sin(x).sum(1)


def optimized(loss_of, params, tx):
    """Losses and gradient norms of a loop without a monitor."""
    losses, norms, state = [], [], tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss, optax.tree.norm(grads)

    for _ in range(41):
        params, state, loss, norm = step(params, state)
        losses.append(float(loss))
        norms.append(float(norm))
    return losses, norms


def plain_optax():
    rng = np.random.default_rng(0)
    x, y = data(rng)
    params = {
        "hidden": jnp.asarray(rng.standard_normal((3, 16)) / 3**0.5, jnp.float32),
        "out": jnp.asarray(rng.standard_normal(16) / 4, jnp.float32),
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02))
    return optimized(lambda p: jnp.mean((jnp.tanh(x @ p["hidden"]) @ p["out"] - y) ** 2), params, tx)


def plain_nnx():
    x, y = data(np.random.default_rng(0))
    rngs = nnx.Rngs(0)
    graph, params = nnx.split(nnx.Sequential(nnx.Linear(3, 16, rngs=rngs), nnx.tanh, nnx.Linear(16, 1, rngs=rngs)))
    return optimized(lambda p: jnp.mean((nnx.merge(graph, p)(x)[:, 0] - y) ** 2), params, optax.adam(0.02))


def plain_linen():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            nn.Dense(1, name="skip")(x)
            return nn.Dense(1, name="out")(nn.tanh(nn.Dense(16, name="hidden")(x)))

    x, y = data(np.random.default_rng(0))
    start = Net().init(jax.random.key(0), x)
    return optimized(lambda p: jnp.mean((Net().apply(p, x)[:, 0] - y) ** 2), start, optax.adam(0.02))


LAYERS = {f"{layer}.{leaf}": "ok" for layer in ("hidden", "out") for leaf in ("weight", "bias")}
LAYERS |= {f"skip.{leaf}": "disconnected" for leaf in ("weight", "bias")}


@pytest.mark.parametrize(
    ("name", "plain", "states"),
    [
        ("optax", plain_optax, {"hidden": "ok", "out": "ok", "forgotten": "zero"}),
        ("nnx", plain_nnx, LAYERS),
        ("linen", plain_linen, LAYERS),
    ],
)
def test_a_jax_example_trains_as_without_a_monitor(run, name, plain, states):
    printed = run(f"monitor_{name}")
    losses, norms = plain()
    steps = re.findall(CLIPPED if name == "optax" else STEP, printed)
    assert [int(step[0]) for step in steps] == [0, 10, 20, 30, 40]
    for index, loss, norm, *_ in steps:
        assert float(loss) == pytest.approx(losses[int(index)], abs=6e-5)  # printed to four digits
        assert float(norm) == pytest.approx(norms[int(index)], abs=6e-4)
    assert float(printed.split("final loss ")[1]) == pytest.approx(losses[-1], rel=1e-5)
    assert dict(re.findall(r"^([\w.]+) +(\w+)$", printed, re.MULTILINE)) == states


def test_the_torch_example(run):
    printed = run("monitor_torch")
    steps = [list(map(float, step)) for step in re.findall(CLIPPED, printed)]
    assert [step[0] for step in steps] == [0, 10, 20, 30, 40]
    assert all(after == pytest.approx(min(before, 1.0), abs=1e-3) for _, _, before, after, _ in steps)
    assert steps[0][2] > 1.0
    assert steps[-1][1] == pytest.approx(float(printed.split("final loss ")[1]), abs=6e-5)
    assert "body.0.weight  ok\n" in printed
    assert "skip.bias      disconnected\n" in printed
