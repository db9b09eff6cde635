"""`gradlab lab init`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab.net import INITIALIZERS
from gradlab_core.cli.lab.shared import FrameworkOption, OutOption, give


def init(
    names: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(INITIALIZERS)}; default: all.")] = None,
    layer: Annotated[str, typer.Option(help="dense, conv, transposed or grouped.")] = "dense",
    inputs: Annotated[
        int | None, typer.Option(help="Units or channels that go in; default: 100 dense, 32 else.")
    ] = None,
    outputs: Annotated[
        int | None, typer.Option(help="Units or channels that come out; default: 100 dense, 64 else.")
    ] = None,
    kernel: Annotated[int | None, typer.Option(help="Sides of a convolution's window; default: 3.")] = None,
    groups: Annotated[int | None, typer.Option(help="Of a grouped convolution; default: 4.")] = None,
    draws: Annotated[int, typer.Option(help="How many seeds.")] = 20,
    seed: Annotated[int, typer.Option(help="The first.")] = 0,
    value: Annotated[float, typer.Option(help="The value of the initialiser constant.")] = 0.1,
    depth: Annotated[int, typer.Option(help="Layers of the nets that start so.")] = 50,
    activation: Annotated[str, typer.Option(help="Of these nets; their width is a square dense layer's, or 100.")] = (
        "tanh"
    ),
    framework: FrameworkOption = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """What each initialiser draws against what its formula says, for one layer and many seeds; the fans of dense
    layers and convolutions; and what each start does, by theory, to the signal and the gradient of a deep net.

    Example: `gradlab lab init --layer conv --inputs 32 --outputs 64 --kernel 3 --out init.html`

    Exit code 1 when an initialiser is wrong: mean or standard deviation more than five standard errors off, another
    distribution, out of bounds, not orthogonal, or a framework's layer holds other numbers for the same seed.
    """
    from gradlab_core.lab.pages.initializers import initializer_section
    from gradlab_core.lab.studies.initializers import study_initializers

    output.output_file(out)
    with output.progress(json) as bar:
        bar.add_task(f"{draws} draws", total=None)
        study = study_initializers(
            names or (),
            layer=layer,
            inputs=inputs,
            outputs=outputs,
            kernel=kernel,
            groups=groups,
            draws=draws,
            seed=seed,
            value=value,
            depth=depth,
            activation=activation,
            frameworks=framework or (),
        )
    give("initialiser", study.rows, [initializer_section(study)], out, json)
