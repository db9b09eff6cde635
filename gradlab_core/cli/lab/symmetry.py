"""`gradlab lab symmetry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab.shared import OutOption, give
from gradlab_core.cli.lab.target import loose
from gradlab_core.errors import GradlabError, refuse

if TYPE_CHECKING:
    from gradlab_core.lab.studies.symmetry import SymmetryStudy


def symmetry(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            help="MODULE:FUNCTION, which returns your model and a batch, or canonical weights (.npz). Default: a "
            "demonstration."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Of SGD in the demonstration.")] = 200,
    units: Annotated[int, typer.Option(help="Hidden units of the demonstration.")] = 8,
    dropout: Annotated[float, typer.Option(help="Of the run of the demonstration that has it.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the demonstration.")] = 0,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """Hidden units that are copies of one another, which no gradient step will ever tell apart: those of your net, or
    a demonstration that SGD never breaks such a tie and dropout does.

    Example: `gradlab lab symmetry --out symmetry.html`

    Example: `gradlab lab symmetry mypackage.train:build`

    Exit code 1 when units are tied; of the demonstration when it does not show what it is for.
    """
    refuse("symmetry", loose(context, target, ("steps", "units", "dropout", "seed")))
    output.output_file(out)
    if target is None:
        from gradlab_core.lab.pages.tie import tie_section
        from gradlab_core.lab.studies.symmetry import study_tie

        with output.progress(json) as bar:
            bar.add_task("training", total=None)
            tie = study_tie(steps=steps, units=units, dropout=dropout, seed=seed)
        give("tie", tie.runs, [tie_section(tie)], out, json)
    else:
        from gradlab_core.lab.pages.symmetry import symmetry_section

        with output.progress(json) as bar:
            bar.add_task("comparing units", total=None)
            study = _of_target(target)
        give("symmetry", [study], [symmetry_section(study)], out, json)


def _of_target(target: str) -> SymmetryStudy:
    from gradlab_core.cli.target import FORM, build, is_target, running
    from gradlab_core.lab.studies.symmetry import study_symmetry
    from gradlab_core.parity.weights import load_weights

    if is_target(target):
        built = build(target)
        with running(f"{target}: the weights of its model cannot be read", built.file):
            return study_symmetry(target, built.positional[0], built.framework)
    if not target.endswith(".npz"):
        raise GradlabError(f"symmetry: came {target}; expected {FORM}, or canonical weights as NAME.npz")
    return study_symmetry(target, load_weights(target))
