"""`gradlab diagnose`: what is wrong with a run, with a scenario of the gallery, or with a model before its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.sinks.opening import FORMS, open_sinks

if TYPE_CHECKING:
    from rich.progress import TaskID

    from gradlab_core.judge.judged import JudgedRun
    from gradlab_core.programs.program import ProgramSpec
    from gradlab_core.programs.scenarios import Scenario
    from gradlab_core.records import StepRecord

AS_IS, REPAIRED = "as it is", "repaired"


@dataclasses.dataclass(frozen=True)
class _Shown:
    """How the results are to be shown."""

    json: bool
    norms: bool
    steps: Sequence[int]
    out: Path | None


def diagnose(
    target: Annotated[
        str | None,
        typer.Argument(help="A recorded run (run.gradlab), or MODULE:FUNCTION, which returns your model and a batch."),
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="Run this one of the gallery.")] = None,
    gallery: Annotated[bool, typer.Option("--list", help="List the scenarios of the gallery.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Run the repaired program of the scenario too.")] = False,
    framework: Annotated[
        str | None, typer.Option("--framework", "-f", help="torch or jax, for a scenario. Default: the one there is.")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help=f"Where each record of a scenario goes (with --fix: of the repaired program): {FORMS}."),
    ] = None,
    norms: Annotated[
        bool, typer.Option("--norms", help="Show the norm report and the trends too; with --json only its rows.")
    ] = False,
    step: Annotated[list[int] | None, typer.Option(help="A step for the norm report; repeat for several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the HTML report to this file.")] = None,
    json: output.JsonOption = False,
) -> None:
    """Say what is wrong with a run, where, since when, why, and what to do.

    Example: `gradlab diagnose run.jsonl --out report.html`

    Example: `gradlab diagnose --scenario deep-sigmoid --fix`

    Example: `gradlab diagnose mypackage.train:build`, where `build()` returns `(model, x, y)`, or a mapping with these
    and, if you like, `loss`, `optimizer` (sgd, adam, adamw) and `learning_rate`. It trains copies of the model on the
    batch for a moment, before you train it.

    Exit code 1 when a finding is a warning or critical; with --fix it is that of the repaired program.
    """
    choices = {str(target): target is not None, "--scenario": scenario is not None, "--list": gallery}
    chosen = [name for name, is_given in choices.items() if is_given]
    problems = []
    if len(chosen) != 1:
        came = " and ".join(chosen) or "nothing"
        problems.append(f"came {came}; expected one of run.jsonl, MODULE:FUNCTION, --scenario NAME, --list")
    if scenario is None:
        loose = {"--fix": fix, "--framework": framework is not None, "--sink": bool(sink)}
        problems += [f"{option} is for --scenario NAME only" for option, is_given in loose.items() if is_given]
    if gallery:
        loose = {"--out": out is not None, "--norms": norms, "--step": bool(step)}
        problems += [f"{option} has nothing to show with --list" for option, is_given in loose.items() if is_given]
    refuse("diagnose", problems)
    output.output_file(out)
    shown = _Shown(json, norms or bool(step), step or (), out)
    if gallery:
        _list(json)
        bad = False
    elif scenario is not None:
        bad = _scenario(scenario, fix, output.chosen_framework(framework), sink or [], shown)
    else:
        assert target is not None
        bad = _target(target, shown)
    if bad:
        raise typer.Exit(output.FOUND_SOMETHING)


def _target(target: str, shown: _Shown) -> bool:
    from gradlab_core.cli.target import is_target

    return _examined(target, shown) if is_target(target) else _recorded(target, shown)


def _recorded(target: str, shown: _Shown) -> bool:
    from gradlab_core.judge.judged import JudgedRun
    from gradlab_core.sinks import load_run

    run = load_run(target)
    if not run:
        raise GradlabError(f"{target} holds no record; expected at least one")
    if run.cut_off:
        output.messages().print(f"{target}: {output.CUT_OFF}", soft_wrap=True, markup=False)
    return _show(target, JudgedRun(run, steps=shown.steps), shown)


def _examined(target: str, shown: _Shown) -> bool:
    from gradlab_core import backends
    from gradlab_core.cli.findings import range_test_text
    from gradlab_core.cli.target import build, running
    from gradlab_core.judge.judged import JudgedRun

    with output.progress(shown.json) as bar:
        bar.add_task("trying learning rates", total=None)
        built = build(target)
        examine = backends.load(built.framework).examine
        with running(f"{target}: its model failed on its batch", built.file):
            examination = examine(*built.positional, **built.keywords)
    if not shown.json:
        output.console().print(range_test_text(examination), soft_wrap=True)
    known = {"findings": examination.findings, "range_test": examination.range_test}
    return _show(target, JudgedRun(examination.records, **known, steps=shown.steps), shown)


def _show(name: str, run: JudgedRun, shown: _Shown) -> bool:
    """Show one run as the options ask. Returns whether something is wrong with it."""
    from gradlab_core.cli.findings import finding_texts, is_bad, losses, norm_tables
    from gradlab_core.records import codec

    rows = run.norms.rows if shown.norms else ()  # a step that was not recorded is refused before anything is shown
    if shown.out is not None:
        _write({name: run}, shown.out)
    bad = is_bad(run.findings)
    if shown.json:
        typer.echo(codec.document("norms", rows) if shown.norms else codec.document("finding", run.findings))
        return bad
    console = output.console()
    console.print(f"{name}: {len(run.records):,} records, loss {losses(run.records)}", soft_wrap=True, markup=False)
    for text in finding_texts(run.findings):
        console.print(text)
    for table in norm_tables(run) if shown.norms else ():
        console.print(table)
    _say_where(shown.out)
    return bad


def _list(json: bool) -> None:
    from gradlab_core.cli.findings import scenario_table
    from gradlab_core.programs.scenarios import SCENARIOS
    from gradlab_core.records import codec

    if json:
        typer.echo(codec.document("scenario", SCENARIOS.values()))
    else:
        output.console().print(scenario_table(SCENARIOS))


def _scenario(name: str, fix: bool, framework: str, sinks: Sequence[str], shown: _Shown) -> bool:
    from gradlab_core.cli.findings import finding_texts, is_bad, scenario_run, side_by_side
    from gradlab_core.judge.judged import JudgedRun
    from gradlab_core.records import codec

    case = _known(name)
    programs = {AS_IS: case.program}
    if fix:
        if case.fix is None:
            raise GradlabError(f"scenario {name} is healthy: there is nothing to fix; run it without --fix")
        if shown.norms:
            raise GradlabError("--norms and --step show one run; came --fix, which makes two: see --out")
        programs[REPAIRED] = case.fix
    records = _run(programs, framework, sinks, quiet=shown.json)
    if not fix:
        return _show(name, JudgedRun(records[AS_IS], steps=shown.steps), shown)
    runs = {program: JudgedRun(own) for program, own in records.items()}
    if shown.out is not None:
        _write({f"{name}, {program}": run for program, run in runs.items()}, shown.out)
    if shown.json:
        typer.echo(codec.document("scenario-run", [scenario_run(name, p, framework, run) for p, run in runs.items()]))
        return is_bad(runs[REPAIRED].findings)
    console = output.console()
    console.print(f"{name} ({case.family}): {case.about}\nRepaired: {case.remedy}.", soft_wrap=True, markup=False)
    console.print(side_by_side(runs))
    for program, run in runs.items():
        if run.findings:
            console.print(f"Found in the program {program}:", markup=False)
            for text in finding_texts(run.findings):
                console.print(text)
    _say_where(shown.out)
    return is_bad(runs[REPAIRED].findings)


def _known(name: str) -> Scenario:
    import difflib

    from gradlab_core.programs.scenarios import SCENARIOS

    if name not in SCENARIOS:
        near = difflib.get_close_matches(name, SCENARIOS, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise GradlabError(f"scenario {name!r} is not known: {hint}`gradlab diagnose --list` lists all")
    return SCENARIOS[name]


def _run(
    programs: dict[str, ProgramSpec], framework: str, sinks: Sequence[str], *, quiet: bool
) -> dict[str, list[StepRecord]]:
    """The records of every program. Those of the last program also go to the sinks."""
    from gradlab_core import backends

    twin = backends.load(framework)
    records: dict[str, list[StepRecord]] = {}
    last = list(programs)[-1]
    with open_sinks(sinks) as written, output.progress(quiet) as bar:
        for name, spec in programs.items():
            task = bar.add_task(f"{framework} · {name}", total=spec.steps)

            def on_step(record: StepRecord, task: TaskID = task, keep: bool = name == last) -> None:
                if keep:
                    written(record)
                bar.advance(task)

            records[name] = twin.run_program(spec, on_step=on_step)
    return records


def _write(runs: dict[str, JudgedRun], out: Path) -> None:
    from gradlab_core.records import codec
    from gradlab_core.show.run import page

    codec.write_text(out, page.render(runs))


def _say_where(out: Path | None) -> None:
    if out is not None:
        output.console().print(f"report: {out}", soft_wrap=True, markup=False)
