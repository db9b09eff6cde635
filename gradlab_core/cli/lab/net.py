"""The options of the net under test, which several commands of `gradlab lab` share."""

from __future__ import annotations

from typing import Annotated

import typer

INITIALIZERS = (
    "constant", "normal", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "lecun_normal",
    "orthogonal", "torch_default",
)  # fmt: skip
"""The names in `gradlab_core.definitions.initializers`, repeated here so that a help text need not import NumPy."""

DepthOption = Annotated[int, typer.Option(help="Layers of the net.")]
WidthOption = Annotated[int, typer.Option(help="Units of each.")]
ActivationOption = Annotated[
    str, typer.Option("--activation", "-a", help="Between the layers; `gradlab lab activations` lists them.")
]
InitOption = Annotated[
    str | None, typer.Option(help=f"{', '.join(INITIALIZERS)}. Default: xavier_uniform, unless --sigma-w is given.")
]
NumberOption = Annotated[float | None, typer.Option(help="The value, std or gain of the initialiser.")]
SigmaWOption = Annotated[
    float | None, typer.Option(help="Instead of an initialiser: weights N(0, σ_w²/fan_in).", show_default=False)
]
SigmaBOption = Annotated[float, typer.Option(help="With --sigma-w: biases N(0, σ_b²).")]
