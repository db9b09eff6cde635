"""What a step promised, by the kernels of a GPU: run as `interpreted.py` is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradlab_core.definitions import reference
from gradlab_core.definitions.promise import dot
from gradlab_torch.monitoring.applied import Applied
from tests.torch.interpreted import TYPES, placed


@pytest.mark.parametrize("dtype", TYPES)
def test_promises_over_shapes_layouts_and_the_range_of_the_type(dtype):
    """Beside a missing gradient, one in another layout, one that is not aligned, and blocks that are whole or not."""
    rng = np.random.default_rng(0)
    shapes = [(3,), (4, 3, 5, 5), (16384,), (16385,), (7,), (300,)]
    sizes = [1.0, 1.0, 1.0, 1e-3, 1.0, 1.0] if dtype == torch.float16 else [1e30, 1.0, 1e-30, 1e-3, 1.0, 1.0]
    olds, news, grads = (
        [
            placed(torch.from_numpy(rng.standard_normal(s) * size).to(dtype))
            for s, size in zip(shapes, sizes, strict=True)
        ]
        for _ in range(3)
    )
    grads[1] = grads[1].to(memory_format=torch.channels_last)
    grads[4] = None
    grads[5] = placed(torch.from_numpy(rng.standard_normal(301)).to(dtype))[1:]
    params = [p.clone() for p in olds]
    watch = Applied(params)
    watch.before()
    for p, new in zip(params, news, strict=True):
        p.copy_(new)
    rows = watch.after(grads).cpu()
    for row, old, new, g in zip(rows.tolist(), olds, news, grads, strict=True):
        before, g = old.double().cpu(), torch.zeros_like(new) if g is None else g
        moves = new.double().cpu() - before
        limit = {"rel": 1e-6, "abs": 1e-9 * float(moves.norm())}
        assert row[0] == pytest.approx(reference.norm(moves), rel=1e-6)
        assert row[1] == pytest.approx(
            dot([g.double().cpu()], [moves]), **limit | {"abs": limit["abs"] * float(g.norm())}
        )
        assert row[2] == pytest.approx(dot([before], [moves]), **limit | {"abs": limit["abs"] * float(before.norm())})
