"""Inputs and weights under which different programs give equal results, and how to avoid them."""

from __future__ import annotations

import numpy as np

from gradlab_core.errors import refuse
from gradlab_core.parity.batch import Inputs, each


def moved(weights: dict[str, np.ndarray], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights moved a little at random, as a few training steps would: no zero bias and no unit scale in which an error
    could hide. Running variances stay positive.

    >>> bool(moved({"bn.bias": np.zeros(3, np.float32)})["bn.bias"].all())
    True
    """
    rng = np.random.default_rng(seed)
    noise = {path: 0.05 * rng.standard_normal(w.shape) for path, w in weights.items()}
    return {
        path: (w + (np.abs(noise[path]) if path.endswith("running_var") else noise[path])).astype(w.dtype)
        for path, w in weights.items()
    }


def refuse_hiding_places(x: Inputs, weights: dict[str, np.ndarray]) -> None:
    """Refuse inputs under which different programs give equal results: a constant image looks the same flipped,
    transposed or shifted. Of several inputs one must tell: a mask holds little but ties."""
    problems = []
    inputs = each(x)
    problems += [
        f"the batch holds NaN or Inf{f' in {name}' if name else ''}; expected finite numbers"
        for name, array in inputs.items()
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if not problems and not any(map(_tells, inputs.values())):
        problems.append("over half the inputs are ties (all ones, zeros, …); expected values that differ: add noise")
    sizes = {name: len(array) for name, array in inputs.items() if array.ndim}
    if not sizes:
        problems.append("the batch holds no array with an axis; expected examples along the first one")
    elif next(iter(sizes.values())) < 2:
        problems.append("the batch holds one example; expected at least two, so that a mix-up of examples shows")
    idle = [p for p, w in weights.items() if p.endswith("bias") and not np.any(w)]
    if idle:
        problems.append(
            f"the bias {idle[0]} is all zeros, so a lost one looks the same; expected weights that have moved: "
            "load gradlab_core.parity.moved(weights)"
        )
    square = [w for p, w in weights.items() if p.endswith("weight") and w.ndim > 1 and w.shape[0] == w.shape[1] > 1]
    if any(np.array_equal(w, np.swapaxes(w, 0, 1)) for w in square):
        problems.append("a square weight is symmetric, so a transposed one looks the same; expected random weights")
    refuse("parity inputs", problems)


def _tells(array: np.ndarray) -> bool:
    """Whether an input has values that differ: half of them where it holds real numbers, two where it holds words."""
    return len(np.unique(array)) >= (0.5 * array.size if array.dtype.kind == "f" else 2) and array.dtype.kind != "b"
