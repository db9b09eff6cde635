"""Two nets that should train the same, and one that was ported wrongly: where do they first differ?"""

from __future__ import annotations

import numpy as np

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import compare, moved
from gradlab_core.programs.specs import ModelSpec, TrainSpec

rng = np.random.default_rng(0)
batch = rng.standard_normal((8, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 8)
training = TrainSpec(learning_rate=0.05, weight_decay=5e-4)

original = gradlab_torch.build(ModelSpec(block="postact", base=4, layers=(1, 1, 1)), seed=0)
gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original)))  # no zero biases to hide behind
reference = gradlab_torch.Subject(original, optimizer=training)
port = gradlab_jax.build(ModelSpec(block="postact", base=4, layers=(1, 1, 1)), seed=0)

print(compare(reference, gradlab_jax.Subject(port, optimizer=training), batch, steps=2))

# The classic slip: Flax's momentum weighs the old statistics, PyTorch's the new ones.
port.stage2.layers[0].bn1.momentum = 0.9
print(compare(reference, gradlab_jax.Subject(port, optimizer=training), batch, steps=2))
