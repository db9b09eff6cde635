"""The way that a GPU takes, on the CPU: kernels by Triton's interpreter, copies that arrive late.

Run with TRITON_INTERPRET=1 (`tests/torch/test_kernels.py` does). Without it the same tests run on a CUDA device, its
kernels compiled: `pytest tests/torch/interpreted.py` (`make device` does).
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.errors import GradlabError
from gradlab_torch.monitoring import lost as lost
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees import transfer as transfer

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
TYPES = {torch.float32: 1e-6, torch.bfloat16: 1e-6, torch.float16: 1e-6, torch.float64: 1e-14}


def placed(t):
    """The same numbers on the device, laid out in the same way."""
    if DEVICE.type == "cpu":
        return t
    whole = t.new_empty(t.untyped_storage().nbytes() // t.element_size()).set_(t.untyped_storage())
    return whole.to(DEVICE).as_strided(t.shape, t.stride(), t.storage_offset())


def assert_norms(tensors):
    tensors = [placed(t) for t in tensors]
    found = gradlab_torch.leaf_norms(tensors)
    for (path, norm), t in zip(found.items(), tensors, strict=True):
        wide = t.to(torch.complex128 if t.is_complex() else torch.float64).cpu().numpy()
        wanted = reference.global_norm([wide.view(np.float64) if t.is_complex() else wide])
        limit = TYPES.get(t.dtype, 1e-6)
        assert float(norm) == pytest.approx(wanted, rel=limit, abs=0, nan_ok=True), (path, t.dtype, t.shape)


@pytest.mark.parametrize("dtype", TYPES)
def test_norms_over_the_range_of_the_type(dtype):
    rng = np.random.default_rng(0)
    kind = torch.finfo(dtype)
    sizes = [1.0, kind.max / 100, math.sqrt(kind.max) * 8, kind.tiny * 4, math.sqrt(kind.tiny) / 8]
    shapes = [(3,), (5, 7), (16384,), (16385,)]  # below, at and beyond a block
    tensors = [
        torch.from_numpy(rng.uniform(-1, 1, shape) * (size if math.prod(shape) < 100 else size / 300)).to(dtype)
        for size in sizes
        for shape in shapes
    ]
    assert_norms(tensors)
    assert_norms([torch.tensor(values, dtype=dtype) for values in ([1, math.nan, math.inf], [-math.inf, 1.0], [0.0])])


def test_norms_of_every_layout():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, 8, 8, generator=rng)
    assert_norms(
        [
            x,
            x.to(memory_format=torch.channels_last),
            x.transpose(1, 2),
            x[:, ::2],  # gaps: measured row by row
            x[:1].expand(3, 6, 8, 8),  # each element three times
            x.flatten()[1:18],  # not aligned to 16 bytes
            torch.zeros(0),
            torch.randn((), generator=rng),
            torch.randn(5, dtype=torch.complex64, generator=rng),
            torch.arange(5),
        ]
    )


def net(dtype=torch.float32, layers=1):
    torch.manual_seed(0)
    parts = [torch.nn.Linear(6, 6) for _ in range(layers)]
    return torch.nn.Sequential(*parts, torch.nn.Tanh(), torch.nn.Linear(6, 3)).to(DEVICE, dtype)


def backward(monitor):
    """All of a step but the optimizer's part."""
    dtype = next(monitor.model.parameters()).dtype
    monitor.optimizer.zero_grad()
    loss = (
        monitor.model(torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)).square().mean()
    )
    loss.backward()
    monitor.observe(loss)


def train(make, dtype=torch.float32, steps=2, layers=1, **options):
    """The records of a short run."""
    model, records = net(dtype, layers), []
    optimizer = make(model.parameters())
    with gradlab_torch.Monitor(model, optimizer, on_record=records.append, **options) as monitor:
        for _ in range(steps):
            backward(monitor)
            optimizer.step()
    return records


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4),
    "a rate that is lost": lambda p: torch.optim.Adam(p, lr=1e-30, eps=1e-4),
    "a rate of 0": lambda p: torch.optim.SGD(p, lr=0.0),
    "a rate in a tensor": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.5, device=DEVICE), eps=1e-4, foreach=False),
}


EACH = [*((name, torch.float32) for name in OPTIMIZERS), ("momentum", torch.float64), ("adam", torch.float16)]
EACH += [(name, torch.bfloat16) for name in ("momentum", "a rate that is lost")]


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_records_are_those_of_the_other_way(name, dtype, monkeypatch):
    launched = train(OPTIMIZERS[name], dtype, extras=("distance", "grad_cosine"))
    monkeypatch.setattr(launches, "works", lambda device: False)
    plain = train(OPTIMIZERS[name], dtype, extras=("distance", "grad_cosine"))
    for a, b in zip(launched, plain, strict=True):
        assert a.states == b.states
        assert (a.step, a.learning_rate, a.skipped, a.loss) == (b.step, b.learning_rate, b.skipped, b.loss)
        for path in b.tensors:
            for quantity in ("param", "grad", "update", "ratio", "distance"):
                one, other = getattr(a.tensors[path], quantity), getattr(b.tensors[path], quantity)
                assert one == pytest.approx(other, rel=1e-6, abs=0), (path, quantity)
            one, other = a.tensors[path], b.tensors[path]
            for mine, theirs, size in (
                (one.grad_update, other.grad_update, one.grad * one.update),
                (one.param_update, other.param_update, one.param * one.update),
            ):
                assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6 * size), path


