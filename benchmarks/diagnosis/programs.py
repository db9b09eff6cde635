"""Healthy programs: ordinary ones of every family, and hard ones that simple rules take for ill."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from gradlab_core.programs.program import OptimizerSpec, ProgramSpec, TaskSpec
from gradlab_core.programs.specs import USES, ModelSpec
from gradlab_core.programs.tasks import open_task

T = TypeVar("T")
Rng = np.random.Generator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of healthy program; `hard` says that it is one of those that simple rules take for ill."""

    draw: Callable[[Rng], ProgramSpec]
    hard: bool = False


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """One of them, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def between(rng: Rng, low: float, high: float) -> float:
    """A number drawn evenly in its logarithm, to three digits, so that a spec reads well."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")


def widths(rng: Rng, depth: tuple[int, int], width: tuple[int, int]) -> tuple[int, ...]:
    """Widths of hidden layers: all alike, narrowing, or anyhow."""
    count = int(rng.integers(depth[0], depth[1] + 1))
    sizes = [int(between(rng, *width)) for _ in range(count)]
    shape = pick(rng, ("alike", "narrowing", "anyhow"))
    return tuple(
        sizes[:1] * count if shape == "alike" else sorted(sizes, reverse=True) if shape == "narrowing" else sizes
    )


RATES = {
    "relu-like": {"sgd": (0.02, 0.3), "momentum": (0.003, 0.05), "adam": (5e-4, 1e-2), "adamw": (5e-4, 1e-2)},
    "bounded": {"sgd": (0.03, 0.5), "momentum": (0.005, 0.08), "adam": (5e-4, 1e-2), "adamw": (5e-4, 1e-2)},
    "sigmoid": {"sgd": (0.3, 3.0), "momentum": (0.03, 0.3), "adam": (2e-3, 3e-2), "adamw": (2e-3, 3e-2)},
    "regression": {"sgd": (0.01, 0.1), "momentum": (0.002, 0.02), "adam": (1e-3, 1e-2), "adamw": (1e-3, 1e-2)},
    "recurrent": {"momentum": (0.02, 0.1), "adam": (2e-3, 1e-2), "adamw": (2e-3, 1e-2)},
}
"""Rates at which the families learn, by kind of net and optimizer; at the edges some do not, and are dropped."""


def optimizer(rng: Rng, kind: str, **options: Any) -> OptimizerSpec:
    """An optimizer with a rate at which such nets learn."""
    name = pick(rng, list(RATES[kind]))
    rate = between(rng, *RATES[kind][name])
    decay = pick(rng, (0.0, 0.0, 1e-4, 1e-2 if name == "adamw" else 5e-4))
    if name == "momentum":
        options = {"momentum": 0.9, **options}
    options = {"clip": pick(rng, (None, None, None, 1.0)), "warm_up": pick(rng, (0, 0, 0, 20)), **options}
    return OptimizerSpec(
        **{"name": "sgd" if name == "momentum" else name, "learning_rate": rate, "weight_decay": decay, **options}
    )


def classification(rng: Rng) -> TaskSpec:
    """Digits, or clusters of a random number of classes in a random number of features; the input is standardised, or
    what passes for it: pixels from 0 to 1, a factor of a few."""
    scale, shift = pick(rng, ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.3, 0.3), (2.0, 0.0), (3.0, 1.0)))
    if rng.random() < 0.5:
        return TaskSpec(input_scale=scale, input_shift=shift)
    features, classes = int(rng.integers(8, 33)), int(rng.integers(2, 9))
    return TaskSpec(name="blobs", features=features, classes=classes, input_scale=scale, input_shift=shift)


def fitting(task: TaskSpec, **fields: Any) -> ModelSpec:
    """A net that takes and gives what the task does."""
    opened = open_task(task, seed=0)
    sizes = {"features": opened.features} if "features" in USES[fields.get("kind", "tinynet")] else {}
    return ModelSpec(num_classes=opened.outputs, **sizes, **fields)


def common(rng: Rng, **fields: Any) -> dict[str, Any]:
    """What every program draws: seed, length, batch size."""
    return {
        "seed": int(rng.integers(1 << 30)),
        "steps": int(rng.integers(8, 21)) * 10,
        "batch_size": pick(rng, (16, 32, 32, 64)),
        **fields,
    }


_STARTS = {
    "relu": (("kaiming_uniform", None), ("kaiming_normal", None)),
    "leaky_relu": (("kaiming_uniform", None), ("kaiming_normal", None)),
    "elu": (("kaiming_normal", 1.2), ("lecun_normal", None), ("xavier_uniform", None)),
    "gelu": (("kaiming_normal", None), ("kaiming_uniform", None)),
    "silu": (("kaiming_normal", None), ("kaiming_uniform", None)),
    "tanh": (("xavier_uniform", None), ("xavier_normal", 1.2), ("orthogonal", None), ("lecun_normal", None)),
    "sigmoid": (("xavier_uniform", None), ("xavier_normal", 2.0), ("orthogonal", 2.0)),
}


