"""The traps: in which net each is planted, at which tensor it shows, and by which cause it should be named."""

from __future__ import annotations

import dataclasses

NETS = ("convolutional", "decoder", "plain")


@dataclasses.dataclass(frozen=True)
class Trap:
    """A fault of a port.

    Attributes:
        name: as in `ports` and `recipes`.
        net: `convolutional`, `decoder` or `plain`.
        where: quantity and path of the first tensor that differs; of the path the beginning.
        cause: code of the cause that is to be named.
    """

    name: str
    net: str
    where: tuple[str, str]
    cause: str

    @property
    def place(self) -> str:
        """Where no second fault can be beside it: one loss, one rule of updates, one function, one rotation."""
        if self.where[0] in ("optimizer", "parameter", "learning_rate"):
            return "update"
        words = {"gelu": "gelu", "rotated": "rotation", "base": "rotation"}
        named = next((place for word, place in words.items() if word in self.name), self.name)
        return "loss" if self.where[0] == "loss" else named


def _of(net: str, *traps: tuple[str, str, str, str]) -> tuple[Trap, ...]:
    return tuple(Trap(name, net, (quantity, path), cause) for name, quantity, path, cause in traps)


TRAPS = (
    *_of(
        "convolutional",
        ("conv1 flipped", "activation", "conv1", "flipped-kernel"),
        ("conv2 transposed", "activation", "conv2", "square-kernel"),
        ("conv2 flipped", "activation", "conv2", "flipped-kernel"),
        ("conv2 without bias", "activation", "conv2", "bias"),
        ("conv3 flipped", "activation", "conv3", "flipped-kernel"),
        ("SAME", "activation", "conv2", "same-vs-explicit"),
        ("zero padded pool", "activation", "conv2", "pooling"),
        ("pool padded at the end", "activation", "conv2", "pooling"),
        ("batch norm's ε", "activation", "bn1", "norm-eps"),
        ("batch norm without bias", "activation", "bn1", "bias"),
        ("kept 0.99", "statistic", "bn1", "bn-momentum"),
        ("biased running variance", "statistic", "bn1.running_var", "bn-running-var"),
        ("leaky", "activation", "", "activation"),
        ("tanh gelu", "activation", "", "gelu"),
        ("quick gelu", "activation", "", "quick-gelu"),
        ("sigmoid for silu", "activation", "", "activation"),
        ("flattened channels last", "activation", "fc1", "flatten-order"),
        ("fc1 without bias", "activation", "fc1", "bias"),
        ("fc2 transposed", "activation", "fc2", "square-kernel"),
        ("fc2 bias twice", "activation", "fc2", "bias"),
        ("skipped activation", "activation", "fc2", "activation"),
    ),
    *_of(
        "decoder",
        ("embeddings scaled", "activation", "norm1", "embed-scale"),
        ("positions from 2", "activation", "norm1", "position-offset"),
        ("one plus weight", "activation", "norm1", "rmsnorm-plus-one"),
        ("layer norm's ε", "activation", "norm2", "norm-eps"),
        ("sample variance", "activation", "norm2", "var-std"),
        ("rotated in pairs", "activation", "out", "rope-layout"),
        ("not rotated", "activation", "out", "rope-layout"),
        ("rotated from 1", "", "", ""),  # only differences of positions count: no fault
        ("another base", "activation", "out", "rope-base"),
        ("tiled heads", "activation", "out", "gqa-repeat"),
        ("scaled by the model", "activation", "out", "attn-scale"),
        ("capped", "activation", "out", "logit-softcap"),
        ("not causal", "activation", "out", "causal-mask"),
        ("no residual", "activation", "norm2", "another-input"),
        ("logits divided", "logits", "", "factor"),
        ("label smoothing", "loss", "", "label-smoothing"),
        ("summed loss", "loss", "", "ce-reduction"),
        ("a label left out", "loss", "", "ignored-label"),
        ("softmax twice", "loss", "", "double-softmax"),
    ),
    *_of(
        "plain",
        ("sgd: momentum 0.8", "optimizer", "", "momentum"),
        ("sgd: nesterov", "parameter", "", "nesterov"),
        ("sgd: weight decay", "optimizer", "", "weight-decay"),
        ("sgd: decay after the rate", "parameter", "", "sgd-weight-decay-order"),
        ("sgd: rate", "learning_rate", "", "learning-rate"),
        ("sgd: rate of the step before", "learning_rate", "", "schedule-step"),
        ("sgd: uphill", "parameter", "", "sign"),
        ("sgd: clipped", "parameter", "", "gradient-factor"),
        ("adamw: decay 1e-4", "parameter", "", "adamw-decay"),
        ("adamw: decay in the gradient", "parameter", "", "adam-l2"),
        ("adamw: ε", "parameter", "", "adam-eps"),
        ("adamw: β₂", "parameter", "", "adam-betas"),
        ("rmsprop: ε inside", "parameter", "", "rmsprop"),
        ("adagrad: begins at 0.1", "parameter", "", "adagrad"),
        ("mse: half", "loss", "", "mse-half"),
        ("mse: absolute", "loss", "", "loss"),
    ),
)
"""All of them. A trap without a cause is none: the port computes the same."""
