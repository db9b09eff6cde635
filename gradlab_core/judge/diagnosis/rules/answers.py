"""What goes into the loss: probabilities where it expects logits."""

from __future__ import annotations

from collections.abc import Iterator

from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number


def softmax_twice(history: History) -> Iterator[Finding]:
    """`softmax-before-loss`: at every look the gradient is that of a cross-entropy of logits, and the answers that it
    gets are probabilities."""
    told = [(step, probe.answers) for step, probe in history.probes if probe.answers is not None]
    if not told or not all(answers.are_probabilities for _, answers in told):
        return
    step, first = told[0]
    _, last = told[-1]
    kind = "sigmoid" if first.loss == "binary-cross-entropy" else "softmax"
    yield finding(
        "softmax-before-loss",
        Severity.WARNING,
        step=step,
        evidence={"loss of one row": last.mean_loss, "classes": float(first.classes or 0), "looks": float(len(told))},
        seen=f"The answers are probabilities, and the loss, a {first.loss} of {number(last.mean_loss)}, takes a {kind} "
        "of them.",
    )
