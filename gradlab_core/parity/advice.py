"""Where to look first, from the first tensor that differs: everything before it agrees, so little is left."""

from __future__ import annotations

from gradlab_core.parity.report import ParityReport, ParityRow

ROUNDING = (
    "in float64 both sides agree: look at what the products are made in (precision='as-is' measures it), at casts, and "
    "at sums in another order"
)
MISSING = (
    "look for a layer that one side does not call or calls by another name, a parameter that is frozen, and what cuts "
    "a gradient off (detach, stop_gradient)"
)
_DEFINITION = {
    "activation": "what goes into this layer agrees: compare its code and settings (weights' layout, padding, ε, axes)",
    "logits": "all layers agree: compare what is done with the last one's output",
    "loss": "the logits agree: compare the losses (mean or sum, weights of examples, padding, smoothing)",
    "activation_gradient": "the forward pass agrees: compare what is differentiated (detach, stop_gradient, functions "
    "with a gradient of their own)",
    "gradient": "the gradients of the activations agree: compare how this parameter is used, and how often",
    "learning_rate": "compare the schedules: where they begin to count, and whether they count steps or epochs",
    "optimizer": "the gradients agree: compare the optimizer's state (momentum, dampening, where weight decay goes in)",
    "parameter": "the gradients agree: compare the optimizers (learning rate, ε, weight decay, bias correction)",
    "statistic": "compare the momentum of the running statistics (Flax's weighs the old ones, PyTorch's the new ones), "
    "and whether the variance is that of the batch or of a sample",
}


def next_move(report: ParityReport) -> str:
    """What to do first about a report that parity is broken, in a sentence: what mends the first fault, if its cause is
    known, else where to look. "" where parity holds."""
    if report.first_divergence is None:
        return ""
    known = next((fault.fix for fault in report.faults if fault.explanations), None)
    return known or _where_to_look(report.first_divergence)


def _where_to_look(row: ParityRow) -> str:
    if row.missing is not None:
        return MISSING
    return ROUNDING if row.is_rounding else _DEFINITION.get(row.quantity, "compare how it is computed on both sides")
