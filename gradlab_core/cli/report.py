"""`gradlab report`: the report of runs that were recorded before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.records import codec

if TYPE_CHECKING:
    from gradlab_core.records import RecordedRun


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="What a ColumnSink or a JsonlSink recorded, one file a run; a folder of such files, for a sweep; or "
            "a runs.json of compare."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The HTML file to write; .csv or .parquet exports the records of one run as a table.")
    ] = Path("report.html"),
    bands: output.BandsOption = None,
    json: output.JsonOption = False,
) -> None:
    """Draw the HTML report of recorded runs, or export their numbers.

    Example: `gradlab report run.gradlab --out report.html`

    Example: `gradlab report runs/`, where `runs/` holds the records of a sweep: one row a run, and which hyperparameter
    goes with which finding.
    """
    from gradlab_core.sinks.loading import holds_records
    from gradlab_core.sinks.tabular import FORMATS

    output.output_file(out)
    table = out.suffix.lower() in FORMATS
    folders = [path for path in runs if os.path.isdir(path)]  # unlike Path's, no error for any name
    recorded = [path for path in runs if holds_records(path)]
    if folders:
        _sweep(runs, out, table=table, bands=bands, json=json)
    elif recorded or len(runs) > 1 or table:
        refuse("report", ["--bands judges figures of a comparison; a recorded run has none"] if bands else [])
        _steps(runs, out, table=table, json=json)
    else:
        _comparison(runs[0], out, bands, json=json)
    if not json:
        output.console().print(f"{'table' if table else 'report'}: {out}", soft_wrap=True)


def _sweep(paths: list[Path], out: Path, *, table: bool, bands: str | None, json: bool) -> None:
    from gradlab_core.judge.sweep import SweptRun, sweep
    from gradlab_core.show.sweep import page
    from gradlab_core.sinks.folder import recorded_files

    folder = paths[0]
    problems = [f"came {len(paths)} paths, of which one is a folder; name one folder"] if len(paths) > 1 else []
    problems += ["--bands judges figures of a comparison; a recorded run has none"] if bands else []
    problems += [f"{out} holds one run; {folder} is a folder of runs"] if table else []
    refuse("report", problems)
    files = recorded_files(folder)
    with output.progress(json) as bar:
        task = bar.add_task(f"{len(files):,} runs", total=len(files))

        def on_run(run: SweptRun) -> None:
            bar.advance(task)

        runs = sweep(files, on_run=on_run)
    for run in runs:
        if run.problem is not None:
            output.messages().print(f"not read: {run.problem}", soft_wrap=True, markup=False)
    codec.write_text(out, page.render(str(folder), runs))
    if json:
        typer.echo(codec.document("swept-run", runs))


def _steps(paths: list[Path], out: Path, *, table: bool, json: bool) -> None:
    from gradlab_core.report import write_html
    from gradlab_core.sinks import export

    if (table or json) and len(paths) > 1:
        raise GradlabError(f"{'--json' if json else out} holds one run; came {len(paths)}: name them one at a time")
    runs = {str(path): records for path, records in _load(paths).items()}
    if table:
        export(runs[str(paths[0])], out)
    else:
        write_html(runs, out)
    if json:
        typer.echo(codec.document("step", runs[str(paths[0])]))


def _load(paths: list[Path]) -> dict[Path, RecordedRun]:
    """The records of every file, or an error that lists all files that cannot be used."""
    from gradlab_core.sinks import load_run

    records, problems = {}, []
    for path in paths:
        try:
            records[path] = load_run(path)
        except GradlabError as error:
            problems.append(str(error))
        else:
            if records[path].cut_off:
                output.messages().print(f"{path}: {output.CUT_OFF}", soft_wrap=True, markup=False)
            problems += [] if records[path] else [f"{path} holds no record; expected at least one"]
    refuse("cannot draw", problems)
    return records


def _comparison(path: Path, out: Path, bands: str | None, *, json: bool) -> None:
    from gradlab_core.compare.comparison import Run, summarize
    from gradlab_core.judge.bands import band_set
    from gradlab_core.report import write_html

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GradlabError(
            f"cannot read {path}: {error}; expected a run.jsonl of gradlab train or a runs.json of gradlab compare"
        ) from error
    runs = codec.parse(text, "run", Run, str(path))
    if not runs:
        raise GradlabError(f"{path} holds no run; expected at least one")
    judged_by = None if bands is None else band_set(bands)
    write_html(runs, out, bands=bands)
    if json:
        typer.echo(codec.document("comparison", summarize(runs, judged_by=judged_by)))
