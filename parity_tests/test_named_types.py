"""Programs that name float32 themselves, as most RMS norms do, or make masks and tables of numbers of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import compare, moved
from gradlab_jax.parity.rounding import widened

WIDTH, TIME = 6, 5
EPS = 1e-6


class Torch(torch.nn.Module):
    """Normalised in float32, with a table of places and a mask that are made while it runs."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(WIDTH))
        self.fc, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 3)

    def forward(self, x):
        h = x + torch.sin(torch.arange(TIME, dtype=torch.float32))[:, None] + torch.linspace(0.1, 0.9, WIDTH)
        variance = h.to(torch.float32).pow(2).mean(-1, keepdim=True)
        h = self.fc(self.scale * (h * torch.rsqrt(variance + EPS)).to(h.dtype))
        least = torch.full((TIME, TIME), torch.finfo(h.dtype).min).triu(1)
        seen = torch.softmax(h @ h.mT + least, -1, dtype=torch.float32).to(h.dtype) @ h
        return self.out(seen.cumsum(1)[:, -1])


class Jax(nnx.Module):
    """The same, its last sum a loop in float32."""

    def __init__(self, eps=EPS):
        rngs = nnx.Rngs(0)
        self.scale = nnx.Param(jnp.ones(WIDTH))
        self.fc, self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs), nnx.Linear(WIDTH, 3, rngs=rngs)
        self.eps = eps

    def __call__(self, x):
        h = x + jnp.sin(jnp.arange(TIME, dtype=jnp.float32))[:, None] + jnp.linspace(0.1, 0.9, WIDTH, dtype=x.dtype)
        variance = jnp.square(h.astype(jnp.float32)).mean(-1, keepdims=True)
        h = self.fc(self.scale[...] * (h * jax.lax.rsqrt(variance + self.eps)).astype(h.dtype))
        least = jnp.triu(jnp.full((TIME, TIME), jnp.finfo(h.dtype).min), 1)
        seen = jax.nn.softmax((h @ jnp.swapaxes(h, 1, 2) + least).astype(jnp.float32), -1).astype(h.dtype) @ h
        rows = jnp.swapaxes(seen, 0, 1).astype(jnp.float32)
        total, _ = jax.lax.scan(lambda sum_, row: (sum_ + row, None), jnp.zeros(rows.shape[1:], jnp.float32), rows)
        return self.out(total.astype(h.dtype))


def judged(port):
    torch.manual_seed(0)
    original = Torch()
    gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original)))
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((4, TIME, WIDTH)).astype(np.float32), np.array([0, 1, 2, 1])
    return compare(gradlab_torch.Subject(original), gradlab_jax.Subject(port), batch, steps=2)


def test_a_program_that_names_float32_is_judged_in_float64():
    report = judged(Jax())
    assert not report.failures, report
    assert report.worst("logic_error") < 1e-12
    assert torch.get_default_dtype() == torch.float32


def test_a_fault_below_the_rounding_of_float32_is_found_there():
    assert judged(Jax(eps=1.01 * EPS)).first_divergence.name == "step 0, activation fc"


@pytest.mark.parametrize("bits", [False, True])
def test_a_float64_run_leaves_bits_as_they_are(bits):
    """The bits of a number are those of the type that a program names."""

    def f(x):
        narrow = x.astype(jnp.float32)
        return jax.lax.bitcast_convert_type(narrow, jnp.int32) if bits else narrow

    with jax.enable_x64(True):
        x = jnp.asarray([0.1, -3.7])
        made = widened(f)(x)
        expected = np.asarray([0.1, -3.7], np.float32).view(np.int32) if bits else np.asarray([0.1, -3.7])
    assert np.array_equal(made, expected)
    assert made.dtype == expected.dtype
