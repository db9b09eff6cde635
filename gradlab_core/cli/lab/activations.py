"""`gradlab lab activations`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab.shared import FrameworkOption, OutOption, give


def activations(
    names: Annotated[list[str] | None, typer.Argument(help="Activations; default: all.")] = None,
    mean: Annotated[float, typer.Option(help="Of the inputs whose share is given.")] = 0.0,
    std: Annotated[float, typer.Option(help="Of the inputs whose share is given.")] = 1.0,
    framework: FrameworkOption = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """Where activations let a gradient through: f′, where it vanishes, and for which share of inputs it is about 1.

    Example: `gradlab lab activations sigmoid tanh relu --std 3 --out activations.html`

    Exit code 1 when a framework has another derivative than the definition.
    """
    from gradlab_core.lab.pages.activations import activation_section
    from gradlab_core.lab.studies.activations import study_activations

    output.output_file(out)
    study = study_activations(names or (), mean=mean, std=std, frameworks=framework or ())
    give("activation", study.rows, [activation_section(study)], out, json)
