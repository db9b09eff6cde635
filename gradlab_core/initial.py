"""The numbers a net starts from, drawn once for both twins: the same seed gives the same weights in either framework.

PyTorch's default distribution: weights and biases of convolutions and linear layers are uniform on ±1/√fan_in
(`kaiming_uniform_(a=√5)`), normalisations start at weight 1, bias 0, running mean 0, running variance 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_CONSTANT = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def torch_default_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Initial arrays for canonical `{path: shape}`, float32.

    A module whose `weight` has two or more axes is a convolution or a linear layer, one axis a normalisation. Each
    tensor has a stream of its own, keyed by the seed and its path, so adding a layer changes no other layer.

    >>> w = torch_default_weights({"fc.weight": (2, 4), "fc.bias": (2,), "bn.weight": (3,)}, seed=0)
    >>> bool(abs(w["fc.weight"]).max() <= 0.5), w["bn.weight"].tolist()
    (True, [1.0, 1.0, 1.0])
    """
    arrays = {}
    for path, shape in shapes.items():
        module, _, name = path.rpartition(".")
        kernel = shapes[f"{module}.weight"]
        if len(kernel) < 2:
            arrays[path] = np.full(shape, _CONSTANT[name], dtype=np.float32)
        else:
            bound = 1.0 / np.sqrt(np.prod(kernel[1:]))
            stream = np.random.default_rng([seed, zlib.crc32(path.encode())])
            arrays[path] = stream.uniform(-bound, bound, shape).astype(np.float32)
    return arrays
