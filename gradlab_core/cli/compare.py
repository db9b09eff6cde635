"""`gradlab compare`: three architectures, two frameworks, one verdict."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output, threads
from gradlab_core.errors import GradlabError

if TYPE_CHECKING:
    from gradlab_core.compare.comparison import Run
    from gradlab_core.compare.experiment import CompareSpec
    from gradlab_core.judge.bands import BandSet
    from gradlab_core.programs.data import ImageData

RUNS, REPORT = "runs.json", "report.html"


def compare(
    framework: output.FrameworkOption = None,
    block: Annotated[list[str] | None, typer.Option("--block", "-b", help="Repeat for several.")] = None,
    base: Annotated[int, typer.Option(help="Channels of the first stage.")] = 8,
    depth: Annotated[str, typer.Option(help="Blocks in each stage, as 2,2,2.")] = "1,1,1",
    epochs: Annotated[int, typer.Option(help="Passes over the training set; 0 measures without training.")] = 1,
    seeds: Annotated[int, typer.Option(help="Runs of every net, for mean and standard deviation.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Training examples a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of SGD with momentum 0.9.")] = 0.05,
    data: output.DataOption = "digits",
    data_dir: output.DataDirOption = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and runs.json.")] = Path("gradlab-report"),
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Repeat the published experiment too, with its errors.")
    ] = False,
    bands: output.BandsOption = None,
    json: output.JsonOption = False,
) -> None:
    """Compare residual blocks: cost, activations, gradient flow, sensitivity, before and after training.

    Example: `gradlab compare --block plain --block preact --framework jax --seeds 2`

    Exit code 1 when something is wrong whatever the set-up: a parameter without a gradient, a run that diverged.
    """
    from gradlab_core.compare.comparison import findings
    from gradlab_core.compare.experiment import CompareSpec
    from gradlab_core.judge.bands import band_set
    from gradlab_core.programs.data import load_data

    spec = CompareSpec(
        frameworks=output.chosen_frameworks(framework),
        base=base,
        layers=parse_depth(depth),
        epochs=epochs,
        seeds=seeds,
        batch_size=batch_size,
        learning_rate=learning_rate,
        as_published=as_published,
        **({"blocks": tuple(dict.fromkeys(block))} if block else {}),
    )
    judged_by = None if bands is None else band_set(bands)
    threads.choose(base)
    images = load_data(data, data_dir)
    folder = output.output_folder(out)
    runs, interrupted = _run(spec, images, folder, quiet=json)
    if runs:
        _report(runs, folder, bands)
        _show(runs, folder, judged_by, json=json)
    if interrupted:
        raise KeyboardInterrupt
    if findings(runs):
        raise typer.Exit(output.FOUND_SOMETHING)


def parse_depth(text: str) -> tuple[int, ...]:
    """The numbers of a depth such as `2,2,2`."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise GradlabError(f"depth is {text!r}; expected whole numbers of at least 1 with commas between, as 2,2,2")
    return tuple(int(part) for part in parts)


def _run(spec: CompareSpec, images: ImageData, folder: Path, *, quiet: bool) -> tuple[list[Run], bool]:
    """All runs, or those that were complete when the user interrupted. Each is on disk as soon as it is complete."""
    from gradlab_core.compare.experiment import run_experiment
    from gradlab_core.records import codec

    runs: list[Run] = []
    with output.progress(quiet) as bar:
        task = bar.add_task("training", total=spec.steps(images))
        experiment = run_experiment(
            spec,
            images,
            on_start=lambda title: bar.update(task, description=title),
            on_step=lambda record: bar.advance(task),
        )
        try:
            for run in experiment:
                runs.append(run)
                codec.write_text(folder / RUNS, codec.document("run", runs))
        except KeyboardInterrupt:
            return runs, True
    return runs, False


def _report(runs: list[Run], folder: Path, bands: str | None) -> None:
    if all(importlib.util.find_spec(name) for name in ("jinja2", "plotly")):
        from gradlab_core.report import write_html

        write_html(runs, folder / REPORT, bands=bands)


def _show(runs: list[Run], folder: Path, judged_by: BandSet | None, *, json: bool) -> None:
    from gradlab_core.cli.tables import comparison_tables
    from gradlab_core.compare.comparison import findings, summarize
    from gradlab_core.records import codec

    if json:
        typer.echo(codec.document("comparison", summarize(runs, judged_by=judged_by)))
        return
    console = output.console()
    for table in comparison_tables(summarize(runs, judged_by=judged_by), findings(runs)):
        console.print(table)
    written = folder / REPORT
    if written.exists():
        console.print(f"report: {written}   records: {folder / RUNS}", soft_wrap=True)
    else:
        console.print(f"records: {folder / RUNS}", soft_wrap=True)
        console.print("no report.html: install with pip install 'gradlab-parity[report]'", soft_wrap=True, markup=False)
