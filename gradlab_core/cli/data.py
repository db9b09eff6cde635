"""`gradlab data`: data sets on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.errors import GradlabError

app = typer.Typer(no_args_is_help=True, help="Prepare data sets on disk.")


@app.callback()
def data() -> None:
    """Prepare data sets on disk. Nothing is downloaded."""


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="The data set: cifar10.")],
    source: Annotated[Path, typer.Option("--from", help="cifar-10-binary.tar.gz, as its authors publish it.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where the copy goes.")],
    json: output.JsonOption = False,
) -> None:
    """Write a copy that TFDS reads, without TensorFlow.

    Example: `gradlab data prepare cifar10 --from cifar-10-binary.tar.gz --data-dir ~/data`
    """
    from gradlab_core.programs.data import prepare_cifar10
    from gradlab_core.programs.data.prepare import prepared_counts, prepared_summary
    from gradlab_core.records import codec

    if name != "cifar10":
        raise GradlabError(f"data set {name!r} cannot be prepared; expected cifar10")
    with output.progress(json) as bar:
        task = bar.add_task("writing", total=None)
        folder = prepare_cifar10(
            source, data_dir, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json:
        row = {"name": name, "folder": str(folder), **prepared_counts(folder)}
        typer.echo(codec.document("prepared-data", [row]))
        return
    output.console().print(f"{prepared_summary(folder)} in {folder}", soft_wrap=True)
