"""The arithmetic of norms, right over the whole range of the type and without a sync per tensor.

Plain sums of squares in float32 overflow at 1e19, underflow at 1e-20, and on the CPU lose digits on long tensors:
PyTorch's own total norm of 2²⁶ floats is wrong in the third digit. Here the squares are summed along short rows, the
rows in float64; only when that sum says that range was lost is there a second, rescaled pass. Small tensors of one
shape are measured together, so that a net of a thousand of them costs a few calls and not thousands.

On an accelerator a call costs more than the arithmetic, and to look at a result is to wait for the device. There one
kernel measures all tensors of a kind (`_launches`), and where Triton is missing PyTorch's own foreach kernel does, in
float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from gradlab_torch.trees import launches as launches

_ROW = 1024  # elements a row: long enough for full memory speed, short enough for float32 partial sums
_PIECE = 1 << 17  # elements that are widened at once; a megabyte
_SMALL = 1 << 16  # elements; up to here tensors are copied side by side, which costs less than a call for each

_BY_ROWS = ("cpu", "mps")  # where calls are cheap, and where there is no float64
_NARROW = (torch.float32, torch.bfloat16, torch.float16)  # whose squares float64 holds


def wide(t: torch.Tensor) -> torch.Tensor:
    """The rows as real numbers of at least float32."""
    if t.is_complex():
        t = torch.view_as_real(t).flatten(1)
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)


def stacked_norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    """‖·‖₂ of each tensor as one vector; differentiable, also under `torch.func`."""
    tensors = [values_of(t) for t in tensors]
    if tensors and _is_followed(tensors):
        norms: torch.Tensor = _Norms.apply(*tensors)
        return norms
    return _stacked(tensors)


def _is_followed(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether somebody wants a derivative, or maps over an axis."""
    followed = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return followed or torch._C._functorch.peek_interpreter_stack() is not None


def values_of(t: torch.Tensor) -> torch.Tensor:
    """What is stored of a sparse or nested tensor: the zeros that are not add nothing to a norm."""
    if t.is_nested:
        return torch.cat([part.reshape(-1) for part in t.unbind()])
    if t.layout == torch.sparse_coo:
        return t.coalesce().values()
    return t if t.layout == torch.strided else t.values()


class _Norms(torch.autograd.Function):
    """The norms of several tensors, with x/‖x‖ as the derivative of each, and 0 where the norm is 0."""

    @staticmethod
    def forward(*tensors: torch.Tensor) -> torch.Tensor:
        return _stacked(list(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, slopes: torch.Tensor) -> Any:
        *tensors, norms = ctx.saved_tensors
        grads = []
        for x, norm, slope in zip(tensors, norms, slopes, strict=True):
            safe = torch.where(norm == 0, 1.0, norm)
            grads.append(((x.to(torch.promote_types(x.dtype, norm.dtype)) / safe) * slope).to(x.dtype))
        return tuple(grads)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, int]:
        columns = [
            stacked_norms([t]).expand(info.batch_size)
            if axis is None
            else stacked_norms(list(t.movedim(axis, 0).unbind()))
            for t, axis in zip(tensors, in_dims, strict=True)
        ]
        dtype = torch.float64 if any(c.dtype == torch.float64 for c in columns) else torch.float32
        return torch.stack([c.to(columns[0].device, dtype) for c in columns], dim=1), 0


def _stacked(tensors: list[torch.Tensor]) -> torch.Tensor:
    if launches.fit_together(tensors):
        return launches.norms(tensors)
    tensors = [launches.as_real(t) for t in tensors]
    parts = ways(tensors)
    norms = [_WAYS[way]([tensors[i] for i in members]) for way, members in parts]
    return joined([members for _, members in parts], norms)


def _rows(tensors: list[torch.Tensor]) -> torch.Tensor:
    return in_groups(alike(tensors), lambda part: row_norms(side_by_side(part)), tensors)


def _launched(tensors: list[torch.Tensor]) -> torch.Tensor:
    return in_groups(launches.alike(tensors), launches.norms, tensors)


