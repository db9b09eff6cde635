"""How the layers of a model start, the effect of a data-dependent repair, and the steps of LARS afterwards."""

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
"""The trust coefficient in the paper on LARS."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What the doctor sees of a model with one set of weights.

    Attributes:
        layers: the doctor's rows.
        steps: the first step of plain SGD and of LARS, layer by layer.
        ties: the copies among its hidden units.
        log_gradient: ln of the root mean square of the gradient in the output of the first dense or convolutional layer
            over that of the last; None with fewer than two.
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
        learning_rate: the rate of the steps.
        before: the model as it was given.
        repair: what LSUV changed; None if no repair was asked for.
        after: the model with the new weights; None if no repair was asked for.
    """

    framework: str
    target: float
    learning_rate: float
    before: Look
    repair: tuple[RepairedLayer, ...] | None
    after: Look | None


def own_model(framework: str, net: RandomMlp, *, seed: int) -> tuple[Any, Any, Any]:
    """The random net of one seed as a model of the framework, a batch from N(0, 1), and labels with a class per output.

    Raises:
        GradlabError: the twins build no MLP with this activation, or the seed is negative.
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
    """Judge a model, and repair it if that was asked for.

    Args:
        framework: the framework of the model.
        model, x, y: as `init_doctor` and `gradient_flow` take them; a repair leaves its weights in the model.
        target, seed: as in `lsuv`.
        repair: whether to repair the model.
        draw: the initialiser with which a repair draws first; None to scale the present weights.
        learning_rate: the rate of the steps.
        loss: a function of the output and y; None for cross-entropy.

    Raises:
        GradlabError: one of these functions raised it.
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
    """The first steps by module, from the parameters and the gradient norms of single tensors."""
    owned: dict[str, list[str]] = {}
    for path in slopes:
        owned.setdefault(path.rpartition(".")[0], []).append(path)
    sizes = {name: reference.norm(np.array([reference.norm(weights[p]) for p in own])) for name, own in owned.items()}
    known = {name: [slope for p in own if (slope := slopes[p]) is not None] for name, own in owned.items()}
    norms = {name: reference.norm(np.array(own)) if own else None for name, own in known.items()}
    return layer_step_rows(sizes, norms, learning_rate, TRUST)
