"""The errors gradlab raises on purpose: each says what came, what was expected and what to do."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType

DISTRIBUTION = "gradlab-parity"


class GradlabError(ValueError):
    """Bad input. The command line prints the message without a traceback and exits with code 2."""


class MissingDependency(GradlabError, ImportError):
    """An optional library is not installed; the message holds the pip command that brings it."""


class UnsupportedVersion(GradlabError, ImportError):
    """A framework is installed in a version below what gradlab supports; the message holds the pip command."""


def refuse(title: str, problems: Iterable[str]) -> None:
    """Raise one `GradlabError` that lists every problem, or return if there is none.

    >>> refuse("bad spec", [])
    >>> refuse("bad spec", ["base is 0; expected a whole number of at least 1"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: bad spec: base is 0; expected a whole number of at least 1
    """
    listed = list(problems)
    if len(listed) == 1:
        raise GradlabError(f"{title}: {listed[0]}")
    if listed:
        raise GradlabError(f"{title}: {len(listed)} problems\n" + "\n".join(f"  - {p}" for p in listed))


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional library, or say how to install it.

    >>> require("json", extra="report").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A missing *dependency of* the library is its own problem and must not be disguised as ours.
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingDependency(
            f"{module.split('.')[0]} is not installed: install with pip install '{DISTRIBUTION}[{extra}]'"
        ) from error
