"""The twins by name, loaded when asked for and never before."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from gradlab_core.errors import GradlabError, require

BACKENDS = {"torch": "gradlab_torch", "jax": "gradlab_jax"}
_NEEDS = {"torch": ("torch",), "jax": ("jax", "flax", "optax")}


def available() -> tuple[str, ...]:
    """The frameworks installed here, the reference first; nothing is imported."""
    return tuple(name for name, needs in _NEEDS.items() if all(map(_is_there, needs)))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # something in this environment forbids it
        return False


def check(name: str) -> None:
    """Import what the twin of that framework is built on.

    Raises:
        MissingDependency: it is not installed; the message holds the pip command. It is an ImportError too.
    """
    for module in _NEEDS[name]:
        require(module, extra=name)


def load(name: str) -> ModuleType:
    """Import the twin of that framework.

    Raises:
        GradlabError: not a framework gradlab knows.
        MissingDependency: the framework is not installed; the message holds the pip command.

    >>> load("tensorflow")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: framework 'tensorflow' is not known; expected one of torch, jax
    """
    if name not in BACKENDS:
        raise GradlabError(f"framework {name!r} is not known; expected one of {', '.join(BACKENDS)}")
    check(name)
    return importlib.import_module(BACKENDS[name])
