"""From a history to findings: all rules are applied, then findings that only follow from others are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.rules import (
    activations,
    answers,
    clipping,
    constant,
    direction,
    gradients,
    missing,
    nonfinite,
    plateau,
    rates,
    schedule,
    spikes,
    start,
    updating,
)
from gradlab_core.records import Finding, RecordedRun, Rows, Severity, StepRecord

Rule = Callable[[History], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    start.unnormalised_input,
    start.unscaled_target,
    start.summed_loss,
    answers.softmax_twice,
    missing.nowhere,
    missing.disconnected,
    constant.constant,
    updating.not_updating,
    missing.zero,
    direction.decaying,
    direction.uphill,
    activations.symmetric,
    activations.saturated,
    start.poor_initialisation,
    activations.dead,
    gradients.exploding,
    gradients.vanishing,
    clipping.clipped_away,
    updating.lost,
    rates.too_high,
    nonfinite.nonfinite,
    spikes.spiked,
    schedule.over,
    rates.too_low,
    plateau.plateau,
)
"""The rules, causes before their consequences: the order of the findings within a severity."""

_LOUD = "exploding-gradient learning-rate-too-high dead-relu saturated-activation zero-gradient"
CONSEQUENCES: dict[str, frozenset[str]] = {
    cause: frozenset(effects.split())
    for cause, effects in {
        "unnormalised-input": f"poor-initialisation {_LOUD}",
        "unscaled-target": f"poor-initialisation {_LOUD}",
        "loss-reduction": _LOUD,
        "poor-initialisation": "exploding-gradient learning-rate-too-high vanishing-gradient dead-relu zero-gradient",
        "symmetric-units": "poor-initialisation vanishing-gradient dead-relu zero-gradient",
        "no-gradient": "disconnected-parameter",
        "zero-gradient": "vanishing-gradient dead-relu",
        "constant-loss": "vanishing-gradient learning-rate-too-high",
        "disconnected-parameter": "vanishing-gradient",
        "not-updating": "vanishing-gradient",
        "dead-relu": "vanishing-gradient",
        "saturated-activation": "vanishing-gradient zero-gradient",
        "uphill-step": f"{_LOUD} vanishing-gradient",
        "weight-decay-too-strong": f"uphill-step {_LOUD} vanishing-gradient",
        "exploding-gradient": "learning-rate-too-high zero-gradient loss-spike",
        "learning-rate-too-high": "dead-relu saturated-activation vanishing-gradient zero-gradient loss-spike",
        "loss-spike": "dead-relu saturated-activation vanishing-gradient zero-gradient",
    }.items()
}
"""The consequences of each finding, which are then not reported by themselves."""

SYMPTOMS = ("learning-rate-too-low", "loss-plateau")
"""Findings that are reported only if no cause stands before them in this order."""


def diagnose(records: Iterable[StepRecord]) -> list[Finding]:
    """What is wrong with a run, the most severe first and causes before consequences; empty for a healthy run.

    Args:
        records: those of one run, from a monitor, `train` or `load_records`. If a step was recorded twice, because
            a run went on from a checkpoint, the later record counts. With a `Probe` in some records the rules also see
            inputs, activations and units; without one they judge only norms and states.

    >>> from gradlab_core.records import GradientState, TensorNorms
    >>> cut = TensorNorms(param=1.0, grad=None, update=0.0, ratio=0.0)
    >>> sound = TensorNorms(param=1.0, grad=0.1, update=0.01, ratio=0.01)
    >>> record = StepRecord(step=0, loss=0.7, learning_rate=0.1, grad_norm=0.1, param_norm=1.4, update_norm=0.01,
    ...     update_ratio=0.007, tensors={"fc1.weight": cut, "fc2.weight": sound},
    ...     states={"fc1.weight": GradientState.DISCONNECTED, "fc2.weight": GradientState.OK})
    >>> [(found.code, found.paths) for found in diagnose([record])]
    [('disconnected-parameter', ('fc1.weight',))]
    """
    history = History()
    for record in RecordedRun(records):
        history.add(record)
    return judge(history)


def judge(history: History) -> list[Finding]:
    """The findings of a run so far."""
    if not history.count:
        return Rows()
    by_rule = {rule: list(rule(history)) for rule in RULES}
    # If the gradient of the same layers has vanished, or is clipped away, or the schedule is over, that explains why
    # rounding swallows their updates.
    if by_rule[clipping.clipped_away] or by_rule[schedule.over]:
        by_rule[updating.lost] = []
    by_rule[updating.lost] = [f for f in by_rule[updating.lost] if not _covers(by_rule[gradients.vanishing], f.paths)]
    # A calm net that loses from one step to the next what it had learned was not thrown by its rate: the gradient and
    # the steps grew after the loss.
    since = spikes.sudden(by_rule[spikes.spiked])
    for rule in (gradients.exploding, rates.too_high):
        by_rule[rule] = [f for f in by_rule[rule] if f.first_step < since]
    # A note reports something harmless, so it is not the cause of another finding.
    alarms = [(rule, f) for rule, findings in by_rule.items() for f in findings if f.severity is not Severity.NOTE]
    # Lost updates are no cause either, unless all updates are lost: then nothing moves, which explains a plateau.
    causes = {f.code for rule, f in alarms if rule is not updating.lost}
    reasons = causes | {f.code for _, f in alarms if f.severity is Severity.CRITICAL}
    explained = {effect for code in causes for effect in CONSEQUENCES.get(code, ())}
    for place, symptom in enumerate(SYMPTOMS):
        if reasons - set(SYMPTOMS[place:]):
            explained.add(symptom)
    kept = [f for findings in by_rule.values() for f in findings if f.code not in explained]
    return Rows(sorted(kept, key=lambda finding: list(Severity).index(finding.severity)))


def _covers(findings: Sequence[Finding], paths: Sequence[str]) -> bool:
    """Whether every path is a path of the findings, or lies inside a module that is one."""
    known = {path for finding in findings for path in finding.paths}
    return bool(known) and all(path in known or any(path.startswith(f"{k}.") for k in known) for path in paths)
