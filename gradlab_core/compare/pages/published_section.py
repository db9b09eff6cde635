"""The section on the published experiment: each of its errors, with the evidence from these runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.compare import published
from gradlab_core.compare.comparison import AS_PUBLISHED, CORRECT, TRAINED, Figure, Run, summarize
from gradlab_core.compare.pages.evidence import EVIDENCE, Evidence
from gradlab_core.compare.pages.nets import published_runs
from gradlab_core.show.words import LABELS, framework_name
from gradlab_core.text import number, percent, with_std

RIGHT_BLOCK = {"plain_unpadded": "plain", "postact": "postact", "preact_noskip": "preact"}
_ROWS = ("global_norm", "ratio", "mean_std", "sensitivity", "test_accuracy", "grad_norm_mean")
NOT_RUN = "not run"
Row = tuple[str, str, list[str]]


@dataclasses.dataclass(frozen=True)
class Shown:
    """One published error, and what these runs say about it."""

    number: int
    title: str
    what_happened: str
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class PublishedSection:
    """`columns` are the headings after `published`; each of `blocks` has rows `(figure, published, cells)`."""

    errors: list[Shown]
    columns: list[tuple[str, str]]
    blocks: list[tuple[str, list[Row]]]
    comparable: bool
    where: str


def published_section(runs: Sequence[Run]) -> PublishedSection | None:
    """The content of the section; None if no run repeats the published set-up."""
    as_published = published_runs(runs)
    if not as_published:
        return None
    correct = [run for run in runs if run.setup == CORRECT]
    errors = [
        Shown(e.number, e.title, e.what_happened, EVIDENCE[e.number](as_published, correct)) for e in published.ERRORS
    ]
    frameworks = list(dict.fromkeys(run.framework for run in runs))
    names = [(AS_PUBLISHED, f) for f in frameworks] + [(CORRECT, f) for f in frameworks]
    columns = [(setup, framework_name(f)) for setup, f in names]
    first = as_published[0]
    comparable = all(run.data.startswith("cifar10") and run.base == 32 for run in runs)
    return PublishedSection(errors, columns, _blocks(runs, names), comparable, f"{first.data} at base {first.base}")


def _blocks(runs: Sequence[Run], columns: Sequence[tuple[str, str]]) -> list[tuple[str, list[Row]]]:
    by_key = {(f.setup, f.block, f.framework, f.moment, f.figure): f for f in summarize(runs)}
    blocks = []
    for block in published.BLOCKS:
        then = {**published.MEASURED[block], **published.ONE_EPOCH[block]}
        rows: list[Row] = []
        for name in _ROWS:
            moment = "last epoch" if name in published.ONE_EPOCH[block] else TRAINED
            cells = []
            for setup, framework in columns:
                here = block if setup == AS_PUBLISHED else RIGHT_BLOCK[block]
                cells.append(_show(by_key.get((setup, here, framework, moment, name))))
            value = percent(then[name]) if name == "test_accuracy" else number(then[name])
            rows.append((LABELS[name], value, cells))
        right = RIGHT_BLOCK[block]
        about = f"{published.NAMES[block]} (ran {block}" + (f", meant {right})" if right != block else ")")
        blocks.append((about, rows))
    return blocks


def _show(figure: Figure | None) -> str:
    return NOT_RUN if figure is None else with_std(figure.figure, figure.value, figure.std)
