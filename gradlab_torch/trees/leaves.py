"""Names and order of the tensors in a tree: definition order, dotted paths, None for a missing gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradlab_core.errors import GradlabError

Tree = Any
"""A tensor, None, a module (its parameters), or a mapping or sequence of trees."""


def named_leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, torch.Tensor | None]]:
    """`(path, tensor)` of every leaf, in order."""
    if isinstance(tree, torch.nn.Module):
        for name, parameter in tree.named_parameters():
            yield _join(prefix, name), parameter
    elif tree is None or isinstance(tree, torch.Tensor):
        # Of a sparse gradient the zeros that are not stored add nothing.
        yield prefix, tree.coalesce().values() if tree is not None and tree.is_sparse else tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from named_leaves(item, _join(prefix, str(key)))
    elif isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        for index, item in enumerate(tree):
            yield from named_leaves(item, _join(prefix, str(index)))
    else:
        where = prefix or "the tree"
        raise GradlabError(
            f"{where} is a {type(tree).__name__}; expected a tensor, None, or a mapping or sequence of them"
        )


def map_leaves(tree: Tree, function: Any) -> Tree:
    """The same mapping or sequence with `function` applied to every tensor; None stays None."""
    if isinstance(tree, torch.nn.Module):
        raise GradlabError("the tree is a module; expected a mapping or sequence of tensors")
    if tree is None or isinstance(tree, torch.Tensor):
        return None if tree is None else function(tree)
    if isinstance(tree, Mapping):
        return {key: map_leaves(item, function) for key, item in tree.items()}
    mapped = [map_leaves(item, function) for item in tree]
    if isinstance(tree, tuple):
        return type(tree)(*mapped) if hasattr(tree, "_fields") else tuple(mapped)
    return mapped


def module_of(path: str) -> str:
    """The path of the module that owns the tensor at `path`."""
    return path.rpartition(".")[0]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
