"""`gradlab parity`: do the two twins train the same?"""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab_core.cli import output, threads
from gradlab_core.cli.compare import parse_depth


def parity(
    block: Annotated[list[str] | None, typer.Option("--block", "-b", help="Repeat for several; default: all.")] = None,
    base: Annotated[int, typer.Option(help="Channels of the first stage.")] = 4,
    depth: Annotated[str, typer.Option(help="Blocks in each stage, as 1,1,1.")] = "1,1,1",
    steps: Annotated[int, typer.Option(help="Training steps to follow.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples in the batch.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    precision: Annotated[
        str,
        typer.Option(
            help="What products of float32 are made in, on both sides: highest, tf32, bfloat16, float16; as-is sets "
            "nothing and measures what each side uses."
        ),
    ] = "highest",
    json: output.JsonOption = False,
) -> None:
    """Prove that the PyTorch and the JAX twin train the same, tensor by tensor, against a float64 oracle.

    Example: `gradlab parity --block preact --steps 5 --precision tf32`

    Exit code 1 when parity is broken; the first tensor that differs is named.
    """
    from gradlab_core import backends
    from gradlab_core.definitions.noise import default_noise
    from gradlab_core.parity import ParityRow, compare, moved
    from gradlab_core.parity.arithmetic import check_precision
    from gradlab_core.programs.data import load_data, probe
    from gradlab_core.programs.specs import BLOCKS, ModelSpec, TrainSpec
    from gradlab_core.records import codec

    check_precision(precision)
    specs = [ModelSpec(block=b, base=base, layers=parse_depth(depth)) for b in dict.fromkeys(block or BLOCKS)]
    threads.choose(base)
    torch, jax = backends.load("torch"), backends.load("jax")
    x, y = probe(load_data("digits"), batch_size, seed)
    # Digits are made of equal pixels and equal channels, in which a mix-up could hide.
    x = x + default_noise(x.shape, seed=seed, epsilon=0.1)
    optimizer = TrainSpec(learning_rate=0.05)
    rows: list[ParityRow] = []
    broken = False
    with output.progress(json) as bar:
        for spec in bar.track(specs, description="comparing"):
            models = [twin.build(spec, seed=seed) for twin in (torch, jax)]
            torch.from_canonical(models[0], moved(torch.to_canonical(models[0]), seed=seed))
            sides = [twin.Subject(m, optimizer=optimizer) for twin, m in zip((torch, jax), models, strict=True)]
            report = compare(sides[0], sides[1], (x, y), steps=steps, precision=precision)
            broken = broken or bool(report.failures)
            if json:
                rows += report.rows
            else:
                output.console().print(f"{spec.block}: {report}", markup=False, soft_wrap=True)
    if json:
        typer.echo(codec.document("parity", rows))
    if broken:
        raise typer.Exit(output.FOUND_SOMETHING)
