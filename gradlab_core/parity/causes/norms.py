"""Normalisations, from their outputs alone: with weight and bias taken off, what is left tells ε and the kind of
variance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradlab_core.parity.causes import streams
from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Finish, Settings, Target, search, to
from gradlab_core.parity.causes.sources import sources
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-8, 1e-12, 1e-4, 1e-2)

PLUS_ONE = Cause("rmsnorm-plus-one", "it multiplies by 1 + weight, in the reference by the weight",
                 "multiply by the weight, or subtract 1 where it is converted")  # fmt: skip
MINUS_ONE = Cause("rmsnorm-plus-one", "it multiplies by the weight, in the reference by 1 + weight",
                  "multiply by 1 + weight, or add 1 where it is converted")  # fmt: skip
NO_WEIGHT = Cause("norm-affine", "the weight is not applied", "use the scale (use_scale=True), and transfer it")
NO_BIAS = Cause("bias", "the bias is not added", "use the bias (use_bias=True), and transfer it")
EVAL = Cause("batchnorm-mode", "it normalises by running statistics, in the reference by those of the batch",
             "set use_running_average=False (model.train()) in training")  # fmt: skip


def norm(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """y = w·x̂ + b, with x̂ of mean 0 and variance v / (v + ε) in each group."""
    truth = target.truth
    axis = 1 if truth.ndim > 2 and _is_spatial(local, key) else truth.ndim - 1
    shape = [1] * truth.ndim
    shape[axis] = truth.shape[axis]
    weight, bias = (
        weights[name].astype(np.float64).reshape(shape)
        if name in weights and weights[name].size == shape[axis]
        else None
        for name in ("weight", "bias")
    )
    if weight is not None and not weight.all():
        return
    affine: dict[str, Any] = {"w": weight, "b": bias, "plus": 0.0}
    settings: Settings = {**affine, "x": _unscaled(affine, truth)}
    finish: Finish = lambda array, value: _by_number(array, value, settings)  # noqa: E731
    changes = [*_changes(settings), *_running(local, key, settings, axis)]
    explained = list(search(_scaled, settings, changes, target, [finish]))
    explained = explained or list(_of_another(local, key, settings, target))
    yield from explained or streams.stream(local, key, _unscaled(settings, target.value), settings["x"])


def _unscaled(settings: Settings, value: np.ndarray) -> np.ndarray:
    """x̂ of an output, if weight and bias are those."""
    plain = value if settings["b"] is None else value - settings["b"]
    return np.asarray(plain if settings["w"] is None else plain / settings["w"])


def _is_spatial(local: Local, key: Key) -> bool:
    """A norm with running statistics, or images: their channels are the second axis."""
    truth = local.truth[key]
    assert truth is not None
    owner = f"{key.path}." if key.path else ""
    sizes = {array.size for name, array in local.before.items() if name.rpartition(".")[0] == key.path}
    return f"{owner}running_mean" in local.before or truth.ndim == 4 or sizes == {truth.shape[1]} != {truth.shape[-1]}


def _scaled(s: Settings) -> np.ndarray:
    out = s["x"] if s["w"] is None else s["x"] * (s["w"] + s["plus"])
    return np.asarray(out if s["b"] is None else out + s["b"])


def _changes(settings: Settings) -> Iterator[Change]:
    if settings["w"] is not None:
        yield PLUS_ONE, to(plus=1.0)
        # With weights stored as what is added to 1, the reference's x̂ is y / (1 + w).
        yield MINUS_ONE, to(x=settings["x"] * settings["w"] / (1.0 + settings["w"]))
        yield NO_WEIGHT, to(w=None)
    if settings["b"] is not None:
        yield NO_BIAS, to(b=None)


def _groups(x: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """x as seen in groups that it may be normalised in, and the axes of each group."""
    yield x, (x.ndim - 1,)
    if x.ndim > 2:
        yield x, (0, *range(2, x.ndim))
        yield x, tuple(range(1, x.ndim))
        for count in (g for g in range(2, x.shape[1] + 1) if x.shape[1] % g == 0):
            yield x.reshape(len(x), count, -1), (2,)
    yield x, (0,)


def _by_number(array: np.ndarray, value: np.ndarray, settings: Settings) -> Iterator[tuple[Cause, np.ndarray]]:
    """Another ε, or the variance of a sample for that of the batch: one number for the whole tensor."""
    bias, weight = (other if settings[k] is None else settings[k] for k, other in (("b", 0.0), ("w", 1.0)))
    x = settings["x"]
    own = _unscaled(settings, value)
    for seen, axes in _groups(x):
        theirs = own.reshape(seen.shape)
        squares, others = (np.mean(a**2, axis=axes, keepdims=True) for a in (seen, theirs))
        if not ((squares > 0).all() and (squares < 1).all() and (others > 0).all()):
            continue
        # 1 / mean(x̂²) is 1 + ε / v, with the variance of a sample n / (n − 1) + ε / v.
        part = 1 / squares - 1
        count = math.prod(seen.shape[a] for a in axes)
        for whole, cause in _variances(count):
            made = seen * np.sqrt(1 / (squares * (whole + part)))
            yield cause, (made.reshape(x.shape) * weight) + bias
        ratios = (1 / others - 1) / part
        ratio = float(np.median(ratios))
        if ratio > 0 and abs(ratio - 1) > 1e-6 and np.allclose(ratios, ratio, rtol=1e-3):
            made = seen * np.sqrt(1 / (squares * (1 + ratio * part)))
            yield _epsilon(ratio), (made.reshape(x.shape) * weight) + bias


def _variances(count: int) -> Iterator[tuple[float, Cause]]:
    """Of a group of so many elements: the variance of the sample over that of the batch, and the other way round."""
    kinds = "the sample (n − 1)", "the batch (n)"
    for factor, (theirs, ours) in (
        [(count / (count - 1), kinds), ((count - 1) / count, kinds[::-1])] if count > 1 else []
    ):
        words = f"it divides by the variance of {theirs}, in the reference of {ours}"
        yield factor, Cause("var-std", words, "take the same variance: ddof, or correction")


def _epsilon(ratio: float) -> Cause:
    pairs = [(a, b) for a in _EPSILONS for b in _EPSILONS if abs(b / a / ratio - 1) < 1e-3]
    likely = f", as {pairs[0][1]:g} is of {pairs[0][0]:g}" if pairs else ""
    words = f"its ε is {ratio:.6g} × the reference's{likely}"
    return Cause("norm-eps", words, "give both the same ε: PyTorch's default is 1e-5, Flax's LayerNorm's 1e-6")


def _running(local: Local, key: Key, settings: Settings, axis: int) -> Iterator[Change]:
    """Running statistics for those of the batch; what the latter are, the running ones tell after the step."""
    names = [f"{key.path}.{kind}".lstrip(".") for kind in ("running_mean", "running_var")]
    after = [local.truth.get(Key("statistic", name)) for name in names]
    if not all(name in local.before for name in names) or any(array is None for array in after):
        return
    x = settings["x"]
    shape = [1] * x.ndim
    shape[axis] = -1
    count = x.size // x.shape[axis]
    mean, var = (local.before[name].astype(np.float64).reshape(shape) for name in names)
    for kept, epsilon in itertools.product((0.9, 0.99), (1e-5, 1e-3)):
        seen, spread = (
            (np.asarray(new).reshape(shape) - kept * old) / (1 - kept)
            for new, old in zip(after, (mean, var), strict=True)
        )
        if (spread > 0).all():
            entered = x * np.sqrt(spread * (count - 1) / count + epsilon) + seen
            yield EVAL, to(x=(entered - mean) / np.sqrt(var + epsilon))


def _of_another(local: Local, key: Key, settings: Settings, target: Target) -> Iterator[Explanation]:
    """The same normalisation of something else that has been computed before."""
    x = settings["x"]
    known = [(name, a) for name, a in sources(local, key) if a.shape == x.shape and a.dtype.kind == "f"]
    for (name, source), epsilon in itertools.product(known, (1e-5, 1e-6, 1e-3)):
        for kind, grouped in enumerate(_normalised(source, epsilon)):
            if target.is_reference(_scaled({**settings, "x": grouped})):
                for other, array in known:
                    made = list(_normalised(array, epsilon))[kind]
                    left = target.left(_scaled({**settings, "x": made}))
                    if left is not None:
                        words = f"it normalises {other}, in the reference {name}"
                        yield Explanation((Cause("another-input", words, f"hand it {name}"),), left)
                return


def _normalised(x: np.ndarray, epsilon: float) -> Iterator[np.ndarray]:
    """x normalised in each of the groups that it may be, with its mean taken off, and without."""
    for seen, axes in _groups(x):
        means = seen.mean(axis=axes, keepdims=True)
        yield ((seen - means) / np.sqrt(seen.var(axis=axes, keepdims=True) + epsilon)).reshape(x.shape)
        yield (seen / np.sqrt((seen**2).mean(axis=axes, keepdims=True) + epsilon)).reshape(x.shape)