def _dense(activation: str, kind: str, most: int) -> Callable[[Rng], ProgramSpec]:
    def draw(rng: Rng) -> ProgramSpec:
        task = classification(rng)
        sizes = widths(rng, (1, most), (16, 96))
        init, number = pick(rng, _STARTS[activation])
        if activation != "sigmoid" and rng.random() < 0.3:
            init, number = "torch_default", None
        model = fitting(task, kind="mlp", widths=sizes, activation=activation, init=init, init_number=number)
        return ProgramSpec(model=model, task=task, optimizer=optimizer(rng, kind), **common(rng))

    return draw


def _waves(rng: Rng) -> ProgramSpec:
    task = TaskSpec(name="waves", features=int(rng.integers(3, 13)), target_scale=pick(rng, (1.0, 1.0, 0.3, 2.0)))
    activation = pick(rng, ("relu", "tanh", "gelu", "silu"))
    init, number = pick(rng, _STARTS[activation])
    sizes = widths(rng, (1, 4), (24, 96))
    model = fitting(task, kind="mlp", widths=sizes, activation=activation, init=init, init_number=number)
    return ProgramSpec(
        model=model, task=task, optimizer=optimizer(rng, "regression"), loss="mse", **common(rng, steps=200)
    )


def _resnet(rng: Rng, layers: tuple[int, ...] = (1, 1)) -> ProgramSpec:
    task = TaskSpec(layout="image")
    model = fitting(task, kind="tinynet", base=4, layers=layers, block=pick(rng, ("preact", "postact", "plain")))
    options = {"adam": (3e-3, 1e-2), "momentum": (0.02, 0.08)}
    name = pick(rng, list(options))
    rate = between(rng, *options[name])
    moved = OptimizerSpec(name="adam", learning_rate=rate)
    if name == "momentum":
        moved = OptimizerSpec(name="sgd", learning_rate=rate, momentum=0.9, weight_decay=5e-4)
    return ProgramSpec(model=model, task=task, optimizer=moved, **common(rng, steps=80))


def _recurrent(cell: str) -> Callable[[Rng], ProgramSpec]:
    def draw(rng: Rng) -> ProgramSpec:
        task = pick(rng, (TaskSpec(layout="rows"), TaskSpec(layout="rows"), TaskSpec(name="temporal_order", length=10)))
        init = pick(rng, ("torch_default", "orthogonal"))
        model = fitting(task, kind="recurrent", cell=cell, init=init, hidden=int(rng.integers(16, 49)))
        clip = pick(rng, (1.0, 1.0, None)) if cell != "rnn_relu" else 1.0
        return ProgramSpec(
            model=model, task=task, optimizer=optimizer(rng, "recurrent", clip=clip), **common(rng, steps=200)
        )

    return draw


def _adding(rng: Rng) -> ProgramSpec:
    task = TaskSpec(name="adding", length=int(rng.integers(10, 16)))
    model = fitting(task, kind="recurrent", cell=pick(rng, ("lstm", "gru")), hidden=int(rng.integers(16, 49)))
    moved = OptimizerSpec(name="adam", learning_rate=between(rng, 5e-3, 2e-2), clip=1.0)
    return ProgramSpec(model=model, task=task, optimizer=moved, loss="mse", **common(rng, steps=200, batch_size=64))


def _transformer(rng: Rng) -> ProgramSpec:
    task, depth = TaskSpec(layout="rows"), int(rng.integers(1, 3))
    model = fitting(task, kind="transformer", hidden=pick(rng, (16, 32)), heads=pick(rng, (2, 4)), depth=depth)
    moved = OptimizerSpec(
        name=pick(rng, ("adam", "adamw")), learning_rate=between(rng, 2e-3, 6e-3), warm_up=int(rng.integers(20, 61)),
        clip=pick(rng, (1.0, None)),
    )  # fmt: skip
    return ProgramSpec(model=model, task=task, optimizer=moved, **common(rng, steps=150))


def _relu_net(rng: Rng, most: int = 3, task: TaskSpec | None = None, **fields: Any) -> ProgramSpec:
    task = task or classification(rng)
    model = fitting(task, kind="mlp", widths=widths(rng, (2, most), (32, 96)), activation="relu", init="kaiming_normal")
    return ProgramSpec(
        **{"model": model, "task": task, "optimizer": optimizer(rng, "relu-like"), **common(rng, **fields)}
    )


def _tiny_rate(rng: Rng) -> ProgramSpec:
    """A wide net moves far in function at steps that hardly show beside its weights."""
    task = classification(rng)
    model = fitting(task, kind="mlp", widths=widths(rng, (1, 3), (192, 384)), activation="relu", init="kaiming_normal")
    moved = OptimizerSpec(name=pick(rng, ("adam", "adamw")), learning_rate=between(rng, 5e-5, 2e-4))
    if rng.random() < 0.4:
        moved = OptimizerSpec(name="sgd", learning_rate=between(rng, 1e-3, 4e-3), momentum=pick(rng, (0.0, 0.9)))
    return ProgramSpec(model=model, task=task, optimizer=moved, **common(rng, steps=200))


