"""Which frameworks run, on what, and with which settings: without this a time means nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradlab_core import backends
from gradlab_core.cli.output import chosen_frameworks
from gradlab_core.errors import GradlabError

_PACKAGES = {"torch": ("torch",), "jax": ("jax", "jaxlib", "flax", "optax")}


def frameworks(name: str | None) -> tuple[str, ...]:
    """The frameworks to run, loaded; `both` is both, and None all that are installed.

    Raises:
        GradlabError: not a framework, or one that is not installed.
    """
    names = chosen(name)
    for one in names:
        backends.load(one)
    return names


def chosen(name: str | None) -> tuple[str, ...]:
    """The same frameworks, not loaded yet."""
    if name not in (None, "both", *backends.BACKENDS):
        raise GradlabError(f"framework is {name!r}; expected one of {', '.join(backends.BACKENDS)}, both")
    return chosen_frameworks(list(backends.BACKENDS) if name == "both" else [name] if name else None)


def environment(names: tuple[str, ...], cache: Path | None = None) -> dict[str, str]:
    """Versions, devices, cores and threads; switches JAX's persistent compilation cache on when `cache` is given.

    Raises:
        GradlabError: a cache without JAX, or one that is no folder.
    """
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load average": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",  # who else is at work
        "numpy": importlib.metadata.version("numpy"),
    }
    for name in names:
        facts |= {package: importlib.metadata.version(package) for package in _PACKAGES[name]}
    if "torch" in names:
        import torch

        facts["torch device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        facts["torch threads"] = str(torch.get_num_threads())
    if "jax" in names:
        import jax

        facts["jax device"] = jax.devices()[0].device_kind
        facts["jax compilation cache"] = "off" if cache is None else _switch_on(cache)
    elif cache is not None:
        raise GradlabError("a compilation cache was given without JAX; expected framework jax or both")
    return facts


def torch_done() -> Callable[[Any], Any]:
    """What waits until PyTorch's device is done; gives back what it gets."""
    import torch

    if not torch.cuda.is_available():
        return lambda result: result

    def wait(result: Any) -> Any:
        torch.cuda.synchronize()
        return result

    return wait


def _switch_on(cache: Path) -> str:
    import jax

    if cache.exists() and not cache.is_dir():
        raise GradlabError(f"compilation cache {cache} is a file; expected a folder")
    state = "warm" if cache.is_dir() and any(cache.iterdir()) else "cold"
    jax.config.update("jax_compilation_cache_dir", str(cache.absolute()))
    # By default only programs that compile for over a second are kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return f"{state}, {cache}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
