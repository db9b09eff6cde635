"""`gradlab lab doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab import net
from gradlab_core.cli.lab.shared import OutOption, give

_OWN = ("depth", "width", "activation", "init", "init_number", "sigma_w", "sigma_b", "framework")


def doctor(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="MODULE:FUNCTION, which returns your model and a batch; default: an MLP.")
    ] = None,
    depth: net.DepthOption = 10,
    width: net.WidthOption = 100,
    activation: net.ActivationOption = "tanh",
    init: net.InitOption = None,
    init_number: net.NumberOption = None,
    sigma_w: net.SigmaWOption = None,
    sigma_b: net.SigmaBOption = 0.0,
    framework: Annotated[
        str | None, typer.Option("--framework", "-f", help="torch or jax, for the MLP. Default: the first installed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the MLP and its batch, and of --draw.")] = 0,
    variance: Annotated[float, typer.Option(help="Variance that every layer's output should have.")] = 1.0,
    repair: Annotated[bool, typer.Option("--repair", help="Scale the weights layer by layer (LSUV).")] = False,
    draw: Annotated[
        str | None, typer.Option(help="Before the repair draw the weights anew with this initialiser.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the repaired weights, canonical, to this .npz file.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Of the first step. Default: your model's, or 0.1.")
    ] = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """Which layers of a model start wrong, by how much, and what to change; if you like, repaired weights; and what
    LARS would make of the first step.

    Example: `gradlab lab doctor --init normal --depth 20 --repair --out doctor.html`

    Example: `gradlab lab doctor mypackage.train:build --repair --draw orthogonal --save weights.npz`, where `build()`
    returns `(model, x, y)`, or a mapping with these and, if you like, `loss` and `learning_rate`.

    Exit code 1 when a layer starts wrong, its variance beyond 0.1 and 10 times what it should be, when units are
    copies, or when the gradient vanishes or explodes all the same; with --repair it is that of the repaired model.
    """
    from gradlab_core import backends
    from gradlab_core.cli.lab.target import loose, own
    from gradlab_core.cli.target import build, running
    from gradlab_core.errors import refuse
    from gradlab_core.lab.pages.doctor import doctor_section
    from gradlab_core.lab.pages.propagation import net_name
    from gradlab_core.lab.studies.doctor import study_start
    from gradlab_core.lab.studies.propagation import square_net
    from gradlab_core.parity.weights import save_weights

    chosen = {"--draw": draw is not None, "--save": save is not None}
    problems = [f"{option} needs --repair" for option, is_given in chosen.items() if is_given and not repair]
    if save is not None and out is not None and save.absolute() == out.absolute():
        problems.append(f"--save and --out both name {out}; expected two files")
    refuse("doctor", problems + loose(context, target, _OWN))
    under_test = square_net(
        depth, width, activation, init=init, init_number=init_number, sigma_w=sigma_w, sigma_b=sigma_b
    )
    output.output_file(out)
    output.output_file(save)
    name = target or net_name(under_test)
    with output.progress(json) as bar:
        bar.add_task("measuring", total=None)
        built = own(under_test, framework, seed=seed) if target is None else build(target)
        rate = learning_rate if learning_rate is not None else built.keywords.get("learning_rate", 0.1)
        with running(f"{name}: its model failed on its batch", built.file):
            study = study_start(
                built.framework,
                *built.positional,
                target=variance,
                repair=repair,
                draw=draw,
                seed=seed,
                learning_rate=rate,
                loss=built.keywords.get("loss"),
            )
    if save is not None:  # the model now has the repaired weights
        save_weights(save, backends.load(built.framework).to_canonical(built.positional[0]))
    give("doctor", [study], [doctor_section(name, study)], out, json)
