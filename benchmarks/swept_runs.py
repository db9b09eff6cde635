"""Folders of made-up runs: nets of which some do not learn, for a reason that lies in a hyperparameter."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gradlab_core.records import GradientState, StepRecord, TensorNorms
from gradlab_core.sinks import ColumnSink
from gradlab_core.sinks.columns import FRAME, HEADER, NOTE, NUMBER, frame

KINDS = ("healthy", "too high", "too low", "vanishing")
DRAWS = 2
"""Different runs of each kind; the others of a sweep are copies with hyperparameters of their own."""


def made_up(kind: str, steps: int, tensors: int, seed: int) -> Iterator[StepRecord]:
    """The records of a run. Norms are float32 numbers, as monitors measure them, ratios their quotients in float64."""
    rng = np.random.default_rng(seed)
    paths = [f"layer{i // 2}.{('weight', 'bias')[i % 2]}" for i in range(tensors)]
    states = dict.fromkeys(paths, GradientState.OK)
    faint = np.where(np.arange(tensors) < tensors // 2, 1e-7, 1.0) if kind == "vanishing" else np.ones(tensors)
    length = {"too high": 0.3, "too low": 1e-7}.get(kind, 1e-3)
    for step in range(steps):
        param, grad = np.exp(0.1 * rng.standard_normal((2, tensors))).astype(np.float32).astype(float)
        grad = (0.1 * faint * grad).astype(np.float32).astype(float)
        update = (length * param).astype(np.float32).astype(float)
        norms = zip(*(column.tolist() for column in (param, grad, update, update / param)), strict=True)
        falls = {"healthy": 0.1 + math.exp(-3 * step / steps), "too high": 1 + step / steps}.get(kind, 1.0)
        sizes = [float(np.linalg.norm(column)) for column in (param, grad, update)]
        yield StepRecord(
            step=step, loss=math.log(2) * falls * float(1 + 0.01 * rng.standard_normal()), learning_rate=0.01,
            param_norm=sizes[0], grad_norm=sizes[1], update_norm=sizes[2], update_ratio=sizes[2] / sizes[0],
            states=states, tensors={p: TensorNorms(param=a, grad=b, update=c, ratio=d)
                                    for p, (a, b, c, d) in zip(paths, norms, strict=True)},
        )  # fmt: skip


def draw_config(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """The hyperparameters of a run, and the kind of run that they make."""
    config = {
        "learning_rate": float(f"{10 ** rng.uniform(-6, 1):.2g}"),
        "activation": str(rng.choice(["relu", "tanh", "sigmoid"])),
        "width": int(rng.choice([64, 128, 256])),
        "seed": int(rng.integers(1000)),
        "optimizer": "adam",
    }
    if config["activation"] == "sigmoid":
        return "vanishing", config
    return "too high" if config["learning_rate"] >= 1 else "too low" if config[
        "learning_rate"
    ] < 1e-5 else "healthy", config


def write_sweep(folder: Path, runs: int, steps: int, tensors: int, seed: int = 0) -> None:
    """Write `runs` runs to `folder`, each to a folder of its own; those that are there stay."""
    rng = np.random.default_rng(seed)
    first: dict[tuple[str, int], Path] = {}
    for i in range(runs):
        kind, config = draw_config(rng)
        file = folder / f"{i:03d}" / "run.gradlab"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw = kind, i % DRAWS
        source = first.setdefault(draw, file)
        if file.exists():
            continue
        if source is not file:
            _copy(source, file, config)
        else:
            with ColumnSink(file, config=config) as sink:
                for record in made_up(kind, steps, tensors, i):
                    sink(record)


def _copy(source: Path, file: Path, config: dict[str, Any]) -> None:
    """The same records with other hyperparameters, which are the first note of the file."""
    with source.open("rb") as old, file.open("wb") as new:
        old.seek(len(HEADER))
        length, _ = FRAME.unpack(old.read(FRAME.size))
        old.seek(NUMBER.size + length, 1)
        new.write(HEADER + frame(NOTE, json.dumps({"attempt": 0, "config": config}).encode()))
        shutil.copyfileobj(old, new, 1 << 20)
