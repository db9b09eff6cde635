"""The nets that monitors are timed on: an ordinary one, one of many parameters and little work, one of many tensors;
and, for accelerators, GPT-2 small.

Each gives one training step in either framework as `(parameters, loss function)`; the batch is made up and stays.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec

from .gpt2 import Gpt2, jax_gpt2, torch_gpt2

NETS = ("tinynet", "wide", "deep")
ALL_NETS = (*NETS, "gpt2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Width and depth of the nets and the batch; the defaults are those of the published figures."""

    base: int = 32
    batch: int = 128
    width: int = 4608  # wide: 3072 → width → width → width → 10, 56.8 million parameters
    depth: int = 1000  # deep: so many residual layers of 24 × 24, each a weight and a bias
    small_batch: int = 32
    gpt2: Gpt2 = dataclasses.field(default_factory=Gpt2)

    def __post_init__(self) -> None:
        odd = {n: v for n, v in vars(self).items() if n != "gpt2" and v < 2}
        if odd:
            raise GradlabError(f"sizes {odd}; expected whole numbers of at least 2")

    def setting(self, net: str) -> str:
        return {
            "tinynet": f"TinyNet preact 2-2-2, base {self.base}, batch {self.batch}",
            "wide": f"MLP 3072-{self.width}-{self.width}-{self.width}-10, batch {self.small_batch}",
            "deep": f"{self.depth} residual layers 24 × 24 ({2 * self.depth + 2} tensors), batch {self.small_batch}",
            "gpt2": self.gpt2.setting,
        }[net]

    def shapes(self, net: str) -> list[tuple[int, ...]]:
        """Weights (out, in) and biases in order, of the two nets of plain layers."""
        widths = [3072, *[self.width] * 3, 10] if net == "wide" else [*[24] * (self.depth + 1), 10]
        return [shape for i, o in itertools.pairwise(widths) for shape in ((o, i), (o,))]

    def arrays(self, net: str) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        scale = 1.0 if net == "wide" else 1 / self.depth  # small enough that a thousand layers do not explode
        return [
            (rng.standard_normal(s, dtype=np.float32) * scale / np.sqrt(s[-1])).astype(np.float32)
            for s in self.shapes(net)
        ]

    def batch_of(self, net: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        count = self.batch if net == "tinynet" else self.small_batch
        shape = {"tinynet": (count, 3, 32, 32), "wide": (count, 3072), "deep": (count, 24)}[net]
        return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, count)


def torch_net(sizes: Sizes, net: str) -> tuple[Any, Callable[[], Any]]:
    """`(model, loss)`; calling `loss()` runs the net forward on its batch."""
    import torch

    import gradlab_torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if net == "gpt2":
        return torch_gpt2(sizes.gpt2, device)
    x, y = (torch.from_numpy(part).to(device) for part in sizes.batch_of(net))
    if net == "tinynet":
        model = gradlab_torch.build(ModelSpec(base=sizes.base), seed=0).to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    else:
        model = _TorchLayers(sizes.arrays(net), residual=net == "deep")
    model = model.to(device)
    return model, lambda: torch.nn.functional.cross_entropy(model(x), y)


def _TorchLayers(arrays: list[np.ndarray], *, residual: bool) -> Any:
    import torch

    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.arrays = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(a)) for a in arrays])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pairs = list(zip(self.arrays[::2], self.arrays[1::2], strict=True))
            for weight, bias in pairs[:-1]:
                out = torch.relu(torch.nn.functional.linear(x, weight, bias))
                x = x + out if residual else out
            return torch.nn.functional.linear(x, *pairs[-1])

    return Layers()


def jax_net(sizes: Sizes, net: str) -> tuple[Any, Callable[[Any], Any]]:
    """`(parameters, loss)`; `loss(parameters)` is pure, with the batch as a constant."""
    import jax
    import jax.numpy as jnp
    import optax

    import gradlab_jax
    from gradlab_jax.model.modules import functional

    if net == "gpt2":
        return jax_gpt2(sizes.gpt2)
    x, y = sizes.batch_of(net)
    labels = jnp.asarray(y)

    def cross_entropy(logits: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    if net == "tinynet":
        f, params, rest = functional(gradlab_jax.build(ModelSpec(base=sizes.base), seed=0), "train")
        images = gradlab_jax.to_native(x)
        return params, lambda params: cross_entropy(f.apply(params, rest, images)[0])
    rows = jnp.asarray(x)

    def loss(params: tuple[jax.Array, ...]) -> jax.Array:
        pairs = list(zip(params[::2], params[1::2], strict=True))
        h = rows
        for weight, bias in pairs[:-1]:
            out = jax.nn.relu(h @ weight.T + bias)
            h = h + out if net == "deep" else out
        weight, bias = pairs[-1]
        return cross_entropy(h @ weight.T + bias)

    return tuple(jnp.asarray(a) for a in sizes.arrays(net)), loss
