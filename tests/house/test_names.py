"""A variable says what it holds: `found` says only that something was looked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("gradlab_core", "gradlab_torch", "gradlab_jax", "benchmarks")


def bound(tree: ast.Module, name: str) -> Iterator[int]:
    """The lines where a variable or a parameter of this name is bound. A field of a class is not a variable."""
    fields = {
        id(part.target)
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for part in kind.body
        if isinstance(part, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        is_variable = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name
        if (is_variable or (isinstance(node, ast.arg) and node.arg == name)) and id(node) not in fields:
            yield node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_variable_is_called_found(folder: str) -> None:
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths
    places = [
        f"{path}:{line}" for path in paths for line in bound(ast.parse((ROOT / path).read_text("utf-8")), "found")
    ]
    assert not places


@pytest.mark.parametrize(
    "code",
    ["found = 1", "def f(found): ...", "for found in (): ...", "[0 for found in ()]", "(found := 1)", "found += 1"],
)
def test_every_way_to_bind_is_seen(code: str) -> None:
    assert list(bound(ast.parse(code), "found")) == [1]


def test_a_field_is_not_a_variable() -> None:
    assert not list(bound(ast.parse("class A:\n    found: int\na.found = found"), "found"))
