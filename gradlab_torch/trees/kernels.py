"""Triton kernels that pass over many tensors in one launch, by a table of their addresses.

A program takes one block of one tensor. Squares are summed in float64, which holds the square of every float32,
bfloat16 and float16: no scaling, no second pass, no branch. For float64 there are three sums, of large, ordinary and
small elements (J. L. Blue, 1978). Each block writes its own sums and `roots` adds them in a fixed order, so that the
same input gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

WIDTH = 1024  # elements a program takes at once
ROUNDS = 16  # times it does so
BLOCK = WIDTH * ROUNDS

READ, COPY, SUBTRACT = 0, 1, 2
_BIG, _SMALL, _SCALE = tl.constexpr(2.0**500), tl.constexpr(2.0**-500), tl.constexpr(2.0**600)


@triton.jit
def squares(
    addresses,
    olds,
    grads,
    sizes,
    owners,
    firsts,
    sums,
    TYPE: tl.constexpr,
    STORED: tl.constexpr,
    WAY: tl.constexpr,
    IS_DOUBLE: tl.constexpr,
    IS_ALIGNED: tl.constexpr,
    WIDTH: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    """Sum of squares of one block: of what lies at its address (READ), with a copy of it written to its old address
    (COPY), or of what was added to that copy since (SUBTRACT). With the last go the sums of its products with the
    gradient, whose address is 0 where there is none, and with the copy."""
    block = tl.program_id(0)
    owner = tl.load(owners + block)
    size = tl.load(sizes + owner)
    first = tl.load(firsts + block) * (WIDTH * ROUNDS)
    new = tl.load(addresses + owner).to(tl.pointer_type(STORED))
    old = tl.load(olds + owner).to(tl.pointer_type(STORED))
    grad_at = tl.load(grads + owner)
    grad = grad_at.to(tl.pointer_type(STORED))
    if IS_ALIGNED:  # else each element is loaded by itself
        new = tl.multiple_of(new, 16)
        old = tl.multiple_of(old, 16)
        grad = tl.multiple_of(grad, 16)
    total = tl.zeros((WIDTH,), tl.float64)
    big = tl.zeros((WIDTH,), tl.float64)
    small = tl.zeros((WIDTH,), tl.float64)
    with_grad = tl.zeros((WIDTH,), tl.float64)
    with_param = tl.zeros((WIDTH,), tl.float64)
    is_whole = first + WIDTH * ROUNDS <= size  # then nothing is masked, and a thread loads 16 bytes at once
    for turn in range(ROUNDS):
        at = first + turn * WIDTH + tl.arange(0, WIDTH)
        if is_whole:
            x, before = _values(new + at, old + at, None, WAY, TYPE)
        else:
            x, before = _values(new + at, old + at, at < size, WAY, TYPE)
        if WAY == 2:
            with_param += before * x
            if grad_at != 0:
                if is_whole:
                    with_grad += _loaded(grad + at, None, TYPE) * x
                else:
                    with_grad += _loaded(grad + at, at < size, TYPE) * x
        if IS_DOUBLE:
            is_big = tl.abs(x) > _BIG
            is_small = tl.abs(x) < _SMALL
            large = tl.where(is_big, x / _SCALE, 0.0)
            tiny = tl.where(is_small, x * _SCALE, 0.0)
            big += large * large
            small += tiny * tiny
            x = tl.where(is_big | is_small, 0.0, x)
        total += x * x
    if IS_DOUBLE:
        blocks = tl.num_programs(0)
        tl.store(sums + blocks + block, tl.sum(big))
        tl.store(sums + 2 * blocks + block, tl.sum(small))
    if WAY == 2:
        products = sums + (3 if IS_DOUBLE else 1) * tl.num_programs(0)
        tl.store(products + block, tl.sum(with_grad))
        tl.store(products + tl.num_programs(0) + block, tl.sum(with_param))
    tl.store(sums + block, tl.sum(total))


@triton.jit
def _values(new, old, mask, WAY: tl.constexpr, TYPE: tl.constexpr):
    stored = tl.load(new, mask=mask, other=None if mask is None else 0)
    x = _number(stored, TYPE, tl.float64)
    before = x
    if WAY == 1:
        tl.store(old, stored, mask=mask)
    if WAY == 2:
        before = _loaded(old, mask, TYPE)
        x -= before
    return x, before


@triton.jit
def _loaded(at, mask, TYPE: tl.constexpr):
    return _number(tl.load(at, mask=mask, other=None if mask is None else 0), TYPE, tl.float64)


@triton.jit
def roots(sums, starts, norms, blocks, IS_DOUBLE: tl.constexpr, PRODUCTS: tl.constexpr, WIDTH: tl.constexpr):
    """The norm of one tensor from the sums of its blocks, which stand from `starts[i]` to `starts[i + 1]`; with
    PRODUCTS a row of it and of the two sums of products."""
    owner = tl.program_id(0)
    first = tl.load(starts + owner)
    last = tl.load(starts + owner + 1)
    total = _added(sums, first, last, WIDTH)
    norm = tl.sqrt(total)
    if IS_DOUBLE:
        big = _added(sums + blocks, first, last, WIDTH)
        small = _added(sums + 2 * blocks, first, last, WIDTH)
        norm = tl.sqrt(total + small / _SCALE / _SCALE)
        norm = tl.where((big == 0.0) & (total == 0.0), tl.sqrt(small) / _SCALE, norm)
        norm = tl.where(big > 0.0, tl.sqrt(big + total / _SCALE / _SCALE) * _SCALE, norm)
    if PRODUCTS:
        products = sums + (3 if IS_DOUBLE else 1) * blocks
        tl.store(norms + 3 * owner, norm)
        tl.store(norms + 3 * owner + 1, _added(products, first, last, WIDTH))
        tl.store(norms + 3 * owner + 2, _added(products + blocks, first, last, WIDTH))
    else:
        tl.store(norms + owner, norm)


@triton.jit
def _added(sums, first, last, WIDTH: tl.constexpr):
    total = tl.zeros((WIDTH,), tl.float64)
    for start in range(first, last, WIDTH):
        at = start + tl.arange(0, WIDTH)
        total += tl.load(sums + at, mask=at < last, other=0.0)
    return tl.sum(total)


@triton.jit
def moved(
    addresses,
    rates,
    firsts_of_adam,
    seconds_of_adam,
    still,
    sizes,
    owners,
    firsts,
    bits,
    count,
    TYPE: tl.constexpr,
    STORED: tl.constexpr,
    WIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    """Of the tensors that are `still`: which proposals would move an element. Bit 0 is for the gradient, 1 for its
    sign, 2 for the momentum, 3 for Adam's step; the rows of `addresses` are parameter, gradient, momentum and Adam's
    two moments, 0 where there is none. Blocks of all other tensors end here: looking costs a launch and no wait."""
    block = tl.program_id(0)
    owner = tl.load(owners + block)
    if tl.load(still + owner) != 0:
        size = tl.load(sizes + owner)
        first = tl.load(firsts + block) * (WIDTH * ROUNDS)
        rate = tl.load(rates + owner).to(WIDE)
        mean_weight = tl.load(firsts_of_adam + owner).to(WIDE)
        square_weight = tl.load(seconds_of_adam + owner).to(WIDE)
        param = tl.load(addresses + owner).to(tl.pointer_type(STORED))
        grad = tl.load(addresses + count + owner).to(tl.pointer_type(STORED))
        momentum = tl.load(addresses + 2 * count + owner)
        mean = tl.load(addresses + 3 * count + owner)
        square = tl.load(addresses + 4 * count + owner)
        moves = tl.zeros((WIDTH,), tl.int32)
        for turn in range(ROUNDS):
            at = first + turn * WIDTH + tl.arange(0, WIDTH)
            inside = at < size
            p = _number(tl.load(param + at, mask=inside, other=0), TYPE, WIDE)
            g = _number(tl.load(grad + at, mask=inside, other=0), TYPE, WIDE)
            moves |= _moves(p, g, rate, TYPE, WIDE)
            sign = tl.where(g > 0.0, 1.0, tl.where(g < 0.0, -1.0, g)).to(WIDE)
            moves |= 2 * _moves(p, sign, rate, TYPE, WIDE)
            if momentum != 0:
                m = _number(tl.load(momentum.to(tl.pointer_type(STORED)) + at, mask=inside, other=0), TYPE, WIDE)
                moves |= 4 * _moves(p, m, rate, TYPE, WIDE)
            if mean != 0:
                m = _number(tl.load(mean.to(tl.pointer_type(STORED)) + at, mask=inside, other=0), TYPE, WIDE)
                s = _number(tl.load(square.to(tl.pointer_type(STORED)) + at, mask=inside, other=0), TYPE, WIDE)
                size_of_step = tl.maximum(tl.sqrt(s / square_weight), 1e-30)
                moves |= 8 * _moves(p, (m / mean_weight / size_of_step).to(WIDE), rate, TYPE, WIDE)
        tl.atomic_or(bits + owner, tl.reduce(moves, 0, _either))


@triton.jit
def _moves(p, step, rate, TYPE: tl.constexpr, WIDE: tl.constexpr):
    """1 where p − rate·step is another number of p's type, rounded after each operation as PyTorch does."""
    change = _rounded(rate * _rounded(step, TYPE, WIDE), TYPE, WIDE)
    return (_rounded(p - change, TYPE, WIDE) != p).to(tl.int32)


@triton.jit
def _number(stored, TYPE: tl.constexpr, WIDE: tl.constexpr):
    """What was loaded, as a wider number. Cards before 2020 know no bfloat16, so it is loaded as the upper half of a
    float32's bits."""
    if TYPE == tl.bfloat16:  # noqa: SIM300 (a constant of Triton's knows types, not the other way round)
        return (stored.to(tl.uint32) << 16).to(tl.float32, bitcast=True).to(WIDE)
    else:
        return stored.to(WIDE)


@triton.jit
def _rounded(x, TYPE: tl.constexpr, WIDE: tl.constexpr):
    """The nearest number that the type holds. To bfloat16 the bits are rounded by hand: Triton's interpreter cuts."""
    if TYPE == tl.bfloat16:  # noqa: SIM300 (a constant of Triton's knows types, not the other way round)
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    else:
        return x.to(TYPE).to(WIDE)


@triton.jit
def _either(a, b):
    return a | b