def _foreach(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(torch._foreach_norm(tensors, 2, dtype=torch.float64)).to(torch.float32)


_WAYS = {"launched": _launched, "foreach": _foreach, "rows": _rows}


def ways(tensors: Sequence[torch.Tensor]) -> list[tuple[str, list[int]]]:
    """Which tensors are measured by our kernels, by PyTorch's (those of one device), and row by row."""
    members_of: dict[tuple[str, object], list[int]] = {}
    works = {d: not torch.compiler.is_compiling() and launches.works(d) for d in {t.device for t in tensors}}
    if not any(works.values()) and all(d.type in _BY_ROWS for d in works):
        return [("rows", list(range(len(tensors))))]  # the usual case on a CPU, which need not be slow
    for i, t in enumerate(tensors):
        device = t.device
        if works[device] and launches.fits(t):
            key: tuple[str, object] = ("launched", None)
        elif device.type not in _BY_ROWS and t.dtype in _NARROW:
            key = ("foreach", device)
        else:
            key = ("rows", None)
        members_of.setdefault(key, []).append(i)
    return [(way, members) for (way, _), members in members_of.items()]


def alike(tensors: list[torch.Tensor]) -> list[list[int]]:
    """Which tensors can be measured together: small ones of one shape, type and device; a large one stays alone."""
    groups: dict[object, list[int]] = {}
    for i, t in enumerate(tensors):
        groups.setdefault((t.shape, t.dtype, t.device) if t.numel() <= _SMALL else i, []).append(i)
    return list(groups.values())


def side_by_side(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Tensors of one shape as the rows of a matrix; a copy, unless there is but one."""
    if len(tensors) == 1:
        return flat(tensors[0].detach()).unsqueeze(0)
    return torch.stack([t.detach() for t in tensors]).reshape(len(tensors), tensors[0].numel())


def flat(t: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    """All elements in a line. A norm does not mind their order, and a channels-last tensor is flat only in its own; in
    that of `like`, if it is to stand beside it."""
    turned = (t if like is None else like).is_contiguous(memory_format=torch.channels_last)
    return (t.permute(0, 2, 3, 1) if turned else t).reshape(-1)


def in_groups(
    groups: list[list[int]], measure: Callable[..., torch.Tensor], *lists: Sequence[torch.Tensor]
) -> torch.Tensor:
    """What `measure` gives for each group, of one list of tensors or of several side by side, in their own order."""
    return joined(groups, [measure(*([tensors[i] for i in group] for tensors in lists)) for group in groups])


def joined(groups: list[list[int]], norms: list[torch.Tensor]) -> torch.Tensor:
    """The norms of `groups` in the order of the tensors, or rows of what was measured: float64 if any is, else
    float32."""
    if not groups:
        return torch.zeros(0)
    dtype = torch.float64 if any(n.dtype == torch.float64 for n in norms) else torch.float32
    vector = torch.cat([n.to(norms[0].device, dtype) for n in norms])
    places = [i for group in groups for i in group]
    if places == sorted(places):
        return vector
    return vector[launches.indices(sorted(range(len(places)), key=places.__getitem__), vector.device)]


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """‖·‖₂ of each row of a matrix: float64 if it is, else float32."""
    real = wide(rows)
    if real.device.type != "cpu" or real.dtype == torch.float64:
        return _scaled_norms(real)
    return from_squares(sums_of_squares(real), real.shape[1], lambda lost: real[lost])


def from_squares(squares: torch.Tensor, count: int, rows: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The roots of sums of `count` squares of float32 CPU numbers; where range was lost, `rows(i)` are measured again.

    Below count·2⁻¹⁰⁰ squares that underflowed could show in the result; above float32's range they are Inf. On the CPU
    looking costs nothing, so this one branch is taken in Python: a power of two brings the squares back into range.
    """
    norms = squares.sqrt()
    lost = ((squares < count * 2.0**-100) | torch.isinf(squares)).nonzero()[:, 0]
    if len(lost):
        scales = torch.where(squares[lost] > 1, 2.0**-70, 2.0**90)
        norms[lost] = sums_of_squares(rows(lost) * scales.to(torch.float32).unsqueeze(1)).sqrt() / scales
    return norms.to(torch.float32)


def sums_of_squares(rows: torch.Tensor) -> torch.Tensor:
    """Σx² of each row of a float32 matrix: along short pieces in float32, and the pieces in float64."""
    count, size = rows.shape
    paired = size - size % _ROW
    squares = torch.linalg.vector_norm(rows[:, paired:], dim=1).double().square_()
    if paired:
        pieces = torch.linalg.vector_norm(rows[:, :paired].reshape(-1, _ROW), dim=1)
        squares += pieces.double().square_().view(count, -1).sum(dim=1)
    return squares


def row_products(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """⟨a, b⟩ of each row with that of the other matrix, both `wide`; in float64, but on a device that has none."""
    if rows.device.type == "mps":  # in float32, which holds the products of what is near 1
        (a, power_of_a), (b, power_of_b) = map(_near_one, (rows, others))
        return torch.ldexp((a * b).sum(dim=1), power_of_a + power_of_b)
    if rows.device.type != "cpu" or torch.float64 in (rows.dtype, others.dtype):
        return (rows.double() * others.double()).sum(dim=1)
    sums = sums_of_products(rows, others)
    for i in lost_products(sums, rows.shape[1]):
        sums[i] = in_float64(zip(rows[i].split(_PIECE), others[i].split(_PIECE), strict=True))
    return sums


def lost_products(sums: torch.Tensor, count: int) -> list[int]:
    """Which sums of `count` products of float32 CPU numbers may have lost range: 2⁻¹²⁶ may be missing of each product,
    or a sum was beyond the type. Those are taken again, `in_float64`, which holds all such products."""
    lost = ~(sums.abs() >= count * 2.0**-102) | torch.isinf(sums)
    indices: list[int] = lost.nonzero()[:, 0].tolist()
    return indices


def in_float64(pieces: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The sum of the products of these pieces."""
    return sum(((a.double() * b.double()).sum() for a, b in pieces), torch.zeros((), dtype=torch.float64))


def sums_of_products(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Σa·b of each row of two float32 matrices: along short pieces in float32, and the pieces in float64."""
    count, size = rows.shape
    paired = size - size % _ROW
    sums = torch.linalg.vecdot(rows[:, paired:], others[:, paired:]).double()
    if paired:
        pieces = (side[:, :paired].reshape(-1, _ROW) for side in (rows, others))
        sums += torch.linalg.vecdot(*pieces).double().view(count, -1).sum(dim=1)
    return sums


def _near_one(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row divided by a power of two near its largest number, and that power."""
    exponent = torch.frexp(rows.abs().amax(dim=1))[1].clamp(-120, 120)
    return torch.ldexp(rows, -exponent.unsqueeze(1)), exponent


def _scaled_norms(rows: torch.Tensor) -> torch.Tensor:
    """‖·‖₂ of each row with a safe power-of-two scaling and no branch: on an accelerator one would wait for it."""
    if rows.numel() == 0:
        return torch.zeros(rows.shape[0], dtype=rows.dtype, device=rows.device)
    limit = 120 if rows.dtype == torch.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = torch.frexp(rows.abs().amax(dim=1))[1].clamp(-limit, limit)
    accumulate = rows.dtype if rows.device.type == "mps" else torch.float64
    sizes = torch.linalg.vector_norm(torch.ldexp(rows, -exponent.unsqueeze(1)), dim=1, dtype=accumulate)
    return torch.ldexp(sizes, exponent).to(rows.dtype)


def combine(norms: torch.Tensor) -> torch.Tensor:
    """‖·‖₂ of a vector of norms, itself without over- or underflow."""
    if _is_followed([norms]) or norms.dtype == torch.float64 or norms.device.type == "mps":
        return stacked_norms([norms])[0]
    return torch.linalg.vector_norm(norms, dtype=torch.float64).to(torch.float32)
