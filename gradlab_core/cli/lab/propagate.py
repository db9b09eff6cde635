"""`gradlab lab propagate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab import net
from gradlab_core.cli.lab.shared import FrameworkOption, OutOption, give, measured
from gradlab_core.errors import refuse

_OWN = ("depth", "width", "activation", "init", "init_number", "sigma_w", "sigma_b", "nets", "seed", "framework")


def propagate(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="MODULE:FUNCTION, which returns your model and a batch; default: a random MLP.")
    ] = None,
    depth: net.DepthOption = 50,
    width: net.WidthOption = 100,
    activation: net.ActivationOption = "tanh",
    init: net.InitOption = None,
    init_number: net.NumberOption = None,
    sigma_w: net.SigmaWOption = None,
    sigma_b: net.SigmaBOption = 0.0,
    nets: Annotated[int, typer.Option(help="How many nets are drawn.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the first net; the others follow.")] = 0,
    framework: FrameworkOption = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """What a random net, or your model, does to a signal and its gradient, measured against mean-field theory; where a
    random net lies on the map of depth × σ_w; singular values of the Jacobian.

    Example: `gradlab lab propagate --activation relu --init kaiming_normal --depth 100 --out propagate.html`

    Example: `gradlab lab propagate mypackage.train:build`, where `build()` returns `(model, x, y)`, or a mapping with
    these and, if you like, `loss`.

    Exit code 1 when the signal or the gradient vanishes or explodes, or holds NaN or Inf; when no gradient leads to a
    layer of your model; when a framework has other numbers than the definition.
    """
    from gradlab_core.cli.lab.target import loose
    from gradlab_core.lab.pages.propagation import propagation_section
    from gradlab_core.lab.studies.propagation import square_net, study_propagation

    refuse("propagate", loose(context, target, _OWN))
    output.output_file(out)
    if target is not None:
        return _model(target, out, json)
    under_test = square_net(
        depth, width, activation, init=init, init_number=init_number, sigma_w=sigma_w, sigma_b=sigma_b
    )
    with output.progress(json) as bar:
        bar.add_task(f"{nets} nets", total=None)
        study = study_propagation(under_test, nets=nets, seed=seed, frameworks=framework or ())
    give("propagation", [study], [propagation_section(study)], out, json)


def _model(target: str, out: Path | None, json: bool) -> None:
    from gradlab_core.lab.pages.model import model_section
    from gradlab_core.lab.studies.model import study_model

    study = measured(target, study_model, json=json)
    give("model-propagation", [study], [model_section(target, study)], out, json)
