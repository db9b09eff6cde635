"""`gradlab parity record` and `gradlab parity compare`: the judgement in two places."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.parity.shared import BatchOption, HtmlOption, PrecisionOption, give
from gradlab_core.errors import refuse


def record(
    target: Annotated[
        str, typer.Argument(help="MODULE:NAME of a Subject, or of a function that returns one or (subject, batch).")
    ],
    out: Annotated[Path, typer.Option(help="The trace to write.", show_default=False)],
    like: Annotated[
        Path | None,
        typer.Option(help="The reference's trace: weights, batch, steps and precision are taken from it."),
    ] = None,
    batch: BatchOption = None,
    steps: Annotated[int | None, typer.Option(help="Training steps to follow. Default: 3.")] = None,
    precision: PrecisionOption = None,
) -> None:
    """Train a subject and write every tensor of every step to a file, for `gradlab parity compare`.

    Example: `gradlab parity record mypackage.port:original --batch mypackage.port:batch --out reference.trace`, then
    where the other framework is, `gradlab parity record mypackage.port:port --like reference.trace --out
    candidate.trace`

    The reference's trace also holds how much rounding is expected of every tensor. If the candidate's precision is not
    known beforehand, as on a GPU, record the reference with `--precision as-is`: it then holds this for all precisions.
    """
    from gradlab_core.cli.parity import targets
    from gradlab_core.cli.target import running
    from gradlab_core.parity import record

    if like is not None:
        given = {"--batch": batch, "--steps": steps, "--precision": precision}
        refuse("record", [f"{name} is that of {like}" for name, value in given.items() if value is not None])
    output.output_file(out)
    chosen = targets.subject(target)
    used = None if like is not None else targets.chosen_batch(batch, chosen, target)
    with running(f"training {target} failed", chosen.file):
        record(chosen.subject, used, out, steps=steps, precision=precision, like=like)
    output.messages().print(f"trace: {out}", soft_wrap=True, markup=False)


def compare(
    reference: Annotated[Path, typer.Argument(help="What `gradlab parity record` wrote.")],
    candidate: Annotated[Path, typer.Argument(help="What it wrote with --like REFERENCE.")],
    html: HtmlOption = None,
    json: output.JsonOption = False,
) -> None:
    """Judge two traces; neither framework has to be installed.

    Example: `gradlab parity compare reference.trace candidate.trace`

    Exit code 1 when parity is broken; the first tensor that differs is named.
    """
    from gradlab_core.parity import compare_traces

    output.output_file(html)
    give({f"{reference.name} and {candidate.name}": compare_traces(reference, candidate)}, json=json, html=html)
