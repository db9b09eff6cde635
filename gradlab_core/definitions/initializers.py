"""The numbers a net starts from, drawn once for both twins: the same seed gives the same weights in either framework.

Every initialiser draws the weights of dense, convolutional and recurrent layers and says what their biases are. Each
tensor has a stream of its own, keyed by the seed and its path, so that adding a layer changes no other layer. A fused
recurrent weight holds one matrix a gate: each is drawn as the matrix it is, with the fans of one gate.

fan_in counts the inputs that one output sums, fan_out the outputs that one input feeds. A dense or convolutional weight
(out, in/groups, …) with k elements in its window has fan_in = in/groups·k (one group) and fan_out = out·k (all groups),
as in `torch.nn.init` and JAX. A transposed convolution, whose weight is (in, out/groups, …), has the same two numbers,
as in JAX. There `torch.nn.init` swaps the two, since it goes by the axes; only `torch_default`, which reproduces
PyTorch's start, follows it. Neither here nor there do strides count: a transposed convolution of stride s sums only
k/s^d of its window at each pixel.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradlab_core.definitions import kinds
from gradlab_core.definitions.recurrent import CELLS
from gradlab_core.errors import GradlabError, refuse

Array = NDArray[np.float64]
Fans = tuple[int, int]
_Draw = Callable[[np.random.Generator, tuple[int, ...], Fans, float], Array]


class Tensor(NamedTuple):
    """A parameter: the layer's kind (`conv`, `linear`, `embedding` or a recurrent cell), the parameter's shape
    and, for a convolution, whether it is transposed, and its groups."""

    kind: str
    shape: tuple[int, ...]
    transposed: bool = False
    groups: int = 1


class Initializer(NamedTuple):
    """How one weight matrix is drawn; `draw` is None for PyTorch's default, which draws whole layers. `number` names
    the one number that it takes, if any; `default` is its value, None if the caller must give one."""

    draw: _Draw | None
    number: str | None = None
    default: float | None = None


def fans(shape: tuple[int, ...], *, transposed: bool = False, groups: int = 1) -> Fans:
    """`(fan_in, fan_out)` of a canonical weight: (out, in/groups, …), or (in, out/groups, …) if it is transposed.

    >>> fans((64, 32, 3, 3)), fans((10, 64))
    ((288, 576), (64, 10))
    >>> fans((32, 64, 3, 3), transposed=True), fans((32, 32, 3, 3), transposed=True, groups=2)
    ((288, 576), (144, 576))
    """
    window = math.prod(shape[2:])
    if transposed:
        return shape[0] // groups * window, shape[1] * groups * window
    return shape[1] * window, shape[0] * window


def _mean_fan(fans: Fans) -> float:
    return sum(fans) / 2


def _fan_in(fans: Fans) -> float:
    return fans[0]


def _uniform(fan: Callable[[Fans], float]) -> _Draw:
    def draw(stream: np.random.Generator, shape: tuple[int, ...], fans: Fans, gain: float) -> Array:
        bound = gain * math.sqrt(3 / fan(fans))  # so that the standard deviation is gain/√fan
        return stream.uniform(-bound, bound, shape)

    return draw


def _normal(fan: Callable[[Fans], float]) -> _Draw:
    return lambda stream, shape, fans, gain: gain / math.sqrt(fan(fans)) * stream.standard_normal(shape)


def _orthogonal(stream: np.random.Generator, shape: tuple[int, ...], fans: Fans, gain: float) -> Array:
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(stream.standard_normal((max(rows, columns), min(rows, columns))))
    # QR alone prefers some rotations: with the signs of R's diagonal all are equally likely (Mezzadri 2007).
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (gain * (q if rows >= columns else q.T)).reshape(shape)


INITIALIZERS: dict[str, Initializer] = {
    "constant": Initializer(lambda stream, shape, fans, value: np.full(shape, value), "value"),
    "normal": Initializer(lambda stream, shape, fans, std: std * stream.standard_normal(shape), "std", 0.01),
    "xavier_uniform": Initializer(_uniform(_mean_fan), "gain", 1.0),
    "xavier_normal": Initializer(_normal(_mean_fan), "gain", 1.0),
    "kaiming_uniform": Initializer(_uniform(_fan_in), "gain", math.sqrt(2)),
    "kaiming_normal": Initializer(_normal(_fan_in), "gain", math.sqrt(2)),
    "lecun_normal": Initializer(_normal(_fan_in), None, 1.0),
    "orthogonal": Initializer(_orthogonal, "gain", 1.0),
    "torch_default": Initializer(None),
}


def initial_arrays(
    name: str, tensors: Mapping[str, Tensor], *, seed: int, number: float | None = None
) -> dict[str, NDArray[np.float32]]:
    """Initial arrays, float32, for the parameters of a model's layers in canonical layout.

    `torch_default` also draws biases, and embeddings from N(0, 1), as PyTorch does. The others set biases to 0 and have
    no rule for embeddings and leave them out.

    Args:
        name: one of `INITIALIZERS`.
        tensors: weights and biases by path.
        seed: a whole number of at least 0.
        number: value, std or gain; the initialiser's default if None.

    Raises:
        GradlabError: nothing to draw, or a seed or number that does not fit; all problems in one message.

    >>> layer = {"fc.weight": Tensor("linear", (2, 4)), "fc.bias": Tensor("linear", (2,))}
    >>> arrays = initial_arrays("torch_default", layer, seed=0)
    >>> bool(abs(arrays["fc.weight"]).max() <= 0.5), bool(arrays["fc.bias"].any())
    (True, True)
    """
    if name not in INITIALIZERS:
        raise GradlabError(f"initialiser {name!r} is not known; expected one of {', '.join(INITIALIZERS)}")
    initializer = INITIALIZERS[name]
    problems = number_problems(name, number)
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        problems.append(f"seed is {seed!r}; expected a whole number of at least 0")
    if not tensors:
        problems.append("the model has no dense, convolutional or recurrent layer; expected at least one")
    refuse(name, problems)
    strength = number if number is not None else initializer.default if initializer.default is not None else math.nan
    arrays = {}
    for path, tensor in tensors.items():
        stream = np.random.default_rng([seed, zlib.crc32(path.encode())])
        if initializer.draw is None:
            array = _as_torch(stream, path, tensors)
        elif tensor.kind == kinds.EMBEDDING:
            continue
        elif _is_bias(path):
            array = np.zeros(tensor.shape)
        else:
            gates = len(CELLS.get(tensor.kind, "w"))
            shape = (tensor.shape[0] // gates, *tensor.shape[1:])
            gate_fans = fans(shape, transposed=tensor.transposed, groups=tensor.groups)
            array = np.concatenate([initializer.draw(stream, shape, gate_fans, strength) for _ in range(gates)])
        arrays[path] = array.astype(np.float32)
    return arrays


def number_problems(name: str, number: float | None) -> list[str]:
    """What is wrong with the number handed to an initialiser; empty if nothing is.

    >>> number_problems("lecun_normal", 2.0)
    ['number is 2.0; lecun_normal takes none']
    """
    wanted = INITIALIZERS[name].number
    if number is None:
        needed = wanted is not None and INITIALIZERS[name].default is None
        return [f"{wanted} is missing; {name} needs one"] if needed else []
    if wanted is None:
        return [f"number is {number!r}; {name} takes none"]
    real = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
    if not real or (number < 0 and wanted != "value"):
        return [f"{wanted} is {number!r}; expected a finite number{'' if wanted == 'value' else ' of at least 0'}"]
    return []


def _is_bias(path: str) -> bool:
    return path.rpartition(".")[2].startswith("bias")


def _as_torch(stream: np.random.Generator, path: str, tensors: Mapping[str, Tensor]) -> Array:
    """Uniform on ±1/√fan_in, also for biases, with the fan-in of their weight. A recurrent layer uses the size of its
    state instead. PyTorch takes the second axis as that of the inputs, whatever the layer."""
    kind, shape = tensors[path][:2]
    if kind == kinds.EMBEDDING:
        return stream.standard_normal(shape)
    if kind in CELLS:
        fan = shape[0] // len(CELLS[kind])
    else:
        module = path.rpartition(".")[0]
        fan = fans(tensors[f"{module}.weight" if module else "weight"].shape)[0]
    bound = 1.0 / np.sqrt(fan)
    return stream.uniform(-bound, bound, shape)
