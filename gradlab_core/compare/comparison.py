"""The results of `gradlab compare`: the runs it made, and figures over their seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from gradlab_core.judge import bands
from gradlab_core.records import ArchitectureRecord, TrainingRecord, Verdict
from gradlab_core.records.ranges import Count, Framework
from gradlab_core.text import number

AS_PUBLISHED, CORRECT = "as published", "correct"
INITIAL, TRAINED = "at initialisation", "after training"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One net from one seed in one framework, measured, trained, and measured again.

    Attributes:
        setup: `correct`, or `as published`, which repeats the errors of the published experiment.
        data, base, depth, batch_size: the data and the size of the net and of the batches.
        initial: measured before the first step, in train mode, since running statistics mean nothing yet.
        untrained_eval: the same untrained net in eval mode; measured only in the published set-up, to show its effect.
        trained: measured after training, in train mode like `initial` (in the published set-up in eval mode); None if
            the run diverged or trained for no epoch.
    """

    setup: str
    block: str
    framework: Framework
    seed: int
    data: str
    base: Count
    depth: tuple[Count, ...]
    batch_size: Count
    learning_rates: tuple[float, ...]
    initial: ArchitectureRecord
    untrained_eval: ArchitectureRecord | None
    training: TrainingRecord
    trained: ArchitectureRecord | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of one net over its seeds.

    `value` is the mean; None if no seed has the figure (a diverged run, a net without a linear layer). `std` is the
    sample standard deviation; None for a single seed or if a seed is not finite. `level` and `text` judge the mean.
    """

    setup: str
    block: str
    framework: str
    moment: str
    figure: str
    value: float | None
    std: float | None
    seeds: int
    level: str
    band: str | None
    text: str


_TRAINING_FIGURES = ("train_loss", "test_accuracy", "grad_norm_mean", "seconds")


def summarize(runs: Iterable[Run], *, judged_by: bands.BandSet | None = None) -> list[Figure]:
    """The mean and standard deviation over the seeds of every figure of every net, with a verdict on the mean: by the
    band set that was asked for, or else, for trained nets, by that of the same set-up, if there is one."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.setup, run.block, run.framework), []).append(run)
    return [figure for group in groups.values() for figure in _summarize_net(group, judged_by)]


def _summarize_net(runs: list[Run], judged_by: bands.BandSet | None) -> list[Figure]:
    rows: list[Figure] = []
    own = bands.suited(runs[0].data, runs[0].base, runs[0].depth)

    def add(moment: str, figure: str, values: list[float | None], *, judged: bool = False) -> None:
        known = [v for v in values if v is not None]
        mean = float(np.mean(known)) if known else None
        # There is no spread if one of the seeds is infinite.
        std = float(np.std(known, ddof=1)) if len(known) > 1 and np.isfinite(known).all() else None
        known_bands = judged_by or (own if moment == TRAINED else None)
        verdict = _judged(figure, mean, known_bands) if judged else None
        where = {"setup": runs[0].setup, "block": runs[0].block, "framework": runs[0].framework, "moment": moment}
        rows.append(
            Figure(
                **where,
                figure=figure,
                value=mean,
                std=std,
                seeds=len(known),
                level=verdict.level if verdict else "none",
                band=verdict.band if verdict else None,
                text=verdict.text if verdict else "",
            )
        )

    add(INITIAL, "params", [float(run.initial.params) for run in runs])
    add(INITIAL, "flops", [float(run.initial.flops) for run in runs])
    add(INITIAL, "layers_tracked", [float(run.initial.activations.layers_tracked) for run in runs])
    for moment, records in ((INITIAL, [r.initial for r in runs]), (TRAINED, [r.trained for r in runs if r.trained])):
        measured = [bands.figures(r.activations, r.flow, r.sensitivity) for r in records]
        for name in measured[0] if measured else ():
            add(moment, name, [m[name] for m in measured], judged=True)
    rows.append(_disconnected(runs))
    last = [run.training.epochs[-1] for run in runs if run.training.epochs]
    for name in _TRAINING_FIGURES if last else ():
        add("last epoch", name, [getattr(epoch, name) for epoch in last])
    return rows


def _judged(figure: str, mean: float | None, band_set: bands.BandSet | None) -> Verdict | None:
    """Judge a figure. In every set-up an infinite figure is bad, and a missing one is unknown."""
    if band_set is not None:
        return band_set[figure].judge(mean, band_set.name)
    if mean is not None and math.isfinite(mean):
        return None
    level = "bad" if mean is not None and math.isinf(mean) else "unknown"
    return Verdict(figure=figure, value=mean, level=level, band=None, text=f"{figure}: {number(mean)}")


def _disconnected(runs: list[Run]) -> Figure:
    verdict = max((bands.connected(run.initial.flow) for run in runs), key=lambda v: v.value or 0.0)
    run = runs[0]
    return Figure(
        setup=run.setup,
        block=run.block,
        framework=run.framework,
        moment=INITIAL,
        figure="disconnected",
        value=verdict.value,
        std=None,
        seeds=len(runs),
        level=verdict.level,
        band=verdict.band,
        text=verdict.text,
    )


def findings(runs: Iterable[Run]) -> list[str]:
    """What is wrong in any set-up, in words: parameters without a gradient, numbers that are not finite, runs that
    diverged. Bands are not used, since they belong to one set-up."""
    sentences: dict[str, None] = {}
    for run in runs:
        name = f"{run.block} ({run.framework}, {run.setup})"
        if run.initial.flow.disconnected:
            sentences[f"{name}: no gradient reaches {', '.join(run.initial.flow.disconnected)}"] = None
        if run.training.diverged_at is not None:
            step = run.training.steps[-1]
            sentences[
                f"{name}, seed {run.seed}: diverged at step {step.step}: loss {number(step.loss)}, "
                f"gradient norm {number(step.grad_norm)}"
            ] = None
        odd = sum(row.nonfinite for row in run.initial.layers)
        if odd:
            sentences[f"{name}, seed {run.seed}: {odd} elements of activations are NaN or Inf at initialisation"] = None
        if not math.isfinite(run.initial.flow.loss):
            sentences[f"{name}, seed {run.seed}: the loss at initialisation is {number(run.initial.flow.loss)}"] = None
    return list(sentences)


def differences(runs: Iterable[Run]) -> list[tuple[str, int, str, Mapping[str, float | None]]]:
    """`(block, seed, moment, {figure: JAX − PyTorch})` for every net that was run in both frameworks."""
    pairs: dict[tuple[str, str, int], dict[str, Run]] = {}
    for run in runs:
        pairs.setdefault((run.setup, run.block, run.seed), {})[run.framework] = run
    rows: list[tuple[str, int, str, Mapping[str, float | None]]] = []
    for (setup, block, seed), pair in pairs.items():
        if set(pair) != {"torch", "jax"} or setup != CORRECT:
            continue
        for moment in (INITIAL, TRAINED):
            jax, torch = (pair[f].initial if moment == INITIAL else pair[f].trained for f in ("jax", "torch"))
            if jax is not None and torch is not None:
                rows.append((block, seed, moment, _subtract(jax, torch)))
    return rows


def _subtract(a: ArchitectureRecord, b: ArchitectureRecord) -> dict[str, float | None]:
    left, right = (bands.figures(r.activations, r.flow, r.sensitivity) for r in (a, b))
    return {n: None if (p := left[n]) is None or (q := right[n]) is None else p - q for n in left}
