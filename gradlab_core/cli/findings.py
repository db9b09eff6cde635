"""Findings, the norm report and trends on the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradlab_core.judge import trend_words, trends
from gradlab_core.judge.diagnosis import CODES
from gradlab_core.judge.examination import Examination
from gradlab_core.judge.judged import JudgedRun
from gradlab_core.programs.scenarios import Scenario
from gradlab_core.records import Finding, Severity, StepRecord
from gradlab_core.show.run.norms import HEADINGS, row, stretch_words, ways
from gradlab_core.text import number

_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_CLASSES = {"stable": "green", "exploding": "red", "vanishing": "yellow"}
_MOST = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenarioRun:
    """A row of `gradlab diagnose --scenario NAME --fix --json`, where `program` is `as it is` or `repaired`."""

    scenario: str
    program: str
    framework: str
    steps: int
    first_loss: float | None
    last_loss: float | None
    findings: tuple[Finding, ...]


def scenario_run(scenario: str, program: str, framework: str, run: JudgedRun) -> ScenarioRun:
    """The row of one program of a scenario."""
    return ScenarioRun(
        scenario=scenario,
        program=program,
        framework=framework,
        steps=len(run.records),
        first_loss=run.records[0].loss,
        last_loss=run.records[-1].loss,
        findings=tuple(run.findings),
    )


def is_bad(findings: Iterable[Finding]) -> bool:
    """Whether something is wrong. A note is only worth knowing."""
    return any(finding.severity is not Severity.NOTE for finding in findings)


def finding_texts(findings: Sequence[Finding]) -> Iterable[RenderableType]:
    """Yield each finding with its place and first step, what it is, its numbers, and what to do."""
    if not findings:
        yield Text("Nothing found.", style="green")
    for i, finding in enumerate(findings, start=1):
        title = CODES[finding.code].title if finding.code in CODES else finding.code
        head = Text.assemble(
            f"{i}. ", (finding.severity.value, _STYLES[finding.severity]), "  ", (title, "bold"), f"  {finding.code}"
        )
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("where", Text(_where(finding)))
        grid.add_row("since", Text(f"step {finding.first_step:,}"))
        grid.add_row("what", Text(finding.explanation))
        if finding.evidence:
            numbers = [f"{name.replace('_', ' ')} {number(value, 4)}" for name, value in finding.evidence.items()]
            grid.add_row("evidence", Text(", ".join(numbers)))
        for place, remedy in enumerate(finding.remedies, start=1):
            grid.add_row("to do" if place == 1 else "", Text(f"{place}. {remedy}"))
        yield Group(head, Padding(grid, (0, 0, 1, 3)))


def _where(finding: Finding) -> str:
    more = len(finding.paths) - _MOST
    return ", ".join(finding.paths[:_MOST]) + (f" and {more} more" if more > 0 else "") or "the whole net"


def scenario_table(scenarios: Mapping[str, Scenario]) -> Table:
    """The table of the scenarios in the gallery."""
    table = Table(box=box.SIMPLE_HEAD, title="Scenarios", title_justify="left", title_style="bold")
    for heading in ("name", "what it shows", "finding"):
        table.add_column(heading, no_wrap=heading != "what it shows")
    for family in dict.fromkeys(scenario.family for scenario in scenarios.values()):
        table.add_section()
        table.add_row(Text(family, style="italic"))
        for scenario in (scenario for scenario in scenarios.values() if scenario.family == family):
            codes = Text("\n".join(scenario.codes) or "none", style="" if scenario.codes else "dim")
            table.add_row(Text(f"  {scenario.name}"), Text(scenario.about), codes)
    return table


def side_by_side(programs: Mapping[str, JudgedRun]) -> Table:
    """A table with a column for each program and rows for findings, losses and steps."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in programs:
        table.add_column(Text(name))
    runs = list(programs.values())
    table.add_row("findings", *(_listed(run.findings) for run in runs))
    table.add_row("loss, first → last", *(Text(losses(run.records)) for run in runs))
    table.add_row("steps", *(Text(f"{len(run.records):,}") for run in runs))
    return table


def losses(records: Sequence[StepRecord]) -> str:
    """The loss at the first record and at the last."""
    return f"{number(records[0].loss, 4)} → {number(records[-1].loss, 4)}" if records else "no record"


def _listed(findings: Sequence[Finding]) -> Text:
    if not findings:
        return Text("none", style="green")
    parts = [(f"{f.severity.value} {f.code}, since step {f.first_step:,}\n", _STYLES[f.severity]) for f in findings]
    text = Text.assemble(*parts)
    text.rstrip()
    return text


def range_test_text(examination: Examination) -> Text:
    """The result of the range test of the learning rate, in a sentence."""
    test = examination.range_test
    tried = f"Range test, rates from {number(test.rates[0])} to {number(test.rates[-1])}: "
    if test.suggested is None:
        words = "the loss never fell, so no learning rate is suggested"
    else:
        words = f"suggested learning rate {number(test.suggested)}"
    if test.diverges_at is not None:
        words += f"; the loss blew up at {number(test.diverges_at)}"
    return Text(
        f"{tried}{words}. {len(examination.records)} steps were recorded at {number(examination.learning_rate)}."
    )


def norm_tables(run: JudgedRun) -> Iterable[RenderableType]:
    """The norm report with a column for each step, its notes, and the trends of every tensor."""
    shown = [row(each) for each in run.norms.rows]
    table = Table(box=box.SIMPLE_HEAD, title="Norm report", title_justify="left", title_style="bold")
    table.add_column(HEADINGS[0].lower())
    for each in shown:
        table.add_column(each.step, justify="right")
    for i, heading in enumerate(HEADINGS[1:-1]):
        table.add_row(heading, *(each.figures[i] for each in shown))
    table.add_row(HEADINGS[-1], *(Text(r.norm_class, style=_CLASSES.get(r.norm_class, "dim")) for r in shown))
    yield table
    yield Text("\n".join(f"• {note}" for note in (stretch_words(run.norms), *run.norms.notes)))
    if run.trends.tensors:
        table = Table(box=box.SIMPLE_HEAD, title="\nTrends", title_justify="left", title_style="bold")
        for heading in ("parameter", *(name.lower() for name in trends.QUANTITIES.values())):
            table.add_column(heading)
        for path in dict.fromkeys(trend.path for trend in run.trends.tensors):
            cells = [Text(f"{way.ends}\n{way.direction}") for way in ways(run.trends.tensors, path)]
            table.add_row(Text(path), *cells)
        yield table
        yield Text("\n".join(f"• {sentence}" for sentence in trend_words.sentences(run.trends)))
