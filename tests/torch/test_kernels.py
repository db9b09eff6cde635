"""Norms and monitor as a GPU has them: kernels interpreted and compiled, PyTorch's own where there is no Triton."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import gradlab_torch
from gradlab_core.backends import is_below
from gradlab_core.definitions import reference
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees import norm_arithmetic as norms
from gradlab_torch.trees import transfer as transfer

ROOT = Path(__file__).parents[2]
INTERPRETED = ("tests/torch/interpreted.py", "tests/torch/interpreted_promise.py")


def run(code_or_file, *args, **variables):
    return subprocess.run(
        [sys.executable, *code_or_file, *args],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_way_of_a_gpu_interpreted():
    triton = pytest.importorskip("triton")
    if is_below(triton.__version__, "3.3") and not is_below(np.__version__, "2.2"):
        pytest.skip(f"the interpreter of Triton {triton.__version__} does not run with NumPy {np.__version__}")
    done = run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *INTERPRETED],
        TRITON_INTERPRET="1",
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\d\d passed", done.stdout), done.stdout[-1000:]


COMPILE = """
import re, sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gradlab_torch.trees import kernels as k

def built(kernel, signature, constants):
    card = GPUTarget("cuda", int(sys.argv[1]), 32)
    return triton.compile(ASTSource(kernel, signature, constants), target=card).asm["ptx"]

size = {"WIDTH": k.WIDTH, "ROUNDS": k.ROUNDS}
table = dict.fromkeys(["sizes", "owners", "firsts"], "*i64")
for kind in (tl.float32, tl.bfloat16, tl.float16, tl.float64):
    is_double = kind == tl.float64
    stored = tl.uint16 if kind == tl.bfloat16 else kind
    for way in (k.READ, k.COPY, k.SUBTRACT):
        ptx = built(
            k.squares,
            {"addresses": "*i64", "olds": "*i64", "grads": "*i64", **table, "sums": "*fp64"},
            {"TYPE": kind, "STORED": stored, "WAY": way, "IS_DOUBLE": is_double, "IS_ALIGNED": True, **size},
        )
        assert re.search(r"ld\\.global\\.v[24]", ptx), "loads of 16 bytes"
        assert ("st.global.v" in ptx) == (way == k.COPY)
        assert "f64" in ptx and ".local" not in ptx
    built(
        k.moved,
        {"addresses": "*i64", "rates": "*fp64", "firsts_of_adam": "*fp64", "seconds_of_adam": "*fp64", "still": "*i64",
         **table, "bits": "*i32", "count": "i32"},
        {"TYPE": kind, "STORED": stored, "WIDE": tl.float64 if is_double else tl.float32, **size},
    )
    for products in (False, True):
        norms = "*fp64" if is_double or products else "*fp32"
        built(
            k.roots,
            {"sums": "*fp64", "starts": "*i64", "norms": norms, "blocks": "i32"},
            {"IS_DOUBLE": is_double, "PRODUCTS": products, "WIDTH": 256},
        )
print("compiled")
"""


@pytest.mark.parametrize("capability", ["75", "90"])
def test_kernels_compile_for_a_gpu_that_is_not_here(capability, tmp_path):
    pytest.importorskip("triton")
    done = run(["-c", COMPILE], capability, TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    assert done.stdout == "compiled\n", done.stderr[-3000:]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_without_triton_pytorchs_own_kernel_keeps_the_range(scale, monkeypatch):
    """The way of ROCm, of Windows and of a CUDA graph, taken here by calling the CPU another device."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) * scale for shape in ((5,), (64, 70), (3, 2))]
    monkeypatch.setattr(norms, "ways", lambda tensors: [("foreach", list(range(len(tensors))))])
    found = gradlab_torch.leaf_norms([torch.from_numpy(a).float() for a in arrays])
    for norm, a in zip(found.values(), arrays, strict=True):
        assert norm.dtype == torch.float32
        assert float(norm) == pytest.approx(reference.global_norm([a.astype(np.float32)]), rel=1e-6)


def test_a_card_that_triton_does_not_know_is_told_once(monkeypatch):
    launches._is_proven.cache_clear()
    monkeypatch.setattr(launches, "_kernels", object)
    monkeypatch.setattr(launches, "norms", lambda tensors: 1 / 0)
    try:
        with pytest.warns(UserWarning, match=r"Triton does not run on cpu.*ZeroDivisionError"):
            assert not launches._is_proven(torch.device("cpu"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not launches._is_proven(torch.device("cpu"))
    finally:
        launches._is_proven.cache_clear()


def test_without_triton_nothing_is_launched(monkeypatch):
    monkeypatch.setattr(launches, "_kernels", lambda: None)
    monkeypatch.setattr(launches, "_interpreted", lambda: True)
    assert not launches.works(torch.device("cpu"))


def test_a_compiled_optimizer_is_monitored_alike():
    def records(wrapped):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        found = []
        step = wrapped(optimizer.step)
        with gradlab_torch.Monitor(model, optimizer, on_record=found.append):
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.ones(4, 3)).square().sum().backward()
                step()
        return [number for r in found for number in (r.step, r.update_norm, r.grad_norm)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dynamo tells what it leaves out
        compiled = records(lambda step: torch.compile(lambda: step(), backend="eager"))
    assert compiled == pytest.approx(records(lambda step: step), rel=1e-4)
    assert len(compiled) == 9


def test_a_copy_is_waited_for_on_the_device_it_comes_from(monkeypatch):
    """With parameters on several cards, an event of the current one would say nothing of another's copy."""
    said, current = [], [0]

    class Device:
        def __init__(self, device):
            self.index = device.index

        def __enter__(self):
            self.before, current[0] = current[0], self.index

        def __exit__(self, *_):
            current[0] = self.before

    class Event:
        def record(self):
            said.append(("event", current[0]))

    class There:
        device, shape, dtype = torch.device("cuda", 1), (3,), torch.float64

    class Pinned:
        def copy_(self, vector, non_blocking):
            said.append(("copy", current[0], non_blocking))

    def empty(shape, dtype, pin_memory):
        assert (shape, dtype, pin_memory) == ((3,), torch.float64, True)
        return Pinned()

    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", empty)
    transfer._sent(There())
    assert said == [("copy", 1, True), ("event", 1)]
    assert current == [0]


def test_what_is_made_for_the_interpreter_never_sees_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(launches, "_is_proven", lambda device: True)
    assert launches.works(torch.device("cuda"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not launches.works(torch.device("cuda"))
