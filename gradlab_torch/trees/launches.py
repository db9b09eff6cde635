"""Where Triton runs, many tensors are measured in one launch: what fits, the tables of addresses, and the launches.

Triton comes with PyTorch on Linux and drives NVIDIA's GPUs from 2017 on. With `TRITON_INTERPRET=1` its kernels run on
the CPU, slowly, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gradlab_core.errors import GradlabError

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # any other class may keep its numbers elsewhere
_SUMS = 2048  # partial sums that are added at once: of a tensor of a gigabyte there are sixteen thousand
_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def works(device: torch.device) -> bool:
    """Whether kernels of ours run on a device; where they should and cannot, a warning says why, once. Kernels that
    were made for the interpreter cannot follow an address into a GPU's memory."""
    if device.type == "cuda" and torch.version.hip is None:
        return not torch.cuda.is_current_stream_capturing() and not _interpreted() and _is_proven(device)
    return device.type == "cpu" and _interpreted() and _kernels() is not None


def fits(t: torch.Tensor) -> bool:
    """Whether a tensor is floating-point numbers that fill one piece of memory, each once, and can be followed."""
    return (
        type(t) in _PLAIN
        and t.layout == torch.strided
        and t.dtype in _TYPES
        and (t.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(t))
        and not t.is_neg()
    )


