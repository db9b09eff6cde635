"""`gradlab parity`: two subjects of the user's, or the two twins, judged at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output, threads
from gradlab_core.cli.compare import parse_depth
from gradlab_core.cli.lab.target import loose
from gradlab_core.cli.parity.shared import BatchOption, HtmlOption, PrecisionOption, give
from gradlab_core.errors import refuse

if TYPE_CHECKING:
    from gradlab_core.parity import ParityReport

_OF_OUR_NETS = ("block", "base", "depth", "batch_size", "seed")


def live(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REFERENCE CANDIDATE",
            help="MODULE:NAME of a Subject, or of a function that returns one or (subject, batch). Default: gradlab's "
            "own nets, in PyTorch and in JAX.",
            show_default=False,
        ),
    ] = None,
    batch: BatchOption = None,
    block: Annotated[list[str] | None, typer.Option("--block", "-b", help="Repeat for several; default: all.")] = None,
    base: Annotated[int, typer.Option(help="Channels of the first stage.")] = 4,
    depth: Annotated[str, typer.Option(help="Blocks in each stage, as 1,1,1.")] = "1,1,1",
    steps: Annotated[int, typer.Option(help="Training steps to follow.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples in the batch.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    precision: PrecisionOption = None,
    html: HtmlOption = None,
    json: output.JsonOption = False,
) -> None:
    """Prove that two models train the same, tensor by tensor, against a float64 oracle.

    Example: `gradlab parity mypackage.port:original mypackage.port:port --batch mypackage.port:batch --steps 5`, where
    `original()` and `port()` return a `gradlab_torch.Subject` or a `gradlab_jax.Subject`

    Example: `gradlab parity --block preact --steps 5 --precision tf32`, gradlab's own nets in PyTorch and in JAX

    `gradlab parity record` and `gradlab parity compare` do it in two places: each framework writes a trace, and the
    traces are judged where neither is installed.

    Exit code 1 when parity is broken; the first tensor that differs is named.
    """
    named = targets or []
    problems = []
    if len(named) not in (0, 2):
        came = f"one target, {named[0]}" if len(named) == 1 else f"{len(named)} targets"
        problems.append(f"came {came}; expected the reference and the candidate, or none for gradlab's own nets")
    if named:
        problems += loose(context, " ".join(named), _OF_OUR_NETS)
    elif batch is not None:
        problems.append("--batch is for subjects of your own; gradlab's own nets have theirs: --batch-size, --seed")
    refuse("parity", problems)
    output.output_file(html)
    if named:
        reports = {" and ".join(named): _users(named, batch, steps, precision)}
    else:
        reports = _twins(block, base, depth, steps, batch_size, seed, precision, quiet=json)
    give(reports, json=json, html=html, named=not named)


def _users(named: Sequence[str], batch: str | None, steps: int, precision: str | None) -> ParityReport:
    from gradlab_core.cli.parity import targets
    from gradlab_core.cli.target import running
    from gradlab_core.parity import compare

    reference, candidate = map(targets.subject, named)
    given = targets.chosen_batch(batch, reference, named[0])
    with running(f"training {named[0]} beside {named[1]} failed", candidate.file):
        return compare(reference.subject, candidate.subject, given, steps=steps, precision=precision)


def _twins(
    block: list[str] | None,
    base: int,
    depth: str,
    steps: int,
    batch_size: int,
    seed: int,
    precision: str | None,
    *,
    quiet: bool,
) -> dict[str, ParityReport]:
    from gradlab_core import backends
    from gradlab_core.definitions.noise import default_noise
    from gradlab_core.parity import compare, moved
    from gradlab_core.parity.arithmetic import check_precision
    from gradlab_core.programs.data import load_data, probe
    from gradlab_core.programs.specs import BLOCKS, ModelSpec, TrainSpec

    if precision is not None:
        check_precision(precision)
    specs = [ModelSpec(block=b, base=base, layers=parse_depth(depth)) for b in dict.fromkeys(block or BLOCKS)]
    threads.choose(base)
    torch, jax = backends.load("torch"), backends.load("jax")
    x, y = probe(load_data("digits"), batch_size, seed)
    # Digits are made of equal pixels and equal channels, in which a mix-up could hide.
    x = x + default_noise(x.shape, seed=seed, epsilon=0.1)
    optimizer = TrainSpec(learning_rate=0.05)
    reports = {}
    with output.progress(quiet) as bar:
        for spec in bar.track(specs, description="comparing"):
            models = [twin.build(spec, seed=seed) for twin in (torch, jax)]
            torch.from_canonical(models[0], moved(torch.to_canonical(models[0]), seed=seed))
            sides = [twin.Subject(m, optimizer=optimizer) for twin, m in zip((torch, jax), models, strict=True)]
            reports[spec.block] = compare(sides[0], sides[1], (x, y), steps=steps, precision=precision)
    return reports
