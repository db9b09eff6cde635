"""The evidence in numbers that these runs give for each error of the published experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from gradlab_core.compare import published
from gradlab_core.compare.comparison import Run, summarize
from gradlab_core.compare.pages.nets import Net, nets
from gradlab_core.judge.bands import TINYNET_CIFAR10
from gradlab_core.records import ArchitectureRecord
from gradlab_core.show.spread import spread
from gradlab_core.show.words import framework_name
from gradlab_core.text import NOT_MEASURED, listed, number, with_std

Runs = Sequence[Run]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Sentences, and a table if there are many numbers of one kind."""

    lines: Sequence[str] = ()
    caption: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


MISSING = Evidence(["No run in this report shows it."])


def _of(runs: Runs, block: str) -> list[Net]:
    return nets(run for run in runs if run.block == block)


def no_skip(bad: Runs, good: Runs) -> Evidence:
    """Error 1: the disconnected parameters by name."""
    sentences = []
    for net in [*_of(bad, "preact_noskip"), *_of(good, "preact")]:
        lost = net.runs[0].initial.flow.disconnected
        what = f"no gradient reaches {listed(list(lost))}" if lost else "every parameter gets a gradient"
        sentences.append(f"{net.name}: {what}.")
    return Evidence(sentences) if sentences else MISSING


def no_padding(bad: Runs, good: Runs) -> Evidence:
    """Error 2: widths, FLOPs and parameters of both blocks."""
    rows = []
    for net in [*_of(bad, "plain_unpadded"), *_of(good, "plain")]:
        record = net.runs[0].initial
        widths = " → ".join(map(str, stage_widths(record)))
        rows.append([net.name, widths, f"{record.flops:,}", f"{record.params:,}"])
    columns = ["Block", "Image width by stage", "FLOPs for one image", "Parameters"]
    return Evidence([], "Same parameters, other geometry", columns, rows) if rows else MISSING


def stage_widths(record: ArchitectureRecord) -> list[int]:
    """The width of the images after the first layer and after each stage."""
    width: dict[str, int] = {}
    for row in record.layers:
        top, _, rest = row.path.partition(".")
        if len(row.shape) == 4 and (rest or not width):
            width[top if rest else ""] = row.shape[-1]
    return list(width.values())


def learning_rate(bad: Runs, good: Runs) -> Evidence:
    """Error 3: the rate that was really used, and how well it trained."""
    rows = []
    for net in [*nets(bad), *nets(good)]:
        first = [run.training.steps[0] for run in net.runs if run.training.steps]
        last = [run.training.epochs[-1].train_loss for run in net.runs if run.training.epochs]
        rates = sorted({step.learning_rate for step in first if step.learning_rate is not None})
        loss = number(spread(step.loss for step in first).mean)
        rows.append(
            [net.name, net.setup, ", ".join(map(number, rates)) or NOT_MEASURED, loss, number(spread(last).mean)]
        )
    sentence = (
        f"Stated: {published.LEARNING_RATE:g}. The table shows the rate really used and how far it took the loss."
    )
    columns = ["Net", "Set-up", "Rate of the first step", "Loss of the first step", "Mean loss of the last epoch"]
    return Evidence([sentence], "Learning rate really used, and what it trained", columns, rows)


def not_untrained(bad: Runs, good: Runs) -> Evidence:
    """Error 4: the same net untrained in eval mode, untrained in train mode, and after training."""
    rows = []
    for run in bad:
        row = [f"{run.block} · {framework_name(run.framework)}"]
        for record in (run.untrained_eval, run.initial, run.trained):
            row.append(number(record.activations.mean_std) if record else NOT_MEASURED)
            row.append(number(record.sensitivity) if record else NOT_MEASURED)
        rows.append(row)
    goods = ", ".join(f"{TINYNET_CIFAR10[n].label} {TINYNET_CIFAR10[n].good}" for n in ("mean_std", "sensitivity"))
    moments = ("untrained, eval mode", "untrained, train mode", "after training, eval mode")
    columns = ["Net", *(f"{what}: {moment}" for moment in moments for what in ("Mean std", "Logit change"))]
    return Evidence([f"The published bands: {goods}."], "The same nets at three moments", columns, rows)


def one_seed(bad: Runs, good: Runs) -> Evidence:
    """Error 5: the result of one seed beside the spread over several."""
    figures = [f for f in (*summarize(bad), *summarize(good)) if f.figure == "test_accuracy"]
    rows = [
        [f"{f.block} · {framework_name(f.framework)}", f.setup, str(f.seeds), with_std(f.figure, f.value, f.std)]
        for f in figures
    ]
    if not rows:
        return Evidence(["Test accuracy was not measured."])
    if any(f.std is not None for f in figures):
        sentence = "With several seeds the spread shows: a difference smaller than it says nothing about the block."
    else:
        sentence = "Every net was run from one seed here too, so this report cannot show the spread."
    return Evidence(
        [sentence], "Test accuracy, mean ± standard deviation", ["Net", "Set-up", "Seeds", "Accuracy"], rows
    )


def thresholds(bad: Runs, good: Runs) -> Evidence:
    """Error 6: how many of these gradients each published threshold would call vanishing."""
    norms = {
        f"{path} of {run.block}": norm
        for run in bad
        if run.framework == bad[0].framework
        for path, norm in run.initial.flow.layers.items()
        if norm is not None
    }
    sentences = [
        "Its example of a vanishing gradient, 8e-4, is 8 times its one threshold (1e-4), 800 times its other (1e-6)."
    ]
    if norms:
        counts = [f"{sum(v <= limit for v in norms.values())} up to {limit:g}" for limit in (8e-4, 1e-4, 1e-6)]
        least = min(norms, key=lambda path: norms[path])
        sentences.append(
            f"Of the {len(norms)} gradient norms of these nets at initialisation there are {listed(counts)}; the "
            f"smallest is {number(norms[least])} ({least})."
        )
    return Evidence(sentences)


def variance(bad: Runs, good: Runs) -> Evidence:
    """Error 7: arithmetic, for which no run is needed."""
    return Evidence(
        [
            f"A standard deviation of 0.01 is a variance of {0.01**2:g}; a variance of 0.01 is a standard deviation of "
            f"{0.01**0.5:g}. The two variances differ by a factor of {1 / 0.01:.0f}; that is plain arithmetic."
        ]
    )


EVIDENCE: dict[int, Callable[[Runs, Runs], Evidence]] = {
    1: no_skip,
    2: no_padding,
    3: learning_rate,
    4: not_untrained,
    5: one_seed,
    6: thresholds,
    7: variance,
}
"""The function that gives the evidence of each error, from the published runs and the correct runs."""
