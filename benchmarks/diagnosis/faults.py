"""What can be wrong with a program: each fault turns a healthy one into one that is not, and says what the truth is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gradlab_core.programs.program import ProgramSpec

from . import changes
from .changes import Made
from .programs import Rng


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
        codes=("unnormalised-input", _TOO_LARGE), families=(*_DENSE, "waves", "rnn"), make=changes.unscaled_input,
        follows=_OVERSHOT, suits=lambda spec: spec.model.kind != "tinynet",  # which normalises
    ),
    "unscaled target": Fault(
        codes=("unscaled-target", _TOO_LARGE), families=("waves", "waves", "adding"), make=changes.unscaled_target,
        follows=_OVERSHOT,
    ),
    "rate too high": Fault(
        codes=("learning-rate-too-high", _TOO_LARGE), families=_WHOLE, make=changes.rate_too_high, follows=_OVERSHOT
    ),
    "rate too low": Fault(
        codes=("learning-rate-too-low",), families=(*_WHOLE, "waves"), make=changes.rate_too_low,
        follows=("loss-plateau",),
    ),
    "exploding rnn": Fault(
        codes=(_TOO_LARGE, "poor-initialisation"), families=("relu rnn",), make=changes.exploding_rnn, follows=_OVERSHOT
    ),
    "large start": Fault(
        codes=("poor-initialisation", _TOO_LARGE), families=_DENSE, make=changes.large_start, follows=_OVERSHOT,
        suits=lambda spec: spec.model.kind == "mlp",
    ),
    "deep sigmoid": Fault(
        codes=("vanishing-gradient",), families=("relu", "leaky relu"), make=changes.deep_bounded,
        follows=("loss-plateau", "poor-initialisation"),
    ),
    # The start is the cause and the vanishing gradient what the gallery files it under: either leads to the remedy.
    "small start": Fault(
        codes=("poor-initialisation", "vanishing-gradient"), families=("relu", "tanh", "gelu", "elu"),
        make=changes.small_start, follows=("loss-plateau",), suits=lambda spec: len(spec.model.widths) >= 3,
    ),
    "long rnn": Fault(
        codes=("vanishing-gradient",), families=_SEQUENCES, make=changes.long_rnn, follows=("loss-plateau",)
    ),
    "stop gradient": Fault(
        codes=("disconnected-parameter",), families=_CUTTABLE, make=changes.cut("stop_gradient"), structural=True
    ),
    "integer cast": Fault(
        codes=("disconnected-parameter",), families=_CUTTABLE, make=changes.cut("integer_cast"), structural=True,
        follows=("loss-plateau",),
    ),
    "argmax": Fault(
        codes=("disconnected-parameter",), families=_DENSE, make=changes.cut("argmax"), structural=True,
        follows=("loss-plateau",),
    ),
    "unused branch": Fault(
        codes=("disconnected-parameter",), families=(*_CUTTABLE, *_SEQUENCES), make=changes.unused, structural=True
    ),
    "left out": Fault(
        codes=("not-updating",), families=(*_CUTTABLE, *_SEQUENCES), make=changes.without_update("left_out", 0),
        structural=True,
    ),
    # The first layers are left alone here: frozen, they are what fine-tuning means to do.
    "frozen by mistake": Fault(
        codes=("not-updating",), families=_CUTTABLE, make=changes.without_update("frozen", 1), structural=True
    ),
    "no step": Fault(codes=("not-updating",), families=_ANY, make=changes.no_step, follows=("loss-plateau",)),
    "zero rate": Fault(codes=("not-updating",), families=_WHOLE, make=changes.zero_rate, follows=("loss-plateau",)),
    "lost in bfloat16": Fault(
        codes=("not-updating",), families=(*_DENSE, "bfloat16 that works"), make=changes.lost_updates,
        follows=("learning-rate-too-low", "loss-plateau"),
    ),
    "dead relu": Fault(
        codes=("dead-relu",), families=("relu", "relu", "always clipped", "noisy sgd"), make=changes.dead,
        follows=("loss-plateau",),
    ),
    "saturated tanh": Fault(
        codes=("saturated-activation",), families=("tanh",), make=changes.saturated,
        suits=lambda spec: len(spec.model.widths) >= 2,
    ),
    "constant start": Fault(
        codes=("symmetric-units",), families=_DENSE, make=changes.constant,
        follows=("loss-plateau", "poor-initialisation", "vanishing-gradient"),
        suits=lambda spec: spec.model.kind == "mlp",
    ),
    "log of zero": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=_DENSE, make=changes.cut("log_zero"),
    ),
    "division by zero": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=_DENSE, make=changes.cut("divide_by_zero")
    ),
    # Where the overflow is in the backward pass, the gradient is what is not finite.
    "overflow in float16": Fault(
        codes=("nonfinite-loss", "nonfinite-gradient"), families=("relu", "leaky relu", "elu"), make=changes.overflow,
        follows=("unnormalised-input", "exploding-gradient"),
    ),
    "random labels": Fault(
        codes=("loss-plateau",),
        families=(*_DENSE, "sigmoid", "resnet", *_SEQUENCES, "transformer with warm-up", "frozen trunk"),
        make=changes.random_labels,
    ),
    # What hinders is the rate, too high by the factor of the batch size.
    "summed loss": Fault(
        codes=("loss-reduction", "learning-rate-too-high"), families=(*_DENSE, "noisy sgd"), make=changes.summed,
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