def test_another_layout_in_the_place_of_a_parameter():
    model = torch.nn.Conv2d(3, 4, 3).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model.weight.grad = torch.ones_like(model.weight)

    def turned(*_):
        model.weight.data = model.weight.data.clone(memory_format=torch.channels_last)

    with gradlab_torch.Monitor(model, optimizer) as monitor:
        optimizer.register_step_post_hook(turned)
        # Ours stands before it: the turn is to be within the step that is measured.
        optimizer._optimizer_step_post_hooks.move_to_end(next(iter(optimizer._optimizer_step_post_hooks)))
        optimizer.step()
        assert monitor.last.tensors["weight"].update == 0.0


@pytest.mark.parametrize("dtype", TYPES)
def test_what_rounding_swallows_is_found_by_the_kernel(dtype):
    """Held against the rule in PyTorch's own arithmetic, at rates around where updates begin to be lost."""
    rng = np.random.default_rng(0)
    kind, cases = torch.finfo(dtype), []
    for rate in (0.0, *(float(kind.eps) * 2.0**k for k in (-1.5, 1))):
        for kept in ((), ("momentum_buffer",), ("exp_avg", "exp_avg_sq"), ("momentum_buffer", "exp_avg", "exp_avg_sq")):
            p, g, m, a = (torch.from_numpy(rng.uniform(0.5, 2, (7, 3))).to(DEVICE, dtype) for _ in range(4))
            moments = {"momentum_buffer": m * rng.choice([1e-3, 1.0]), "exp_avg": a * 0.3, "exp_avg_sq": a * a}
            state = {"step": 3, **{name: moments[name] for name in kept}}
            g = g * torch.from_numpy(rng.choice([1e-3, 1.0, -2.0], (7, 3))).to(DEVICE, dtype)
            cases.append(lost._Case(p, g, state, {"lr": rate, "betas": (0.9, 0.99)}))
    assert all(case.fits for case in cases)
    found = lost._launched(cases, torch.ones(len(cases), dtype=torch.bool, device=DEVICE)).tolist()
    wanted = [int(case.rounded_away()) for case in cases]
    assert found == wanted
    assert {True, False} == {bits != 0 for bits in wanted}
    assert not lost._launched(
        cases, torch.zeros(len(cases), dtype=torch.bool, device=DEVICE)
    ).any()  # nothing stood still


def test_launches_do_not_grow_with_the_net(monkeypatch):
    seen = []
    real = launches.launch
    monkeypatch.setattr(launches, "launch", lambda kernel, *a, **k: (seen.append(kernel), real(kernel, *a, **k)))
    counts = []
    for layers in (1, 12):
        seen.clear()
        train(OPTIMIZERS["momentum"], steps=1, layers=layers)
        counts.append({kernel: seen.count(kernel) for kernel in seen})
    # Parameters with their copy, gradients, updates; and which of them were lost.
    assert counts == [{"squares": 3, "roots": 3, "moved": 1}] * 2


class Late:
    """A copy that arrives when it is waited for, and not before."""

    waits = 0

    def __init__(self, source, target):
        self.source, self.target = source.clone(), target

    def synchronize(self):
        Late.waits += 1
        self.target.copy_(self.source)


@pytest.fixture
def late(monkeypatch):
    def sent(vector):
        target = torch.full_like(vector, math.nan)
        return target, Late(vector, target)

    monkeypatch.setattr(transfer, "_sent", sent)
    Late.waits = 0


def test_no_step_waits_for_its_own_figures(late, monkeypatch):
    model = net()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    records, reads = [], []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__", "__index__", "numpy"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, real=real, name=name: (reads.append(name), real(self, *a))[1]
        )
    monkeypatch.setattr(launches, "launch", _quiet(reads))
    # On a processor a look reads what it measures; there is nothing to wait for.
    with gradlab_torch.Monitor(model, optimizer, look_every=None, on_record=records.append) as monitor:
        for step in range(4):
            backward(monitor)
            reads.clear()
            optimizer.step()
            assert [r.step for r in records] == list(range(step))  # one step later
            assert Late.waits == step  # each for a step that is over
            assert reads == ["tolist"] * (step > 0)
    assert [r.step for r in records] == [0, 1, 2, 3]  # the last one on close
    monkeypatch.undo()
    for a, b in zip(records, train(OPTIMIZERS["momentum"], steps=4), strict=True):
        assert a.grad_norm == pytest.approx(b.grad_norm)
        assert a.update_norm == pytest.approx(b.update_norm)
        assert a.loss == pytest.approx(b.loss)
        assert list(a.tensors) == list(b.tensors)


def _quiet(reads):
    """The interpreter itself looks into tensors; a GPU's driver does not."""
    real = launches.launch

    def launch(*args, **constants):
        before = len(reads)
        real(*args, **constants)
        del reads[before:]

    return launch


def test_asking_for_the_last_record_is_what_waits(late):
    model = net()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    records = []
    monitor = gradlab_torch.Monitor(model, optimizer, every=2, on_record=records.append)
    assert monitor.last is None
    for step in range(3):
        backward(monitor)
        optimizer.step()
        if step == 0:
            assert (Late.waits, records) == (0, [])
            assert monitor.last is records[0]
            assert monitor.last.grad_norm > 0
            assert Late.waits == 1
    assert [r.step for r in records] == [0]
    monitor.close()
    assert [r.step for r in records] == [0, 2]
    assert monitor.last is records[1]
    assert Late.waits == 2


def test_a_step_in_a_graph_is_refused(monkeypatch):
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with gradlab_torch.Monitor(model, optimizer):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(GradlabError, match="captured in a CUDA graph"):
            optimizer.step()
