"""A monitor in the TrainState of Flax Linen: `tx` is the one thing that changes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState

from gradlab_core.sinks import ColumnSink, load_records
from gradlab_jax import check_gradients, monitor, read_record

rng = np.random.default_rng(0)
x = rng.standard_normal((64, 3)).astype(np.float32)
y = np.sin(x).sum(1, keepdims=True)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        nn.Dense(1, name="skip")(x)  # forgotten below
        return nn.Dense(1, name="out")(nn.tanh(nn.Dense(16, name="hidden")(x)))


def mean_square(prediction, y):
    return ((prediction - y) ** 2).mean()


net = Net()
params = net.init(jax.random.key(0), x)["params"]
known = check_gradients(net.bind({"params": params}), x, y, loss=mean_square)
tx = monitor(optax.adam(0.02), every=10, known=known)
state = TrainState.create(apply_fn=net.apply, params=params, tx=tx)


@jax.jit
def step(state):
    loss, grads = jax.value_and_grad(lambda p: mean_square(state.apply_fn({"params": p}, x), y))(state.params)
    return state.apply_gradients(grads=grads), loss


path = Path(tempfile.mkdtemp()) / "run.gradlab"
with ColumnSink(path) as sink:
    for i in range(41):
        state, loss = step(state)
        if i % 10 == 0:
            # The only copy to the host. TrainState tells the optimizer no loss, so it joins the record here.
            sink(dataclasses.replace(read_record(state), loss=float(loss)))

for record in load_records(path):
    print(
        f"step {record.step:2}  loss {record.loss:.4f}  gradient {record.grad_norm:.3f}"
        f"  update/weights {record.update_ratio:.1e}"
    )
for name, gradient in record.states.items():
    print(f"{name:14} {gradient}")
print("final loss", float(loss))
