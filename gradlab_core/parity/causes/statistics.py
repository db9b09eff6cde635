"""Running statistics: how much of the old value is kept, and of which variance the new one is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Settings, Target, search, to
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_KEPT = (0.9, 0.99, 0.1, 0.01, 0.999, 0.95, 0.5, 0.0)


def statistic(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    """new = k·old + (1 − k)·seen: another k, or what is seen is the variance of n for that of n − 1."""
    stored = local.before.get(key.path)
    if stored is None or stored.dtype.kind != "f" or stored.shape != target.truth.shape:
        return
    old = stored.astype(np.float64)
    count = _count(local, key)
    for kept in _KEPT[:-1]:
        seen = (target.truth - kept * old) / (1 - kept)
        if _is_seen(local, key, seen, count):
            settings: Settings = {"old": old, "seen": seen, "kept": kept}
            changes: list[Change] = []
            for other in (k for k in _KEPT if k != kept):
                words = f"it keeps {other:g} of the old value, the reference {kept:g}"
                fix = f"PyTorch's momentum {1 - kept:.6g} weighs the new value, Flax's momentum {kept:g} the old one"
                changes.append((Cause("bn-momentum", words, fix), to(kept=other)))
            if count > 1 and "var" in key.path:
                for factor, ours, theirs in (((count - 1) / count, "n − 1", "n"), (count / (count - 1), "n", "n − 1")):
                    words = (
                        f"the variance is over {theirs}, in the reference over {ours}: {factor:.6g} × with n = {count}"
                    )
                    fix = f"multiply what goes into the running variance by {1 / factor:.6g} (n = {count})"
                    changes.append((Cause("bn-running-var", words, fix), to(seen=factor * seen)))
            still = Cause("batchnorm-mode", "it is not updated", "run in train mode, and keep the new statistics")
            changes.append((still, to(seen=old)))
            yield from search(_updated, settings, changes, target)
            return


def _updated(s: Settings) -> np.ndarray:
    return np.asarray(s["kept"] * s["old"] + (1 - s["kept"]) * s["seen"])


def _count(local: Local, key: Key) -> int:
    """Of how many elements a channel's statistics are."""
    truth = local.truth.get(Key("activation", key.path.rpartition(".")[0]))
    return 0 if truth is None else math.prod(truth.shape) // truth.shape[1 if truth.ndim > 2 else -1]


def _is_seen(local: Local, key: Key, seen: np.ndarray, count: int) -> bool:
    """Whether these are statistics of the tensors of this step; the usual momentum is believed where nothing tells."""
    kind = "var" if "var" in key.path else "mean"
    known = False
    for other, value in local.truth.items():
        if other.quantity != "activation" or value is None or value.ndim < 2:
            continue
        axis = 1 if value.ndim > 2 else value.ndim - 1
        if value.shape[axis] != seen.size:
            continue
        known = True
        axes = tuple(a for a in range(value.ndim) if a != axis)
        made = value.mean(axis=axes) if kind == "mean" else value.var(axis=axes)
        ddof = [made] if kind == "mean" or count < 2 else [made, made * count / (count - 1)]
        if any(np.allclose(seen, m, rtol=1e-7, atol=1e-12) for m in ddof):
            return True
    return not known
