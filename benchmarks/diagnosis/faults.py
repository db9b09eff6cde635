"""What can be wrong with a program: each fault turns a healthy one into one that is not, and says what the truth is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gradlab_core.programs import OptimizerSpec, ProgramSpec, TaskSpec
from gradlab_core.specs import ModelSpec

from .parts import activations, weighted
from .programs import Rng, between, fitting, pick, widths

Made = tuple[ProgramSpec, tuple[str, ...]]
"""The faulty program, and the layers of which one has to be named; none where the fault is nowhere in particular."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault.

    Attributes:
        codes: of a finding that counts as the fault being found; the first is the exact one, the others its family.
        follows: codes of what such a fault brings about. To report them is no error, and does not count as found.
        families: of the healthy programs it is put into on its own turn.
        make: the faulty program.
        suits: whether the fault can do harm in that program; one that does not suit is drawn anew.
        structural: a part is cut off from learning by construction, whether or not the loss shows it.
    """

    codes: tuple[str, ...]
    families: tuple[str, ...]
    make: Callable[[Rng, ProgramSpec], Made]
    follows: tuple[str, ...] = ()
    structural: bool = False
    suits: Callable[[ProgramSpec], bool] = lambda spec: True


def _optimizer(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, optimizer=dataclasses.replace(spec.optimizer, **fields))


def _rate(spec: ProgramSpec, factor: float) -> ProgramSpec:
    return _optimizer(spec, learning_rate=float(f"{factor * spec.optimizer.learning_rate:.3g}"))


def _task(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, task=dataclasses.replace(spec.task, **fields))


def _model(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, model=dataclasses.replace(spec.model, **fields))


def _built_in(fault: str, spec: ProgramSpec, at: str, amount: float = 1.0) -> ProgramSpec:
    return dataclasses.replace(spec, fault=fault, at=at, amount=amount)


def _unscaled_input(rng: Rng, spec: ProgramSpec) -> Made:
    scale = between(rng, 20.0, 2000.0)
    return _task(spec, input_scale=scale, input_shift=pick(rng, (0.0, 2 * scale))), ()


def _unscaled_target(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(spec, target_scale=between(rng, 30.0, 10000.0)), ()


def _rate_too_high(rng: Rng, spec: ProgramSpec) -> Made:
    return _rate(spec, between(rng, 10.0, 1000.0)), ()


def _rate_too_low(rng: Rng, spec: ProgramSpec) -> Made:
    return _rate(spec, between(rng, 1e-5, 3e-3)), ()


def _exploding_rnn(rng: Rng, spec: ProgramSpec) -> Made:
    gain = between(rng, 2.0, 5.0)
    return _optimizer(_model(spec, init="orthogonal", init_number=gain), clip=None), ("rnn",)


def _large_start(rng: Rng, spec: ProgramSpec) -> Made:
    init, number = pick(rng, (("normal", between(rng, 0.5, 4.0)), ("kaiming_normal", between(rng, 4.0, 30.0))))
    return _model(spec, init=init, init_number=number), ()


def _deep_bounded(rng: Rng, spec: ProgramSpec) -> Made:
    sizes = widths(rng, (5, 9), (24, 64))  # as deep as ReLU nets may be, and sigmoid nets may not
    found = _model(spec, widths=sizes, activation="sigmoid", init="torch_default", init_number=None)
    return found, _early(found.model)


def _small_start(rng: Rng, spec: ProgramSpec) -> Made:
    return _model(spec, init="normal", init_number=between(rng, 1e-4, 3e-2)), _early(spec.model)


def _long_rnn(rng: Rng, spec: ProgramSpec) -> Made:
    task = TaskSpec(name="temporal_order", length=int(rng.integers(40, 121)))
    model = fitting(task, kind="recurrent", cell="rnn_tanh", hidden=spec.model.hidden)
    return dataclasses.replace(spec, task=task, model=model), ("rnn",)


def _cut(fault: str) -> Callable[[Rng, ProgramSpec], Made]:
    def make(rng: Rng, spec: ProgramSpec) -> Made:
        places = activations(spec.model)
        at = pick(rng, list(places))
        return _built_in(fault, spec, at), places[at]

    return make


def _unused(rng: Rng, spec: ProgramSpec) -> Made:
    return _built_in("unused_branch", spec, ""), ("extra",)


def _without_update(fault: str, first: int) -> Callable[[Rng, ProgramSpec], Made]:
    def make(rng: Rng, spec: ProgramSpec) -> Made:
        at = pick(rng, weighted(spec.model)[first:])
        return _built_in(fault, spec, at), (at,)

    return make


def _no_step(rng: Rng, spec: ProgramSpec) -> Made:
    return _built_in("no_step", spec, ""), ()


def _zero_rate(rng: Rng, spec: ProgramSpec) -> Made:
    return _optimizer(spec, learning_rate=0.0), ()


def _lost_updates(rng: Rng, spec: ProgramSpec) -> Made:
    moved = OptimizerSpec(name="sgd", learning_rate=between(rng, 1e-6, 1e-4))
    return dataclasses.replace(spec, dtype="bfloat16", optimizer=moved), ()


def _dead(rng: Rng, spec: ProgramSpec) -> Made:
    k = int(rng.integers(1, len(spec.model.widths) + 1))
    return _built_in("negative_bias", spec, f"fc{k}", between(rng, 4.0, 50.0)), (f"fc{k}", f"act{k}")


def _saturated(rng: Rng, spec: ProgramSpec) -> Made:
    hidden = range(1, len(spec.model.widths) + 1)
    chosen = list(hidden) if rng.random() < 0.7 else [pick(rng, hidden)]
    places = tuple(f"{part}{k}" for k in chosen for part in ("fc", "act"))
    return _built_in("saturated_start", spec, ", ".join(f"fc{k}" for k in chosen), between(rng, 30.0, 300.0)), places


def _constant(rng: Rng, spec: ProgramSpec) -> Made:
    value = pick(rng, (0.0, between(rng, 0.01, 0.1), between(rng, 0.01, 0.1)))
    return _model(spec, init="constant", init_number=value), ()


def _overflow(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(dataclasses.replace(spec, dtype="float16"), input_scale=between(rng, 2e4, 6e4)), ()


def _random_labels(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(spec, random_labels=True), ()


def _summed(rng: Rng, spec: ProgramSpec) -> Made:
    return dataclasses.replace(spec, loss="summed_cross_entropy"), ()


def _early(model: ModelSpec) -> tuple[str, ...]:
    """The first half of a deep net: where a gradient that shrinks from layer to layer starves all alike."""
    layers = weighted(model)
    return tuple(layers[: len(layers) // 2])


_DENSE = ("relu", "tanh", "gelu", "silu", "leaky relu", "elu")
_SEQUENCES = ("rnn", "lstm", "gru")
_HARD = ("transformer with warm-up", "tiny rate that works", "noisy sgd", "always clipped", "bfloat16 that works")
_ANY = (*_DENSE, "sigmoid", "waves", "resnet", *_SEQUENCES, "adding", *_HARD, "converged", "large first/last ratio")
_WHOLE = (*_ANY, "relu rnn", "sparse relu", "frozen trunk")  # those that have a `fault` already keep it
_CUTTABLE = (*_DENSE, "waves", "resnet", "transformer with warm-up", "always clipped", "tiny rate that works")

# A gradient that is too large is one thing to whoever reads of it, whatever made it so: scale of input or target, rate,
# start. The gallery of scenarios files all of these under "exploding", so that code counts for each of them.
_TOO_LARGE = "exploding-gradient"
_OVERSHOT = (
    *("learning-rate-too-high", "nonfinite-loss", "nonfinite-gradient", "dead-relu", "saturated-activation"),
    *("loss-plateau", "exploding-gradient"),
)

FAULTS = {
    "unscaled input": Fault(
        codes=("unnormalised-input", _TOO_LARGE), families=(*_DENSE, "waves", "rnn"), make=_unscaled_input,
        follows=_OVERSHOT, suits=lambda spec: spec.model.kind != "tinynet",  # which normalises
    ),
    "unscaled target": Fault(
        codes=("unscaled-target", _TOO_LARGE), families=("waves", "waves", "adding"), make=_unscaled_target,
        follows=_OVERSHOT,
    ),
    "rate too high": Fault(
        codes=("learning-rate-too-high", _TOO_LARGE), families=_WHOLE, make=_rate_too_high, follows=_OVERSHOT
    ),
    "rate too low": Fault(
        codes=("learning-rate-too-low",), families=(*_WHOLE, "waves"), make=_rate_too_low, follows=("loss-plateau",)
    ),
    "exploding rnn": Fault(
        codes=(_TOO_LARGE, "poor-initialisation"), families=("relu rnn",), make=_exploding_rnn, follows=_OVERSHOT
    ),
    "large start": Fault(
        codes=("poor-initialisation", _TOO_LARGE), families=_DENSE, make=_large_start, follows=_OVERSHOT,
        suits=lambda spec: spec.model.kind == "mlp",
    ),
    "deep sigmoid": Fault(
        codes=("vanishing-gradient",), families=("relu", "leaky relu"), make=_deep_bounded,
        follows=("loss-plateau", "poor-initialisation"),
    ),
    # The start is the cause and the vanishing gradient what the gallery files it under: either leads to the remedy.
    "small start": Fault(
        codes=("poor-initialisation", "vanishing-gradient"), families=("relu", "tanh", "gelu", "elu"),
        make=_small_start, follows=("loss-plateau",), suits=lambda spec: len(spec.model.widths) >= 3,
    ),
    "long rnn": Fault(codes=("vanishing-gradient",), families=_SEQUENCES, make=_long_rnn, follows=("loss-plateau",)),
    "stop gradient": Fault(
        codes=("disconnected-parameter",), families=_CUTTABLE, make=_cut("stop_gradient"), structural=True
    ),
    "integer cast": Fault(
        codes=("disconnected-parameter",), families=_CUTTABLE, make=_cut("integer_cast"), structural=True,
        follows=("loss-plateau",),
    ),
    "argmax": Fault(
        codes=("disconnected-parameter",), families=_DENSE, make=_cut("argmax"), structural=True,
        follows=("loss-plateau",),
    ),
    "unused branch": Fault(
        codes=("disconnected-parameter",), families=(*_CUTTABLE, *_SEQUENCES), make=_unused, structural=True
    ),
    "left out": Fault(
        codes=("not-updating",), families=(*_CUTTABLE, *_SEQUENCES), make=_without_update("left_out", 0),
        structural=True,
    ),
    # The first layers are left alone here: frozen, they are what fine-tuning means to do.
    "frozen by mistake": Fault(
        codes=("not-updating",), families=_CUTTABLE, make=_without_update("frozen", 1), structural=True
    ),
    "no step": Fault(codes=("not-updating",), families=_ANY, make=_no_step, follows=("loss-plateau",)),
    "zero rate": Fault(codes=("not-updating",), families=_WHOLE, make=_zero_rate, follows=("loss-plateau",)),
    "lost in bfloat16": Fault(
        codes=("not-updating",), families=(*_DENSE, "bfloat16 that works"), make=_lost_updates,
        follows=("learning-rate-too-low", "loss-plateau"),
    ),
    "dead relu": Fault(
        codes=("dead-relu",), families=("relu", "relu", "always clipped", "noisy sgd"), make=_dead,
        follows=("loss-plateau",),
    ),
    "saturated tanh": Fault(
        codes=("saturated-activation",), families=("tanh",), make=_saturated,
        suits=lambda spec: len(spec.model.widths) >= 2,
    ),
    "constant start": Fault(
        codes=("symmetric-units",), families=_DENSE, make=_constant,
        follows=("loss-plateau", "poor-initialisation", "vanishing-gradient"),
        suits=lambda spec: spec.model.kind == "mlp",
    ),
    "log of zero": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=_DENSE, make=_cut("log_zero"),
    ),
    "division by zero": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=_DENSE, make=_cut("divide_by_zero")
    ),
    # Where the overflow is in the backward pass, the gradient is what is not finite.
    "overflow in float16": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=("relu", "leaky relu", "elu"), make=_overflow,
        follows=("unnormalised-input", "exploding-gradient"),
    ),
    "random labels": Fault(
        codes=("loss-plateau",),
        families=(*_DENSE, "sigmoid", "resnet", *_SEQUENCES, "transformer with warm-up", "frozen trunk"),
        make=_random_labels,
    ),
    # What hinders is the rate, too high by the factor of the batch size.
    "summed loss": Fault(
        codes=("loss-reduction", "learning-rate-too-high"), families=(*_DENSE, "noisy sgd"), make=_summed,
        follows=_OVERSHOT,
        suits=lambda spec: spec.optimizer.name == "sgd",  # the step of Adam does not grow with the gradient
    ),
}  # fmt: skip

_RATES = ("rate too high", "rate too low")
HARD_FAULTS = {
    "transformer with warm-up": (
        *_RATES,
        "stop gradient",
        "integer cast",
        "left out",
        "unused branch",
        "random labels",
    ),
    "tiny rate that works": (*_RATES, "unscaled input", "dead relu", "constant start", "left out", "stop gradient"),
    "converged": (*_RATES, "left out", "unused branch", "frozen by mistake", "random labels"),
    "sparse relu": (*_RATES, "unscaled input", "large start", "constant start", "random labels"),
    "frozen trunk": (*_RATES, "unscaled input", "large start", "constant start", "random labels"),
    "noisy sgd": (*_RATES, "summed loss", "dead relu", "unscaled input", "argmax", "log of zero", "division by zero"),
    "bfloat16 that works": (
        *_RATES,
        "lost in bfloat16",
        "unscaled input",
        "constant start",
        "stop gradient",
        "left out",
    ),
    "always clipped": (*_RATES, "dead relu", "large start", "argmax", "integer cast", "frozen by mistake"),
    "large first/last ratio": (*_RATES, "stop gradient", "left out", "frozen by mistake", "unused branch"),
}
"""What is put into a hard program on its own turn. Those that have a fault on purpose (a frozen trunk, biases below 0)
keep it, so only what is no `fault` of the spec comes to them."""
