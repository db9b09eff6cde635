"""The README's twenty lines, once in each framework: the same figures from the same weights and the same batch.

Run it with `python examples/quickstart.py`. Each half needs its own framework only.
"""

from __future__ import annotations

import importlib.util

from gradlab_core.data import load_data, probe
from gradlab_core.noise import default_noise

x, y = probe(load_data("digits"), 64, seed=0)  # canonical NumPy: (64, 3, 32, 32) and 64 labels
noise = default_noise(x.shape, seed=0)


def with_torch() -> None:
    import gradlab_torch as gl

    model = gl.build(gl.ModelSpec(block="preact_noskip", base=8), seed=0)  # any torch.nn.Module will do
    images = gl.to_native(x)  # a torch.Tensor, NCHW
    show("PyTorch", gl, model, images, gl.to_native(noise))


def with_jax() -> None:
    import gradlab_jax as gl

    model = gl.build(gl.ModelSpec(block="preact_noskip", base=8), seed=0)  # any Flax NNX or bound Linen module
    images = gl.to_native(x)  # a jax.Array, NHWC
    show("JAX", gl, model, images, gl.to_native(noise))


def show(name, gl, model, images, noise) -> None:
    rows = gl.activation_stats(model, images, mode="train")
    flow = gl.gradient_flow(model, images, y)
    states = gl.check_gradients(model, images, y)
    print(f"{name}: {gl.count_params(model):,} parameters, {gl.count_flops(model, images[:1]):,} FLOPs")
    print(f"  layer calls tracked       {len(rows)}, the first: {rows[0].path} std {rows[0].std:.5f}")
    print(f"  loss                      {flow.loss:.5f}")
    print(f"  gradient norm             {flow.global_norm:.5f}")
    print(f"  first/last gradient ratio {flow.ratio:.4f}")
    print(f"  input sensitivity         {gl.input_sensitivity(model, images, noise, mode='train'):.3e}")
    print(f"  no gradient path          {[path for path, state in states.items() if state == 'disconnected']}")


if __name__ == "__main__":
    for framework, run in (("torch", with_torch), ("jax", with_jax)):
        if importlib.util.find_spec(framework):
            run()
        else:
            print(f"{framework} is not installed: pip install 'gradlab-parity[{framework}]'")
