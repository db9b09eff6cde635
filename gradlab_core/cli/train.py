"""`gradlab train`: one net, every step recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output, threads
from gradlab_core.cli.compare import parse_depth
from gradlab_core.sinks.opening import FORMS, open_sinks

if TYPE_CHECKING:
    from gradlab_core.records import StepRecord


def train(
    framework: output.OneFrameworkOption = None,
    block: Annotated[str, typer.Option("--block", "-b", help="The residual block.")] = "preact",
    base: Annotated[int, typer.Option(help="Channels of the first stage.")] = 8,
    depth: Annotated[str, typer.Option(help="Blocks in each stage, as 2,2,2.")] = "2,2,2",
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Training examples a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of SGD with momentum 0.9.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the weights and the batches.")] = 0,
    data: output.DataOption = "digits",
    data_dir: output.DataDirOption = None,
    probe_every: Annotated[
        int, typer.Option(help="Look at activations, inputs and units at every so many steps, for diagnose; 0: never.")
    ] = 20,
    out: Annotated[Path | None, typer.Option(help="Write the record of the run to this JSON file.")] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help=f"Where each record goes as it comes; repeat for several: {FORMS}."),
    ] = None,
    json: output.JsonOption = False,
) -> None:
    """Train one net and record every norm, ratio and state of every step.

    Example: `gradlab train --framework jax --block postact --epochs 2 --sink jsonl:run.jsonl`

    Exit code 1 when the run diverges; its records are kept up to that step.
    """
    from gradlab_core import backends
    from gradlab_core.programs.data import Batches, evaluation_batches, load_data
    from gradlab_core.programs.specs import ModelSpec, TrainSpec
    from gradlab_core.programs.training import check_probing
    from gradlab_core.records import codec

    check_probing(probe_every)
    spec = TrainSpec(epochs=epochs, learning_rate=learning_rate)
    images = load_data(data, data_dir)
    model_spec = ModelSpec(block=block, base=base, layers=parse_depth(depth), num_classes=len(images.class_names))
    batches = Batches(images, batch_size=batch_size, seed=seed, augment=True)
    framework = output.chosen_framework(framework)
    threads.choose(base)
    twin = backends.load(framework)
    output.output_file(out)
    steps: list[StepRecord] = []
    try:
        with open_sinks(sink or []) as written, output.progress(json) as bar:
            task = bar.add_task(f"{framework} · {block}", total=epochs * len(batches))

            def on_step(record: StepRecord) -> None:
                steps.append(record)
                written(record)
                bar.advance(task)

            record = twin.train(
                twin.build(model_spec, seed=seed),
                batches,
                spec,
                on_step=on_step,
                probe_every=probe_every,
                test=lambda: evaluation_batches(images),
            )
    finally:
        # This also runs when the user interrupts, so that what was measured is kept.
        if out is not None:
            codec.write_text(out, codec.document("step", steps))
    if json:
        typer.echo(codec.document("step", record.steps))
    else:
        _show(record)
    if record.diverged_at is not None:
        raise typer.Exit(output.FOUND_SOMETHING)


def _show(record: object) -> None:
    from gradlab_core.cli.tables import cell
    from gradlab_core.records import TrainingRecord

    assert isinstance(record, TrainingRecord)
    console = output.console()
    for epoch in record.epochs:
        console.print(
            f"epoch {epoch.epoch}: loss {cell(epoch.train_loss)}, test accuracy {cell(epoch.test_accuracy)}, "
            f"mean gradient norm {cell(epoch.grad_norm_mean)}, {cell(epoch.seconds)} s"
        )
    last = record.steps[-1] if record.steps else None
    if record.diverged_at is not None and last is not None:
        console.print(
            f"diverged at step {last.step}: loss {cell(last.loss)}, gradient norm {cell(last.grad_norm)}, "
            f"learning rate {cell(last.learning_rate)}; first tensors that are not finite: "
            f"{', '.join([p for p, s in last.states.items() if s == 'nonfinite'][:3]) or 'none, only the loss'}",
            soft_wrap=True,
        )
