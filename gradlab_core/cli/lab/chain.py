"""`gradlab lab chain`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab.shared import OutOption, give, measured


def chain(
    target: Annotated[str, typer.Argument(help="MODULE:FUNCTION, which returns your model and a batch.")],
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """The chain rule on your own net: the factor by which each layer multiplies the gradient on its way back, their
    product, and what arises between layers.

    Example: `gradlab lab chain mypackage.train:build --out chain.html`, where `build()` returns `(model, x, y)`, or a
    mapping with these and, if you like, `loss`.

    Exit code 1 when the gradient vanishes or explodes on its way, or does not come to a layer.
    """
    from gradlab_core.lab.pages.chain_rule import chain_section
    from gradlab_core.lab.studies.chain_rule import study_chain

    output.output_file(out)
    study = measured(target, study_chain, json=json)
    give("chain-rule", [study], [chain_section(target, study)], out, json)
