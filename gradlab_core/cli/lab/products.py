"""`gradlab lab products`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.cli.lab.shared import FrameworkOption, OutOption, give


def products(
    factors: Annotated[int, typer.Option(help="How many matrices are multiplied.")] = 100,
    size: Annotated[int, typer.Option(help="Rows and columns of each.")] = 4,
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of their elements; a factor before orthogonal ones.")
    ] = 1.0,
    matrices: Annotated[str, typer.Option(help="gaussian, uniform or orthogonal.")] = "gaussian",
    seed: Annotated[int, typer.Option(help="Of the first product.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many products the growth rates are measured on.")] = 20,
    framework: FrameworkOption = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """What a product of random matrices does to a signal: whether it explodes or vanishes, and which σ would keep it.

    Example: `gradlab lab products --factors 100 --size 4 --sigma 1 --out products.html`

    Exit code 1 when the norm changes by more than a factor of 1000, when a framework has another product than the
    definition, or when growth rates or bounds contradict theory.
    """
    from gradlab_core.lab.pages.products import product_section
    from gradlab_core.lab.studies.products import study_products

    output.output_file(out)
    with output.progress(json) as bar:
        bar.add_task("multiplying", total=None)
        study = study_products(
            factors=factors,
            size=size,
            sigma=sigma,
            matrices=matrices,
            seed=seed,
            seeds=seeds,
            frameworks=framework or (),
        )
    give("product", [study], [product_section(study)], out, json)
