"""The twins by name, loaded when asked for and never before."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

from gradlab_core.errors import DISTRIBUTION, GradlabError, MissingDependency, UnsupportedVersion, require

BACKENDS = {"torch": "gradlab_torch", "jax": "gradlab_jax"}
NEEDS = {"torch": {"torch": "2.6"}, "jax": {"jax": "0.8", "flax": "0.12", "optax": "0.2.5"}}
"""What each twin is built on, and the lowest version that is supported; the package's metadata says the same."""


def available() -> tuple[str, ...]:
    """The frameworks installed here, the reference first; nothing is imported."""
    return tuple(name for name, needs in NEEDS.items() if all(map(_is_there, needs)))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # something in this environment forbids it
        return False


def check(name: str) -> None:
    """Import what the twin of that framework is built on, and hold each version against the lowest supported one.

    Raises:
        MissingDependency: it is not installed; the message holds the pip command. It is an ImportError too.
        UnsupportedVersion: versions below what is supported, all of them at once. It is an ImportError too.
    """
    problems: list[str] = []
    for module, lowest in NEEDS[name].items():
        try:
            version = str(getattr(require(module, extra=name), "__version__", ""))
        except MissingDependency:
            raise
        except Exception:
            # A library that needs a newer framework often fails to import. The old framework, reported below, is why.
            if problems:
                break
            raise
        if is_below(version, lowest):
            problems.append(f"{module} is {version}, expected at least {lowest}")
    if problems:
        raise UnsupportedVersion(f"{'; '.join(problems)}: install with pip install '{DISTRIBUTION}[{name}]'")


def is_below(version: str, lowest: str) -> bool:
    """Whether a version's numbers are below those of a bound. A pre-release of the bound (2.6.0a0, 0.8.0.dev1) counts
    as the bound, and a version without numbers passes: only a version known to be too old is refused.

    >>> is_below("2.5.1+cu124", "2.6"), is_below("2.13.0+cpu", "2.6"), is_below("2.6.0a0+git1f3", "2.6")
    (True, False, False)
    """
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return numbers is not None and _numbers(numbers[1]) < _numbers(lowest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def load(name: str) -> ModuleType:
    """Import the twin of that framework, and start the device that it works on by itself.

    Raises:
        GradlabError: not a framework gradlab knows.
        MissingDependency: the framework is not installed; the message holds the pip command.
        UnsupportedVersion: the framework's version is below what is supported.
        GradlabError: the environment names a device that is not there, as JAX_PLATFORMS=cuda does without one.

    >>> load("tensorflow")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: framework 'tensorflow' is not known; expected one of torch, jax
    """
    if name not in BACKENDS:
        raise GradlabError(f"framework {name!r} is not known; expected one of {', '.join(BACKENDS)}")
    check(name)
    twin = importlib.import_module(BACKENDS[name])
    importlib.import_module(f"{BACKENDS[name]}.trees.devices").device()
    return twin
