"""Checks that both twins make of a program before and while it runs, without a framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.programs.program import LOSSES, ProgramSpec
from gradlab_core.records import GradientState, StepRecord

REGRESSIONS = ("mse",)
"""Losses whose targets are numbers; the targets of all others are labels."""


def check_fit(spec: ProgramSpec, *, shape: Sequence[int], outputs: int, is_regression: bool) -> None:
    """Refuse a model or a loss that does not fit the task.

    Args:
        shape: canonical shape of a batch of the task.
        outputs: the number of classes of the task, or of numbers in each target.

    Raises:
        GradlabError: the model or the loss does not fit; the message lists everything that differs.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> spec = ProgramSpec(model=ModelSpec(kind="mlp", features=64, num_classes=10), loss="mse")
    >>> check_fit(spec, shape=(32, 16), outputs=4, is_regression=False)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: program: 3 problems
      - model.features is 64, and an example of task digits has shape (16,); expected 16
      - model.num_classes is 10, and task digits has 4 outputs; expected 4
      - loss is mse, and task digits has labels; expected one of cross_entropy, summed_cross_entropy, \
naive_cross_entropy, batch_softmax
    """
    model, task, example, problems = spec.model, f"task {spec.task.name}", tuple(shape[1:]), list[str]()
    if (wanted := _axes_problem(model.kind, example)) is not None:
        problems.append(f"model.kind is {model.kind}, and an example of {task} has shape {example}; expected {wanted}")
    elif (features := _features_read(model.kind, example)) not in (None, model.features):
        problems.append(
            f"model.features is {model.features}, and an example of {task} has shape {example}; expected {features}"
        )
    if model.num_classes != outputs:
        problems.append(
            f"model.num_classes is {model.num_classes}, and {task} has {outputs} outputs; expected {outputs}"
        )
    if is_regression != (spec.loss in REGRESSIONS):
        fitting = REGRESSIONS if is_regression else tuple(name for name in LOSSES if name not in REGRESSIONS)
        has = "numbers as targets" if is_regression else "labels"
        problems.append(f"loss is {spec.loss}, and {task} has {has}; expected one of {', '.join(fitting)}")
    refuse("program", problems)


def _axes_problem(kind: str, example: tuple[int, ...]) -> str | None:
    """Say what the axes of an example should be, if a model of that kind cannot read them."""
    if kind in ("recurrent", "transformer"):
        return None if len(example) == 2 else "a sequence (T, features)"
    if kind in ("tinynet", "residual_toy"):
        return None if len(example) == 3 else "an image (3, H, W)"
    return None


def _features_read(kind: str, example: tuple[int, ...]) -> int | None:
    """The `features` that a model of that kind needs for such an example; None if it has no such field."""
    if kind == "mlp":
        return math.prod(example)
    return example[-1] if kind in ("recurrent", "transformer") else None


def layers_named(at: str) -> tuple[str, ...]:
    """The layers of a comma-separated list.

    >>> layers_named("fc1, fc2")
    ('fc1', 'fc2')
    """
    return tuple(part.strip() for part in at.split(",") if part.strip())


def under(at: str, names: Iterable[str], *, kind: str = "") -> frozenset[str]:
    """The parameters among `names` that belong to a layer of the comma-separated list `at`, and whose last name begins
    with `kind`.

    >>> sorted(under("fc1, fc2", ["fc1.weight", "fc1.bias", "fc2.weight", "fc3.weight"], kind="weight"))
    ['fc1.weight', 'fc2.weight']
    >>> under("fc9", ["fc1.weight", "fc3.weight"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: at: fc9 is no layer with such parameters here; expected some of fc1, fc3
    """
    known = [name for name in names if name.rpartition(".")[2].startswith(kind)]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in known))
    wanted = layers_named(at)
    members = {layer: {n for n in known if n == layer or n.startswith(f"{layer}.")} for layer in wanted}
    expected = f"expected some of {', '.join(layers)}"
    problems = [f"{layer} is no layer with such parameters here; {expected}" for layer in wanted if not members[layer]]
    refuse("at", problems if wanted else [f"names no layer; {expected}"])
    return frozenset[str]().union(*members.values())


def check_activation(at: str, paths: Sequence[str]) -> None:
    """Refuse a path that is not the path of an activation.

    >>> check_activation("act3", ["act1", "act2"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: at is 'act3', where no activation stands; expected one of act1, act2
    """
    if at not in paths:
        there = f"expected one of {', '.join(paths)}" if paths else "this model has none that is a module"
        raise GradlabError(f"at is {at!r}, where no activation stands; {there}")


def roles(spec: ProgramSpec, names: Sequence[str]) -> dict[str, GradientState]:
    """Whether each parameter is trained (`ok`), `frozen` or `unregistered`, in the order of `names`.

    Raises:
        GradlabError: nothing is left to train, or the fault is planted at a layer that does not exist.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> spec = ProgramSpec(model=ModelSpec(kind="mlp"), fault="frozen", at="fc1")
    >>> [role.value for role in roles(spec, ["fc1.weight", "fc2.weight"]).values()]
    ['frozen', 'ok']
    """
    states = {"frozen": GradientState.FROZEN, "left_out": GradientState.UNREGISTERED}
    if spec.fault not in states:
        return dict.fromkeys(names, GradientState.OK)
    chosen = under(spec.at, names)
    if chosen == set(names):
        raise GradlabError(f"at is {spec.at!r}, which is every layer; expected that some are left to train")
    return {name: states[spec.fault] if name in chosen else GradientState.OK for name in names}


def uphill(spec: ProgramSpec, names: Sequence[str]) -> frozenset[str]:
    """The parameters that the fault `uphill` moves along their gradient."""
    if spec.fault != "uphill":
        return frozenset()
    return under(spec.at, names) if spec.at else frozenset(names)


def is_probed(spec: ProgramSpec, step: int) -> bool:
    """Whether a probe is due at this step: at every `probe_every`-th step and at the last.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> spec = ProgramSpec(model=ModelSpec(), steps=6, probe_every=3)
    >>> [step for step in range(6) if is_probed(spec, step)]
    [0, 3, 5]
    """
    return spec.probe_every > 0 and (step % spec.probe_every == 0 or step == spec.steps - 1)


def is_looked_at(spec: ProgramSpec) -> bool:
    """Whether a run shows just what a monitor sees for itself: nobody probes, or looks for where a NaN was born."""
    return spec.look_every > 0 and spec.probe_every == 0


def input_scale(spec: ProgramSpec, step: int) -> float:
    """The factor of the inputs of this step's batch: 1 but for `wild_batches`.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> spec = ProgramSpec(model=ModelSpec(), steps=8, fault="wild_batches", amount=9.0)
    >>> [input_scale(spec, step) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 1.0]
    """
    is_wild = spec.fault == "wild_batches" and 0 <= step - spec.steps // 2 < 3
    return spec.amount if is_wild else 1.0


def has_nonfinite_gradient(record: StepRecord) -> bool:
    """Whether the loss or a gradient of a step is NaN or Inf."""
    grads = [norms.grad for norms in record.tensors.values() if norms.grad is not None]
    return not all(map(math.isfinite, [record.loss or 0.0, *grads]))


def has_ended(record: StepRecord) -> bool:
    """Whether a run ends after this step, because something in it is NaN or Inf."""
    norms = [norm for tensor in record.tensors.values() for norm in (tensor.param, tensor.update)]
    return has_nonfinite_gradient(record) or not all(map(math.isfinite, [record.grad_norm, *norms]))
