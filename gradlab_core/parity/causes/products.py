"""Linear layers, convolutions and embeddings: what goes in, and how it meets the weight."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Settings, Target, by_factor, search, to
from gradlab_core.parity.causes.pointwise import otherwise
from gradlab_core.parity.causes.sources import readings, sources, windows
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

TRANSPOSED = Cause(
    "square-kernel",
    "the kernel is used transposed (in and out exchanged)",
    "transpose the kernel where the weights are converted: PyTorch's is (out, in), Flax's (in, out)",
)
NO_BIAS = Cause("bias", "the bias is not added", "add the bias (use_bias=True), and transfer it")
TWICE = Cause("bias", "the bias is added twice", "add the bias once")
FLATTEN = Cause(
    "flatten-order",
    "the input is flattened channels last, in the reference channels first",
    "move the channels first before reshape, or permute the weight's input axis",
)
FLIPPED = Cause("flipped-kernel", "the kernel is flipped in space", "flip the kernel (transpose_kernel in Flax)")
TURNED = Cause("turned-kernel", "height and width of the kernel are exchanged", "transpose the kernel's spatial axes")


def linear(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """Of a layer with a matrix: y = x·Wᵀ + b."""
    weight, bias = kernel_and_bias(weights, 2)
    turned = {"(out, in)": weight, "(in, out)": weight.T}
    for (name, source), matrix in itertools.product(list(sources(local, key)), turned.values()):
        ways = {way: read for way, read in readings(source).items() if source.dtype.kind == "f"}
        for way, read in ways.items():
            settings: Settings = {"x": source, "read": read, "way": way, "w": matrix, "b": bias, "source": name}
            if _fits(settings) and target.is_reference(_linear(settings)):
                yield from search(
                    _linear, settings, list(_linear_changes(local, key, settings)), target, [by_factor("the output")]
                )
                return


def _fits(s: Settings) -> bool:
    x = s["read"](s["x"])
    return bool(x.ndim >= 2 and x.shape[-1] == s["w"].shape[1])


def _linear(s: Settings) -> np.ndarray | None:
    if not _fits(s):
        return None
    out = s["read"](s["x"]) @ s["w"].T
    return np.asarray(out if s["b"] is None else out + s["b"])


def _linear_changes(local: Local, key: Key, settings: Settings) -> Iterator[Change]:
    weight, bias = settings["w"], settings["b"]
    yield from _other_readings(settings)
    if weight.shape[0] == weight.shape[1] > 1:
        yield TRANSPOSED, lambda s: {**s, "w": s["w"].T}
    yield from _other_biases(settings)
    for cause, rows in row_orders(len(weight)):
        yield cause, to(w=weight[rows], b=None if bias is None else bias[rows])
    yield from _other_inputs(local, key, settings)


def _other_readings(settings: Settings) -> Iterator[Change]:
    shape = settings["read"](settings["x"]).shape
    for other, read in readings(settings["x"]).items():
        if other != settings["way"] and read(settings["x"]).shape == shape:
            yield _read_otherwise(settings["way"], other), to(read=read)


def _other_biases(settings: Settings) -> Iterator[Change]:
    if settings["b"] is not None:
        yield NO_BIAS, to(b=0.0 * settings["b"])
        yield TWICE, to(b=2.0 * settings["b"])


def _other_inputs(local: Local, key: Key, settings: Settings) -> Iterator[Change]:
    for cause, array in otherwise(local, key, settings["x"]):
        yield cause, to(x=array)
    for name, array in sources(local, key):
        if array.shape == settings["x"].shape and name != settings["source"]:
            words = f"the layer takes in {name}, in the reference {settings['source']}"
            yield Cause("another-input", words, f"hand it {settings['source']}"), to(x=array)


def _read_otherwise(way: str, other: str) -> Cause:
    if "channels first" in way and other == way.replace("first", "last"):
        return FLATTEN
    words = f"what goes in is read as {other}, in the reference as {way}"
    padding = "padded" in way or "padding" in way or "stride" in way
    return Cause("pooling" if padding or "×" in way else "reading", words, f"read it as {way}")


def row_orders(rows: int) -> Iterator[tuple[Cause, np.ndarray]]:
    """Orders in which rows of a fused weight may stand: gates, queries with keys and values, halves of rotations."""
    place = np.arange(rows)
    for blocks in (2, 3, 4):
        if rows % blocks == 0 and rows // blocks > 0:
            cut = place.reshape(blocks, -1)
            for order in itertools.permutations(range(blocks)):
                if order != tuple(range(blocks)):
                    names = ", ".join(str(i + 1) for i in order)
                    yield (
                        Cause(
                            "gate-order",
                            f"the {blocks} blocks of rows stand in the order {names}",
                            "reorder the blocks (gates; queries, keys, values) where the weights are converted",
                        ),
                        cut[list(order)].ravel(),
                    )
    for heads in (h for h in range(2, rows // 3 + 1) if rows % (3 * h) == 0):
        by_head = place.reshape(3, heads, -1).swapaxes(0, 1).ravel()
        words = f"queries, keys and values stand head by head ({heads} heads)", "one after the other"
        fix = "split the fused projection the way the weights were fused"
        yield Cause("qkv-fused-order", f"{words[0]}, in the reference {words[1]}", fix), by_head
        yield Cause("qkv-fused-order", f"{words[1]}, in the reference {words[0]}", fix), np.argsort(by_head)
    for head in (d for d in range(4, rows + 1, 2) if rows % d == 0):
        halves = place.reshape(-1, 2, head // 2).swapaxes(1, 2).ravel()
        words = f"rows of each head of {head} stand in pairs", "in halves"
        fix = "permute the rows of queries and keys, as converters for rotary embeddings do"
        yield Cause("rope-layout", f"{words[0]}, in the reference {words[1]}", fix), halves
        yield Cause("rope-layout", f"{words[1]}, in the reference {words[0]}", fix), np.argsort(halves)


def kernel_and_bias(weights: Mapping[str, np.ndarray], axes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The array of so many axes, or more, and the vector beside it."""
    kernel = max((w for w in weights.values() if w.ndim >= axes), key=lambda w: w.size)
    vectors = [w for w in weights.values() if w.ndim == 1 and len(w) in kernel.shape]
    return kernel.astype(np.float64), vectors[0].astype(np.float64) if vectors else None


