"""How the layers of a model start, what a data-dependent repair makes of them, and what LARS would afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradlab_core import backends, fields
from gradlab_core.definitions import reference
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import refuse
from gradlab_core.lab.doctor import LayerStart
from gradlab_core.lab.random_mlp import RandomMlp, draw_layer
from gradlab_core.lab.repair import LayerStepSize, RepairedLayer, check_rates, layer_step_rows
from gradlab_core.lab.studies.model import gradient_change
from gradlab_core.programs.specs import ModelSpec

_EXAMPLES = 256
TRUST = 0.001
"""The trust coefficient of LARS, that of its paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen of a model with one set of weights.

    Attributes:
        layers: the doctor's rows.
        steps: the first step of plain SGD and of LARS, layer by layer.
        ties: copies among its hidden units.
        log_gradient: ln of the root mean square of the gradient in the first dense or convolutional layer's output over
            that in the last's; None with fewer than two.
    """

    layers: tuple[LayerStart, ...]
    steps: tuple[LayerStepSize, ...]
    ties: SymmetryDefect
    log_gradient: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorStudy:
    """A model and a batch.

    Attributes:
        framework: `torch` or `jax`.
        target: the variance that outputs should have.
        learning_rate: of the steps.
        before: the model as it came.
        repair: what LSUV changed; None if it was not asked for.
        after: the model with the new weights; None as above.
    """

    framework: str
    target: float
    learning_rate: float
    before: Look
    repair: tuple[RepairedLayer, ...] | None
    after: Look | None


def own_model(framework: str, net: RandomMlp, *, seed: int) -> tuple[Any, Any, Any]:
    """The random net of one seed as a model of the framework, a batch from N(0, 1), and labels, one class an output.

    Raises:
        GradlabError: an activation of which the twins build no MLP, a negative seed.
    """
    problems: list[str] = []
    fields.whole_number(problems, "seed", seed, 0)
    refuse("doctor", problems)
    twin = backends.load(framework)
    features, *widths, classes = net.widths
    spec = ModelSpec(
        kind="mlp", features=features, widths=tuple(widths), num_classes=classes, activation=net.activation
    )
    model, drawn = twin.build(spec, seed=0), [draw_layer(net, layer, [seed]) for layer in range(net.depth)]
    weights = {
        f"fc{i}.{name}": part[0]
        for i, layer in enumerate(drawn, 1)
        for name, part in zip(("weight", "bias"), layer, strict=True)
    }
    twin.from_canonical(model, weights)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((_EXAMPLES, features)).astype(np.float32)
    return model, twin.to_native(x), rng.integers(0, classes, _EXAMPLES)


def study_start(
    framework: str,
    model: Any,
    x: Any,
    y: Any,
    *,
    target: float = 1.0,
    repair: bool = False,
    draw: str | None = None,
    seed: int = 0,
    learning_rate: float = 0.1,
    loss: Any = None,
) -> DoctorStudy:
    """Judge a model, and repair it if asked.

    Args:
        framework: of the model.
        model, x, y: as `init_doctor` and `gradient_flow` take them; a repair leaves its weights in the model.
        target, seed: as in `lsuv`.
        repair: whether to.
        draw: the initialiser that a repair draws with first; None to scale the weights there are.
        learning_rate: of the steps.
        loss: of the output and y; None for cross-entropy.

    Raises:
        GradlabError: what these functions raise.
    """
    check_rates(learning_rate, TRUST)
    twin = backends.load(framework)
    keywords = {} if loss is None else {"loss": loss}

    def look() -> Look:
        slopes = twin.gradient_flow(model, x, y, **keywords).layers
        return Look(
            layers=tuple(twin.init_doctor(model, x, target=target)),
            steps=tuple(_steps(twin.to_canonical(model), slopes, learning_rate)),
            ties=twin.symmetry_defect(model),
            log_gradient=gradient_change(twin.signal_propagation(model, x, y, **keywords).layers),
        )

    before = look()
    done = after = None
    if repair:
        repaired = twin.lsuv(model, x, target=target, init=draw, seed=seed)
        twin.from_canonical(model, repaired.weights)
        done, after = repaired.layers, look()
    return DoctorStudy(
        framework=framework, target=target, learning_rate=learning_rate, before=before, repair=done, after=after
    )


def _steps(
    weights: Mapping[str, np.ndarray], slopes: Mapping[str, float | None], learning_rate: float
) -> list[LayerStepSize]:
    """By module, from the parameters and the gradient norms of single tensors."""
    owned: dict[str, list[str]] = {}
    for path in slopes:
        owned.setdefault(path.rpartition(".")[0], []).append(path)
    sizes = {name: reference.norm(np.array([reference.norm(weights[p]) for p in own])) for name, own in owned.items()}
    known = {name: [slope for p in own if (slope := slopes[p]) is not None] for name, own in owned.items()}
    norms = {name: reference.norm(np.array(own)) if own else None for name, own in known.items()}
    return layer_step_rows(sizes, norms, learning_rate, TRUST)
