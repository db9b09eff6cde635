"""GPT-2 (Radford et al., 2019) as one training step, in plain PyTorch and in plain JAX, with the same numbers.

Parameters are float32 and products bfloat16, as people train it; the head is the embedding. Dropout is left out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpt2:
    """Sizes; the defaults are those of GPT-2 small, 124 million parameters in 148 tensors, and 8 × 1,024 tokens.

    >>> Gpt2().parameters, len(Gpt2().shapes())
    (124439808, 148)
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50257
    context: int = 1024
    sequences: int = 8

    def __post_init__(self) -> None:
        odd = {n: v for n, v in dataclasses.asdict(self).items() if v < 1}
        if odd or self.width % self.heads:
            raise GradlabError(
                f"GPT-2 of {dataclasses.asdict(self)}; expected whole numbers of at least 1, and a width that is a "
                "multiple of the heads"
            )

    @property
    def setting(self) -> str:
        return (
            f"GPT-2: {self.layers} layers, width {self.width}, {self.heads} heads, vocabulary {self.vocabulary} "
            f"({self.parameters / 1e6:.1f} M parameters), {self.sequences} × {self.context} tokens, bfloat16"
        )

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weights (out, in) and biases by their paths in the PyTorch model below."""
        w = self.width
        sizes: dict[str, tuple[int, ...]] = {
            "tokens.weight": (self.vocabulary, w),
            "places.weight": (self.context, w),
        }
        for i in range(self.layers):
            for name, out, into in (("qkv", 3 * w, w), ("mix", w, w), ("up", 4 * w, w), ("down", w, 4 * w)):
                sizes |= {f"blocks.{i}.{name}.weight": (out, into), f"blocks.{i}.{name}.bias": (out,)}
            for name in ("norm1", "norm2"):
                sizes |= {f"blocks.{i}.{name}.weight": (w,), f"blocks.{i}.{name}.bias": (w,)}
        return sizes | {"norm.weight": (w,), "norm.bias": (w,)}

    @functools.lru_cache(maxsize=1)  # noqa: B019 (drawn once for all cases; the sizes are a value)
    def arrays(self) -> dict[str, np.ndarray]:
        """N(0, 0.02) as published, biases 0, scales of the norms 1."""
        rng = np.random.default_rng(0)
        drawn = {}
        for path, shape in self.shapes().items():
            if len(shape) == 2:
                drawn[path] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            else:
                drawn[path] = np.full(shape, path.endswith("weight"), dtype=np.float32)
        return drawn

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and the tokens that follow them, each (sequences, context)."""
        text = np.random.default_rng(1).integers(0, self.vocabulary, (self.sequences, self.context + 1))
        return text[:, :-1], text[:, 1:]


def torch_gpt2(sizes: Gpt2, device: str) -> tuple[Any, Callable[[], Any]]:
    """`(model, loss)`, on the device, under autocast to bfloat16."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = sizes.width
            self.norm1, self.norm2 = nn.LayerNorm(w), nn.LayerNorm(w)
            self.qkv, self.mix = nn.Linear(w, 3 * w), nn.Linear(w, w)
            self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, t, w = x.shape
            parts = self.qkv(self.norm1(x)).view(n, t, 3, sizes.heads, w // sizes.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.mix(seen.transpose(1, 2).reshape(n, t, w))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
            self.places = nn.Embedding(sizes.context, sizes.width)
            self.blocks = nn.ModuleList([Block() for _ in range(sizes.layers)])
            self.norm = nn.LayerNorm(sizes.width)

        def forward(self, text: torch.Tensor) -> torch.Tensor:
            x = self.tokens(text) + self.places.weight[: text.shape[1]]
            for block in self.blocks:
                x = block(x)
            return F.linear(self.norm(x), self.tokens.weight)

    with torch.device(device):
        model = Model()
    model.load_state_dict({path: torch.from_numpy(array) for path, array in sizes.arrays().items()})
    text, following = (torch.from_numpy(part).to(device) for part in sizes.batch())

    def loss() -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return F.cross_entropy(model(text).flatten(0, 1), following.flatten())

    return model, loss


def jax_gpt2(sizes: Gpt2) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """`(parameters, loss)`; `loss(parameters)` is pure, with the batch as a constant."""
    import jax
    import jax.numpy as jnp
    import optax

    text, following = (jnp.asarray(part, dtype=jnp.int32) for part in sizes.batch())
    half = jnp.bfloat16

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        def linear(x: jax.Array, path: str) -> jax.Array:
            return x.astype(half) @ params[f"{path}.weight"].astype(half).T + params[f"{path}.bias"].astype(half)

        def norm(x: jax.Array, path: str) -> jax.Array:
            x = x.astype(jnp.float32)
            x = jax.nn.standardize(x, axis=-1, epsilon=1e-5)
            return x * params[f"{path}.weight"] + params[f"{path}.bias"]

        n, t = text.shape
        x = params["tokens.weight"][text] + params["places.weight"][:t]
        for block in (f"blocks.{i}" for i in range(sizes.layers)):
            parts = linear(norm(x, f"{block}.norm1"), f"{block}.qkv").reshape(n, t, 3, sizes.heads, -1)
            q, k, v = jnp.moveaxis(parts, 2, 0)
            seen = jax.nn.dot_product_attention(q, k, v, is_causal=True)
            x = x + linear(seen.reshape(n, t, -1), f"{block}.mix")
            x = x + linear(jax.nn.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.up")), f"{block}.down")
        logits = norm(x, "norm").astype(half) @ params["tokens.weight"].astype(half).T
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), following).mean()

    return {path: jnp.asarray(array) for path, array in sizes.arrays().items()}, loss