def convolution(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """Of a layer with a square kernel over images: weight (out, in / groups, k, k)."""
    kernel, bias = kernel_and_bias(weights, 4)
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or target.truth.ndim != 4:
        return
    size = kernel.shape[-1]
    for name, source in sources(local, key):
        if source.ndim != 4 or source.dtype.kind != "f":
            continue
        for way, read in readings(source).items():
            x = read(source)
            if x.ndim != 4 or not x.size or x.shape[1] % kernel.shape[1]:
                continue
            for stride, pads in itertools.product((1, 2, 3, 4), _pads(size)):
                settings: Settings = {
                    "x": source, "read": read, "way": way, "w": kernel, "b": bias, "stride": stride, "pads": pads,
                    "mode": "constant", "source": name, "shape": target.truth.shape,
                }  # fmt: skip
                if target.is_reference(_convolved(settings)):
                    changes = list(_convolution_changes(local, key, settings))
                    yield from search(_convolved, settings, changes, target, [by_factor("the output")])
                    return


def _pads(size: int) -> list[tuple[int, int]]:
    both = [(p, q) for p in range(size) for q in range(size) if abs(p - q) <= 1]
    return sorted(both, key=lambda pads: pads[0] != pads[1])  # with a stride, (1, 0) may do what (1, 1) does


def _convolved(s: Settings) -> np.ndarray | None:
    x, w, pads = s["read"](s["x"]), s["w"], s["pads"]
    size = w.shape[-1]
    lengths = [(n + sum(pads) - size) // s["stride"] + 1 for n in x.shape[2:]]
    groups = x.shape[1] // w.shape[1]
    if tuple(lengths) != s["shape"][2:] or len(w) % groups or any(n < pads[0] for n in x.shape[2:]):
        return None
    seen = windows(x, size, s["stride"], pads, mode=s["mode"])
    parts = zip(np.split(seen, groups, axis=1), np.split(w, groups), strict=True)
    out = np.concatenate([np.einsum("nchwij,ocij->nohw", a, b, optimize=True) for a, b in parts], axis=1)
    return np.asarray(out if s["b"] is None else out + s["b"][:, None, None])


def _convolution_changes(local: Local, key: Key, settings: Settings) -> Iterator[Change]:
    weight = settings["w"]
    if weight.shape[0] == weight.shape[1] > 1:
        yield TRANSPOSED, lambda s: {**s, "w": s["w"].swapaxes(0, 1)}
    if weight.shape[-1] > 1:
        yield FLIPPED, lambda s: {**s, "w": s["w"][:, :, ::-1, ::-1]}
        yield TURNED, lambda s: {**s, "w": s["w"].swapaxes(2, 3)}
    yield from _other_biases(settings)
    for pads in _pads(weight.shape[-1]):
        if pads != settings["pads"]:
            yield _padded_otherwise(settings["pads"], pads), to(pads=pads)
    for mode in ("reflect", "wrap", "edge"):
        if sum(settings["pads"]):
            words = f"borders are padded by '{mode}', in the reference with zeros"
            yield Cause("padding", words, "pad with zeros"), to(mode=mode)
    yield from _other_readings(settings)
    yield from _other_inputs(local, key, settings)


def _padded_otherwise(pads: tuple[int, int], other: tuple[int, int]) -> Cause:
    words = f"each axis is padded by {other[0]} and {other[1]}, in the reference by {pads[0]} and {pads[1]}"
    fix = f"say padding=(({pads[0]}, {pads[1]}), ({pads[0]}, {pads[1]})): 'SAME' pads what is left over at the end"
    return Cause("same-vs-explicit", words, fix)


def embedding(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """Of a layer that looks rows up."""
    table, _ = kernel_and_bias(weights, 2)
    inputs = [(name, array) for name, array in sources(local, key) if array.dtype.kind in "iu"]
    places = np.broadcast_to(np.arange(target.truth.shape[-2]), target.truth.shape[:-1])
    for _name, ids in [*inputs, ("positions", places)]:
        for offset in range(3):
            settings: Settings = {"ids": ids + offset, "table": table, "rows": len(table)}
            rows = _looked_up(settings)
            if rows is not None and rows.shape == target.truth.shape and target.is_reference(rows):
                root = math.sqrt(table.shape[1])
                scaled = Cause("embed-scale", "embeddings are multiplied by √d, in the reference they are not",
                               "leave the factor √d out")  # fmt: skip
                plain = Cause("embed-scale", "embeddings are divided by √d, in the reference they are not",
                              "leave the factor 1/√d out")  # fmt: skip
                yield from search(
                    _looked_up, settings, list(_shifts(settings, offset)), target,
                    [by_factor("the embedding", {root: scaled, 1 / root: plain})],
                )  # fmt: skip
                return


def _looked_up(s: Settings) -> np.ndarray | None:
    ids = s["ids"]
    return s["table"][ids] if ids.size and ids.min() >= 0 and ids.max() < s["rows"] else None


def _shifts(settings: Settings, offset: int) -> Iterator[Change]:
    for other in (-2, -1, 1, 2):
        if offset + other >= 0:
            words = (
                f"rows are looked up {abs(other)} {'further down' if other > 0 else 'further up'} than in the reference"
            )
            fix = f"begin positions (or tokens) at {offset}, not at {offset + other}"
            yield Cause("position-offset", words, fix), to(ids=settings["ids"] + other)
