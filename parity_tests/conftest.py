"""Devices, nets and batches for the parity suite."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import moved
from gradlab_core.programs.specs import BLOCKS, ModelSpec

# The second stage has all that a stage can have; a third, with more of the same, is there once.
SMALL = {block: ModelSpec(block=block, base=3, layers=(1, 1, 1) if block == "preact" else (1, 1)) for block in BLOCKS}
# Small, since what a spec costs here is that JAX compiles it; the other activations and cells: test_models.py.
FLAT = {
    "mlp": ModelSpec(kind="mlp", features=12, widths=(8, 6), activation="gelu", num_classes=3, init="xavier_normal"),
    "lstm": ModelSpec(kind="recurrent", cell="lstm", features=3, hidden=4, num_classes=2),
    "gru": ModelSpec(kind="recurrent", cell="gru", features=3, hidden=4, num_classes=2, init="orthogonal"),
    "transformer": ModelSpec(kind="transformer", features=3, hidden=8, heads=2, depth=1, num_classes=2),
}
SPECS = {**SMALL, "residual_toy": ModelSpec(kind="residual_toy", base=4), **FLAT}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = {"gpu": config.getoption("--jax-platform") == "gpu", "tpu": config.getoption("--jax-platform") == "tpu"}
    for item in items:
        for name, there in here.items():
            if item.get_closest_marker(name) and not there:
                item.add_marker(pytest.mark.skip(reason=f"needs --jax-platform {name} and such a device"))


@pytest.fixture(autouse=True)
def on_device(request: pytest.FixtureRequest):
    """Every test runs where the options say; a device that is not there is an error, not a silent CPU run. Products are
    made in float32, as PyTorch makes them: a GPU has JAX multiply in TF32 where nobody says anything."""
    device = jax.devices(request.config.getoption("--jax-platform"))[0]
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def torch_device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--torch-device"))


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--precision"))


@pytest.fixture(params=SPECS, scope="module")
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


def batch_for(spec: ModelSpec, examples: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A canonical batch; `plain_unpadded` needs 32 pixels to have any left."""
    rng = np.random.default_rng(seed)
    size = spec.image_size if spec.kind == "residual_toy" else 32 if spec.block == "plain_unpadded" else 16
    steps = (5, spec.features)
    shape = {"mlp": steps[1:], "recurrent": steps, "transformer": steps}.get(spec.kind, (3, size, size))
    return rng.standard_normal((examples, *shape)).astype(np.float32), rng.integers(0, spec.num_classes, examples)


def trained_weights(spec: ModelSpec, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights of a net that has left its initialisation: no zero biases, no unit scales, in which errors could hide."""
    return moved(gradlab_torch.to_canonical(gradlab_torch.build(spec, seed=seed)), seed=seed)


def pair(spec: ModelSpec) -> tuple[torch.nn.Module, object]:
    """Both twins with the same weights."""
    weights = trained_weights(spec)
    models = gradlab_torch.build(spec, seed=0), gradlab_jax.build(spec, seed=0)
    gradlab_torch.from_canonical(models[0], weights)
    gradlab_jax.from_canonical(models[1], weights)
    return models
