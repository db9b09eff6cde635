"""What must hold on any processor, as a script: run by `test_processors` under other instruction sets and threads.

Set by variables that are read when a framework is loaded, so it needs a process of its own.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.recurrent import CELLS
from gradlab_core.parity import compare, moved
from gradlab_core.programs.specs import BLOCKS, ModelSpec, TrainSpec
from parity_tests.conftest import FLAT, batch_for
from tests.snippets import SNIPPETS, promised

# The last stage has the strided 1×1 convolution of few channels whose backward is not safe everywhere.
SPECS = {block: ModelSpec(block=block, base=2, layers=(1, 1)) for block in BLOCKS}
SPECS |= {cell: ModelSpec(kind="recurrent", cell=cell, features=3, hidden=4, num_classes=2) for cell in CELLS}
SPECS |= {name: FLAT[name] for name in ("mlp", "transformer")}


def agree(spec: ModelSpec) -> None:
    """Both twins train alike, every tensor within the rounding expected of it."""
    weights = moved(gradlab_torch.to_canonical(gradlab_torch.build(spec, seed=1)), seed=1)
    models = gradlab_torch.build(spec, seed=0), gradlab_jax.build(spec, seed=0)
    training = TrainSpec(learning_rate=0.05, momentum=0.9, weight_decay=5e-4)
    sides = []
    for twin, model in zip((gradlab_torch, gradlab_jax), models, strict=True):
        twin.from_canonical(model, weights)
        sides.append(twin.Subject(model, optimizer=training))
    report = compare(*sides, batch_for(spec), steps=2)
    assert not report.failures, f"{spec}: {report}"


def train(base: int) -> None:
    """A tiny net trains, the strided 1×1 convolutions of its later stages included."""
    spec = ModelSpec(block="postact", base=base, layers=(1, 1, 1))
    model = gradlab_torch.build(spec, seed=0)
    x, y = batch_for(spec, examples=16)

    class Batches:
        def epoch(self, epoch: int) -> list:
            return [(x, y)] * 3

    gradlab_torch.train(model, Batches(), TrainSpec(learning_rate=0.05))


def print_as_promised(snippet: str) -> None:
    """A snippet of the README prints what stands beside it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()) as printed:
        Path("snippet.py").write_text(snippet)
        runpy.run_path("snippet.py", run_name="__main__")
    assert printed.getvalue().splitlines() == promised(snippet), printed.getvalue()


def main() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for base in (1, 2, 3, 4, 8):
        train(base)
    for name in sys.argv[1:] or SPECS:
        agree(SPECS[name])
    for snippet in SNIPPETS[:2]:
        print_as_promised(snippet)
    print(f"all held: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
