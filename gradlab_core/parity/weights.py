"""Canonical weights as plain NumPy: checked against what a model wants, and on disk as .npz, which runs no code."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.files import whole_file


def check_weights(arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that do not fit a model's canonical `{path: shape}`; all misfits in one message.

    >>> check_weights({"a.weight": np.zeros(2)}, {"a.weight": (3,), "a.bias": (3,)})
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: canonical weights: 2 problems
      - a.bias is missing; expected shape (3,)
      - a.weight has shape (2,); expected (3,)
    """
    problems = [f"{p} is missing; expected shape {s}" for p, s in shapes.items() if p not in arrays]
    problems += [f"{p} is not a tensor of this model" for p in arrays if p not in shapes]
    problems += [
        f"{p} has shape {np.shape(arrays[p])}; expected {s}"
        for p, s in shapes.items()
        if p in arrays and np.shape(arrays[p]) != tuple(s)
    ]
    refuse("canonical weights", problems)


def save_weights(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write canonical weights to an .npz file, whole or not at all, in their order."""
    target = Path(path)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    with whole_file(target) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read canonical weights from an .npz file; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError, EOFError, MemoryError) as error:
        raise GradlabError(f"{path} is not a readable .npz of plain arrays: {error}") from error
