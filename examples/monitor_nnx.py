"""A monitored optimizer for Flax NNX: paths and order are those of the model, what has no gradient is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import optax
from flax import nnx

from gradlab_core.sinks import ColumnSink, load_records
from gradlab_jax import check_gradients, read_record
from gradlab_jax.integrations import nnx as gradlab_nnx

rng = np.random.default_rng(0)
x = rng.standard_normal((64, 3)).astype(np.float32)
y = np.sin(x).sum(1, keepdims=True)


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(3, 16, rngs=rngs)
        self.out = nnx.Linear(16, 1, rngs=rngs)
        self.skip = nnx.Linear(3, 1, rngs=rngs)  # forgotten in __call__

    def __call__(self, x):
        return self.out(nnx.tanh(self.hidden(x)))


def mean_square(prediction, y):
    return ((prediction - y) ** 2).mean()


net = Net(nnx.Rngs(0))
known = check_gradients(net, x, y, loss=mean_square)
optimizer = gradlab_nnx.optimizer(net, optax.adam(0.02), every=10, known=known)


@nnx.jit
def step(net, optimizer):
    loss, grads = nnx.value_and_grad(lambda net: mean_square(net(x), y))(net)
    optimizer.update(net, grads, value=loss)
    return loss


path = Path(tempfile.mkdtemp()) / "run.gradlab"
with ColumnSink(path) as sink:
    for i in range(41):
        loss = step(net, optimizer)
        if i % 10 == 0:
            sink(read_record(optimizer))  # the only copy to the host

for record in load_records(path):
    print(
        f"step {record.step:2}  loss {record.loss:.4f}  gradient {record.grad_norm:.3f}"
        f"  update/weights {record.update_ratio:.1e}"
    )
for name, state in record.states.items():
    print(f"{name:14} {state}")
print("final loss", float(loss))
