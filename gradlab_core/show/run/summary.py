"""One recorded run in words: what was recorded, what stands out, and in which states its parameters were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from gradlab_core.definitions.thresholds import ANOMALY_SCORE, ANOMALY_WARM_UP
from gradlab_core.judge.sweep import flat
from gradlab_core.records import GradientState, StepRecord
from gradlab_core.show.run.lines import score
from gradlab_core.show.run.steps import DrawnRun, is_anomaly, nonfinite
from gradlab_core.text import listed, number, setting

STATES = {
    GradientState.NONFINITE: ("bad", "its gradient held a NaN or an Inf"),
    GradientState.DISCONNECTED: ("bad", "no gradient path from the loss: it never learns"),
    GradientState.UNREGISTERED: ("bad", "trainable, but the optimizer does not know it"),
    GradientState.LOST: ("bad", "the update was below the rounding step of the parameter, so nothing moved"),
    GradientState.ZERO: ("watch", "a gradient path, but every element was exactly 0"),
    GradientState.TINY: ("watch", "a gradient so small that it hardly moves anything"),
    GradientState.FROZEN: ("unknown", "not trainable"),
}
_MOST = 4


@dataclasses.dataclass(frozen=True)
class Summary:
    """`facts` are said of every run; `found` holds what stands out, as pairs of a level and a sentence."""

    facts: list[str]
    found: list[tuple[str, str]]

    @property
    def level(self) -> str:
        levels = [level for level, _ in self.found]
        return next((level for level in ("bad", "watch") if level in levels), "good")


@dataclasses.dataclass(frozen=True)
class StateRow:
    """How often one parameter was in one state other than ok."""

    path: str
    state: str
    level: str
    meaning: str
    steps: str
    count: str


def summary(run: DrawnRun) -> Summary:
    """The first paragraph of the run."""
    return Summary(_facts(run), [*_first_nonfinite(run), *_states(run), *_anomalies(run), *_skipped(run)])


def state_rows(run: DrawnRun) -> tuple[list[StateRow], list[str]]:
    """A row for each state other than ok that a parameter was in, and the paths that were ok at every step."""
    at = _where(run)
    rows = [
        StateRow(path, state.value, *STATES[state], _spans(run, at[path, state]), f"{len(at[path, state])}")
        for state in STATES
        for path in dict.fromkeys(p for p, s in at if s == state)
    ]
    odd = {row.path for row in rows}
    known = {id(record.states): record.states for record in run.records}  # many records share it
    every = dict.fromkeys(path for states in known.values() for path in states)
    return rows, [path for path in every if path not in odd]


def _facts(run: DrawnRun) -> list[str]:
    records = run.records
    steps = "1 step" if len(records) == 1 else f"{len(records):,} steps"
    facts = [f"{steps} recorded, from step {records[0].step:,} to step {records[-1].step:,}."]
    if records.repeated:
        facts.append(
            f"{records.repeated:,} steps were recorded more than once, as when a run goes on from a checkpoint; the "
            "later record is shown."
        )
    if records.cut_off:
        facts.append("The last record was being written when its process was killed, and is left out.")
    if records.config:
        facts.append(f"Hyperparameters: {', '.join(f'{n} {setting(v)}' for n, v in flat(records.config).items())}.")
    if len(run.drawn) < len(records):
        facts.append(
            f"The charts show {len(run.drawn):,} of them; every anomaly, and each step at which a NaN, an Inf or a row "
            "of skipped steps begins, changes or ends, is among these."
        )
    clipped = [r.clipped for r in records if r.clipped is not None]
    facts.append(
        f"Clipping made the gradient smaller at {sum(clipped):,} of {len(clipped):,} steps."
        if clipped
        else "Whether gradients were clipped was not measured."
    )
    names: dict[str, Callable[[StepRecord], float | None]] = {
        "the loss": lambda r: r.loss,
        "the learning rate": lambda r: r.learning_rate,
        "cosines between steps": lambda r: r.update_cosine,
        "the distance from the start": lambda r: r.distance,
    }
    missing = [name for name, value in names.items() if all(value(r) is None for r in records)]
    return [*facts, *([f"Not measured: {listed(missing)}."] if missing else [])]


def _first_nonfinite(run: DrawnRun) -> list[tuple[str, str]]:
    first = next((r for r in run.records if nonfinite(r)), None)
    if first is None:
        return []
    names = {"loss": "the loss", "grad_norm": "the gradient norm", "param_norm": "the parameter norm"}
    places = [names.get(p, "the update norm" if p == "update_norm" else p) for p in nonfinite(first)]
    count = sum(bool(nonfinite(r)) for r in run.records)
    return [("bad", f"The first NaN or Inf came at step {first.step:,}, in {_some(places)}; {_count(count)} in all.")]


def _states(run: DrawnRun) -> list[tuple[str, str]]:
    at, sentences = _where(run), []
    for state, (level, meaning) in STATES.items():
        paths = list(dict.fromkeys(path for path, s in at if s == state))
        if paths:
            seen = sorted({i for path in paths for i in at[path, state]})
            who = f"{len(paths)} parameter{'s' if len(paths) > 1 else ''}"
            sentences.append((level, f"{state.value}: {who} ({meaning}), {_spans(run, seen)}: {_some(paths)}."))
    return sentences


def _anomalies(run: DrawnRun) -> list[tuple[str, str]]:
    if all(r.anomaly is None for r in run.records):
        why = f" (it needs more than {ANOMALY_WARM_UP} steps)" if len(run.records) <= ANOMALY_WARM_UP else ""
        return [("unknown", f"Whether gradient norms were out of the ordinary was not measured{why}.")]
    anomalies = [r for r in run.records if is_anomaly(r)]
    if not anomalies:
        return []
    steps = [f"step {r.step:,} ({score(r)})" for r in anomalies]
    return [
        (
            "watch",
            f"The gradient norm was {number(ANOMALY_SCORE)} σ or more off its moving mean at {_count(len(anomalies))}: "
            f"{_some(steps)}.",
        )
    ]


def _skipped(run: DrawnRun) -> list[tuple[str, str]]:
    skipped = [i for i, r in enumerate(run.records) if r.skipped]
    if not skipped:
        return []
    return [("watch", f"The optimizer moved nothing though there were gradients, {_spans(run, skipped)}.")]


def _where(run: DrawnRun) -> dict[tuple[str, GradientState], list[int]]:
    """The places of the records at which each parameter was in each state other than ok."""
    at: dict[tuple[str, GradientState], list[int]] = {}
    states: Mapping[str, GradientState] = {}
    odd: list[tuple[str, GradientState]] = []
    for i, record in enumerate(run.records):
        if record.states is not states:  # records that are read from a file share it where it is the same
            states = record.states
            odd = [(path, state) for path, state in states.items() if state != GradientState.OK]
        for pair in odd:
            at.setdefault(pair, []).append(i)
    return at


def _spans(run: DrawnRun, places: Sequence[int]) -> str:
    """Say at which steps the records at these places were, in stretches."""
    if len(places) == len(run.records):
        return "at every step"
    stretches: list[list[int]] = []
    for i in places:
        if stretches and i == stretches[-1][1] + 1:
            stretches[-1][1] = i
        else:
            stretches.append([i, i])
    steps = [(run.records[a].step, run.records[b].step) for a, b in stretches]
    single = len(places) == 1
    return f"at step{'' if single else 's'} {_some([f'{a:,}' if a == b else f'{a:,}–{b:,}' for a, b in steps])}"


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps:,} steps"


def _some(items: list[str]) -> str:
    """The first few, and how many more there are."""
    return listed(items) if len(items) <= _MOST else f"{', '.join(items[:_MOST])} and {len(items) - _MOST:,} more"
