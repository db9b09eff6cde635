"""A monitor around an optax optimizer, in plain JAX: parameters are a dictionary, the step is jitted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradlab_core.sinks import ColumnSink, load_records
from gradlab_jax import before_clipping, monitor, read_record

rng = np.random.default_rng(0)
x = rng.standard_normal((64, 3)).astype(np.float32)
y = np.sin(x).sum(1)
params = {
    "hidden": jnp.asarray(rng.standard_normal((3, 16)) / 3**0.5, jnp.float32),
    "out": jnp.asarray(rng.standard_normal(16) / 4, jnp.float32),
    "forgotten": jnp.ones(3),
}
# The monitor stands outermost around the optimizer; clipping comes before it.
tx = optax.chain(before_clipping(every=10), optax.clip_by_global_norm(1.0), monitor(optax.adam(0.02), every=10))


def loss_of(params):
    return jnp.mean((jnp.tanh(x @ params["hidden"]) @ params["out"] - y) ** 2)


@jax.jit
def step(params, state):
    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(grads, state, params, value=loss)
    return optax.apply_updates(params, updates), state, loss


state = tx.init(params)
path = Path(tempfile.mkdtemp()) / "run.gradlab"
with ColumnSink(path) as sink:
    for i in range(41):
        params, state, loss = step(params, state)
        if i % 10 == 0:
            sink(read_record(state))  # the only copy to the host

for record in load_records(path):
    print(
        f"step {record.step:2}  loss {record.loss:.4f}  gradient {record.raw_grad_norm:.3f} -> {record.grad_norm:.3f}"
        f"  update/weights {record.update_ratio:.1e}"
    )
for name, gradient in record.states.items():
    print(f"{name:10} {gradient}")  # `known=` tells a gradient that cannot be from one that is zero: monitor_linen.py
print("final loss", float(loss))