def fit_together(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether one launch can take all of them, as they are: the usual case, and asked for what it costs the host."""
    if not tensors:
        return False
    device, dtype = tensors[0].device, tensors[0].dtype
    return (
        not torch.compiler.is_compiling()
        and works(device)
        and all(t.dtype == dtype and t.device == device and fits(t) and t.data_ptr() % 16 == 0 for t in tensors)
    )


def as_real(t: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs of real ones, in place."""
    return torch.view_as_real(t) if t.is_complex() and not t.is_conj() else t


def alike(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Which tensors one launch can take: those of one device, type and alignment."""
    groups: dict[object, list[int]] = {}
    for i, t in enumerate(tensors):
        groups.setdefault((t.device, t.dtype, t.data_ptr() % 16 == 0), []).append(i)
    return list(groups.values())


def norms(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """‖·‖₂ of each of the tensors that are `alike`: float64 if they are, else float32."""
    return _measured(_kernels().READ, tensors, tensors)


def copied(tensors: Sequence[torch.Tensor], copies: Sequence[torch.Tensor]) -> torch.Tensor:
    """Copies them, and gives their norms."""
    return _measured(_kernels().COPY, tensors, copies)


def differences(
    tensors: Sequence[torch.Tensor], copies: Sequence[torch.Tensor], grads: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """A row for each tensor, in float64: the norm of what has changed since `copied`, and its inner products with the
    gradient (0 for None) and with the copy. Gradients have the type and the layout of the tensors."""
    return _measured(_kernels().SUBTRACT, tensors, copies, grads)


class Table:
    """Which block of which tensor each program takes; on the device, made once for each list of sizes."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        counts = -(-np.asarray(sizes, np.int64) // _kernels().BLOCK)
        starts = np.concatenate([[0], np.cumsum(counts)])
        owners = np.repeat(np.arange(len(sizes)), counts)
        firsts = np.arange(starts[-1]) - starts[owners]
        self.blocks = int(starts[-1])
        parts = [np.asarray(sizes, np.int64), owners, firsts, starts]
        self.sizes, self.owners, self.firsts, self.starts = (uploaded(part, device) for part in parts)


def table(tensors: Sequence[torch.Tensor]) -> Table:
    """The table of these tensors."""
    device = tensors[0].device
    return _table(tuple(t.numel() for t in tensors), device, _stream(device))


def addresses(tensors: Sequence[torch.Tensor | None], device: torch.device | None = None) -> torch.Tensor:
    """Where they lie, on their device; 0 for None. The same places need no second transfer."""
    device = next(t.device for t in tensors if t is not None) if device is None else device
    return indices([0 if t is None else t.data_ptr() for t in tensors], device)


def indices(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Whole numbers on a device, for which nobody waits; the same ones need no second transfer."""
    return _indices(tuple(numbers), device, _stream(device))


def uploaded(values: Any, device: torch.device) -> torch.Tensor:
    """A vector on a device, without a wait: from pinned memory, which stays until it was read."""
    vector = torch.as_tensor(values)
    return vector if device.type == "cpu" else vector.pin_memory().to(device, non_blocking=True)


def on(device: torch.device) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def launch(kernel: str, programs: int, *args: Any, **constants: Any) -> None:
    """Start one kernel; every launch of ours goes through here."""
    if programs:
        getattr(_kernels(), kernel)[(programs,)](*args, **constants)


def triton_types(dtype: torch.dtype) -> dict[str, Any]:
    """Triton's name of a type, and the one it is loaded as."""
    import triton.language as tl

    kind = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(dtype, tl.float64)
    return {"TYPE": kind, "STORED": tl.uint16 if kind == tl.bfloat16 else kind}


def width() -> dict[str, int]:
    """How many elements a program takes, as the constants of a kernel."""
    return {"WIDTH": _kernels().WIDTH, "ROUNDS": _kernels().ROUNDS}


def _measured(
    way: int,
    tensors: Sequence[torch.Tensor],
    copies: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor | None] | None = None,
) -> torch.Tensor:
    first, products = tensors[0], 0 if grads is None else 2
    is_double = first.dtype == torch.float64
    dtype = torch.float64 if is_double or products else torch.float32
    sizes = torch.empty((len(tensors), 3) if products else len(tensors), dtype=dtype, device=first.device)
    there = [first, copies[0], *(g for g in grads or () if g is not None)]
    with on(first.device):
        t = table(tensors)
        sums = torch.empty(t.blocks * ((3 if is_double else 1) + products), dtype=torch.float64, device=first.device)
        places = addresses(tensors)
        launch(
            "squares",
            t.blocks,
            places,
            places if copies is tensors else addresses(copies),
            places if grads is None else addresses(grads, first.device),
            *(t.sizes, t.owners, t.firsts, sums),
            **triton_types(first.dtype),
            WAY=way,
            IS_DOUBLE=is_double,
            IS_ALIGNED=all(x.data_ptr() % 16 == 0 for x in there),
            **width(),
        )
        roots = {"IS_DOUBLE": is_double, "PRODUCTS": bool(products), "WIDTH": _SUMS}
        launch("roots", len(tensors), sums, t.starts, sizes, t.blocks, **roots)
    return sizes


@functools.lru_cache(maxsize=64)
def _table(sizes: tuple[int, ...], device: torch.device, stream: int) -> Table:
    return Table(sizes, device)


@functools.lru_cache(maxsize=128)
def _indices(numbers: tuple[int, ...], device: torch.device, stream: int) -> torch.Tensor:
    return uploaded(np.array(numbers, np.int64), device)


def _stream(device: torch.device) -> int:
    """What was uploaded on one stream may not have arrived when another one reads it."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.lru_cache
def _kernels() -> Any:
    """The kernels, or None where there is no Triton."""
    try:
        from gradlab_torch.trees import kernels as kernels
    except ImportError:
        return None
    return kernels


@functools.lru_cache
def _is_proven(device: torch.device) -> bool:
    """Whether a first kernel gives the right norm here: it needs a compiler, a driver and a card that Triton knows."""
    if _kernels() is None:
        return False
    try:
        norm = float(norms([torch.tensor([3.0, 4.0], device=device)]))
        if norm != 5.0:
            raise GradlabError(f"a norm is {norm}; expected 5.0")
    except Exception as error:  # whatever it is, there is another way
        warnings.warn(
            f"Triton does not run on {device}, norms take torch._foreach_norm: {type(error).__name__}: {error}",
            stacklevel=2,
        )
        return False
    return True