def _converged(rng: Rng) -> ProgramSpec:
    """Learned to the end: gradients and updates fall by orders of magnitude."""
    if rng.random() < 0.3:
        task = TaskSpec(name="temporal_order", length=10)
        model = fitting(task, kind="recurrent", cell=pick(rng, ("lstm", "gru")), hidden=int(rng.integers(24, 49)))
        moved = OptimizerSpec(name="adam", learning_rate=between(rng, 1e-2, 2e-2), clip=1.0)
        return ProgramSpec(model=model, task=task, optimizer=moved, **common(rng, steps=300, batch_size=64))
    spec = _relu_net(rng, task=TaskSpec(), steps=400, batch_size=128)
    moved = pick(
        rng,
        (
            OptimizerSpec(name="sgd", learning_rate=between(rng, 0.02, 0.06), momentum=0.9),
            OptimizerSpec(name="adam", learning_rate=between(rng, 3e-3, 8e-3)),
        ),
    )
    return dataclasses.replace(spec, optimizer=moved)


def _sparse(rng: Rng) -> ProgramSpec:
    """Biases below 0: most outputs of a layer are 0, and its units are alive all the same."""
    spec = _relu_net(rng)
    at = f"fc{rng.integers(1, len(spec.model.widths) + 1)}"
    return dataclasses.replace(spec, fault="negative_bias", at=at, amount=between(rng, 0.5, 1.2))


def _fine_tuning(rng: Rng) -> ProgramSpec:
    """The first layers are frozen, as they are when a net is fine-tuned."""
    draw = pick(rng, (_relu_net, _relu_net, _dense("tanh", "bounded", 3), _resnet))
    spec = draw(rng)
    return dataclasses.replace(spec, fault="frozen", at="conv1" if spec.model.kind == "tinynet" else "fc1")


def _noisy(rng: Rng) -> ProgramSpec:
    """Small batches and a rate near the highest that works: losses jump, and fall."""
    spec = _relu_net(rng, batch_size=pick(rng, (4, 8)), steps=300)
    return dataclasses.replace(spec, optimizer=OptimizerSpec(name="sgd", learning_rate=between(rng, 0.05, 0.2)))


def _bfloat16(rng: Rng) -> ProgramSpec:
    """Everything in bfloat16, at a rate at which rounding swallows few updates."""
    spec = _relu_net(rng, dtype="bfloat16")
    moved = pick(
        rng,
        (
            OptimizerSpec(name="sgd", learning_rate=between(rng, 0.05, 0.2)),
            OptimizerSpec(name="adam", learning_rate=between(rng, 2e-3, 6e-3)),
        ),
    )
    return dataclasses.replace(spec, optimizer=moved)


def _clipped(rng: Rng) -> ProgramSpec:
    """Every gradient is clipped, so its norm is the same at all steps, and small."""
    spec = _relu_net(rng, steps=200)
    moved = OptimizerSpec(name="sgd", learning_rate=between(rng, 0.3, 1.0), clip=between(rng, 0.1, 0.3))
    return dataclasses.replace(spec, optimizer=moved)


def _deep_ratio(rng: Rng) -> ProgramSpec:
    """Residual and plain nets with normalisation: the first gradient is several times the last."""
    return _resnet(rng, layers=pick(rng, ((1, 1, 1), (2, 2), (2, 1, 1))))


FAMILIES = {
    "relu": Family(draw=_dense("relu", "relu-like", 5)),
    "tanh": Family(draw=_dense("tanh", "bounded", 4)),
    "sigmoid": Family(draw=_dense("sigmoid", "sigmoid", 1)),
    "gelu": Family(draw=_dense("gelu", "relu-like", 4)),
    "silu": Family(draw=_dense("silu", "relu-like", 4)),
    "leaky relu": Family(draw=_dense("leaky_relu", "relu-like", 5)),
    "elu": Family(draw=_dense("elu", "relu-like", 4)),
    "waves": Family(draw=_waves),
    "resnet": Family(draw=_resnet),
    "rnn": Family(draw=_recurrent("rnn_tanh")),
    "relu rnn": Family(draw=_recurrent("rnn_relu")),
    "lstm": Family(draw=_recurrent("lstm")),
    "gru": Family(draw=_recurrent("gru")),
    "adding": Family(draw=_adding),
    "transformer with warm-up": Family(draw=_transformer, hard=True),
    "tiny rate that works": Family(draw=_tiny_rate, hard=True),
    "converged": Family(draw=_converged, hard=True),
    "sparse relu": Family(draw=_sparse, hard=True),
    "frozen trunk": Family(draw=_fine_tuning, hard=True),
    "noisy sgd": Family(draw=_noisy, hard=True),
    "bfloat16 that works": Family(draw=_bfloat16, hard=True),
    "always clipped": Family(draw=_clipped, hard=True),
    "large first/last ratio": Family(draw=_deep_ratio, hard=True),
}
