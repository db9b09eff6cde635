"""Where and how a tensor differs, in words, for what no cause explains."""

from __future__ import annotations

import numpy as np

_SOME = 1e-6  # of the largest difference: below it an element counts as equal


def shape_of(truth: np.ndarray | None, value: np.ndarray | None) -> str:
    """Where two tensors differ.

    >>> truth = np.arange(24.0).reshape(2, 4, 3)
    >>> shape_of(truth, np.where(np.arange(4)[:, None] > 0, truth + 1, truth))
    'differs from position 1 of axis 1 on'
    >>> shape_of(truth, 2 * truth + 1)
    'differs everywhere, by 1.1 of its norm, at most 24'
    """
    if truth is None or value is None:
        return "one side has no such tensor"
    if truth.shape != value.shape:
        return f"has shape {value.shape}; expected {truth.shape}"
    if not np.array_equal(np.isfinite(truth), np.isfinite(value)):
        return f"{int((~np.isfinite(value)).sum())} of its {value.size} elements are NaN or Inf"
    away = np.abs(np.nan_to_num(value) - np.nan_to_num(truth))
    differs = away > _SOME * away.max(initial=0.0)
    if differs.all():
        norm = float(np.linalg.norm(truth)) or 1.0
        return f"differs everywhere, by {np.linalg.norm(away) / norm:.2g} of its norm, at most {away.max():.2g}"
    place = _axis_words(differs) or _border_words(differs)
    share = f"in {int(differs.sum())} of {differs.size} elements"
    return f"differs {place}" if place else f"differs {share}"


def _axis_words(differs: np.ndarray) -> str:
    """Where along one axis, if that says it all."""
    for axis in range(differs.ndim):
        others = tuple(a for a in range(differs.ndim) if a != axis)
        some = np.asarray(differs.any(axis=others))
        if some.all() or differs.shape[axis] < 2:
            continue
        places = np.flatnonzero(some)
        if places[0] > 0 and len(places) == len(some) - places[0]:
            return f"from position {places[0]} of axis {axis} on"
        listed = ", ".join(map(str, places[:6])) + (" …" if len(places) > 6 else "")
        return f"at {len(places)} of {len(some)} places of axis {axis} only: {listed}"
    return ""


def _border_words(differs: np.ndarray) -> str:
    if differs.ndim < 3 or min(differs.shape[2:]) < 3:
        return ""
    inside = differs[(slice(None), slice(None), *(slice(1, -1) for _ in differs.shape[2:]))]
    return "" if inside.any() else "at the border only"
