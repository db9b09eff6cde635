"""The first paragraph of the page: what was compared, what stands out, and whether the frameworks agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.compare.comparison import INITIAL, TRAINED, Run, findings, summarize
from gradlab_core.compare.pages import agreement
from gradlab_core.compare.pages.nets import main_runs, published_runs
from gradlab_core.judge.bands import BandSet
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, with_std


@dataclasses.dataclass(frozen=True)
class Opening:
    """What the first section says. `published_findings` are those of runs that repeat the published errors, if there
    are others beside them: in those runs a finding is expected."""

    compared: str
    findings: list[str]
    published_findings: list[str]
    notes: list[str]
    agreement_level: str
    agreement: str


def verdict(runs: Sequence[Run], asked: BandSet | None = None) -> Opening:
    """The verdict on all given runs in plain words; `asked` are bands that were asked for by name."""
    main = main_runs(runs)
    level, sentence = agreement.statement(runs)
    apart = findings(published_runs(runs)) if len(main) < len(runs) else []
    return Opening(_compared(main), findings(main), apart, _notes(runs, main, asked), level, sentence)


def _each(runs: Sequence[Run], field: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(run, field)) for run in runs))


def _compared(runs: Sequence[Run]) -> str:
    seeds, epochs = len({run.seed for run in runs}), sorted({len(run.learning_rates) for run in runs})
    depth = listed(list(dict.fromkeys("-".join(map(str, run.depth)) for run in runs)))
    rates = listed(list(dict.fromkeys(number(rate) for run in runs for rate in run.learning_rates)))
    word = "epoch" if epochs == [1] else "epochs"
    trained = f"trained for {listed([str(e) for e in epochs])} {word} at learning rate {rates}"
    return (
        f"{listed(_each(runs, 'block'))}, as TinyNet of base {listed(_each(runs, 'base'))} and depth {depth}, in "
        f"{listed([framework_name(f) for f in _each(runs, 'framework')])}, from {seeds} random "
        f"{'seed' if seeds == 1 else 'seeds'}, on the data set {listed(_each(runs, 'data'))}, "
        f"{trained if epochs[-1] else 'without training'} (batch size {listed(_each(runs, 'batch_size'))})."
    )


def _notes(runs: Sequence[Run], main: Sequence[Run], bands: BandSet | None) -> list[str]:
    notes = []
    if any(published_runs(runs)) and len(main) < len(runs):
        notes.append(
            f"{len(runs) - len(main)} further runs repeat a published experiment with its errors; they have their own "
            "section below and are not in the table or the charts before it."
        )
    notes += [note for note in (_accuracy(main), _outside(main, bands)) if note]
    if len({run.seed for run in main}) == 1:
        notes.append("There is one seed only, so no difference between the blocks can be told from chance.")
    return notes


def _accuracy(runs: Sequence[Run]) -> str:
    """Which net has the highest accuracy, and whether there are enough seeds to say so."""
    figures = [f for f in summarize(runs) if f.figure == "test_accuracy" and f.value is not None]
    best = max(figures, key=lambda f: f.value or 0.0, default=None)
    others = [f for f in figures if best is not None and f.block != best.block]
    if best is None or not others:
        return ""
    rival = max(others, key=lambda f: f.value or 0.0)
    words = [f"{with_std(f.figure, f.value, f.std)} ({f.block}, {framework_name(f.framework)})" for f in (best, rival)]
    lead = f"The highest mean test accuracy is {words[0]}; the best of another block is {words[1]}."
    if best.std is None or rival.std is None:
        return lead
    apart = (best.value or 0.0) - (rival.value or 0.0) > best.std + rival.std
    return f"{lead} {'That is more than' if apart else 'They differ by less than'} their standard deviations together."


def _outside(runs: Sequence[Run], bands: BandSet | None) -> str:
    judged = [
        f
        for f in summarize(runs, judged_by=bands)
        if f.band and f.moment in (INITIAL, TRAINED) and f.level != "unknown"
    ]
    outside = sum(f.level in ("watch", "bad") for f in judged)
    if not judged:
        return ""
    return (
        f"{outside} of {len(judged)} figures lie outside their band. "
        + ("The bands come from another set-up" if bands else "The bands come from one seed")
        + ", so each is a lead to follow, not a fault."
    )
