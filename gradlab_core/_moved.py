"""Modules and names that were called otherwise until version 0.2: the old one still works, and warns of the new one."""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any


def _moved(package: str, rooms: dict[str, str]) -> dict[str, str]:
    pairs = [(room, name) for room, names in rooms.items() for name in names.split()]
    return {f"{package}.{name}": f"{package}.{room}.{name}" for room, name in pairs}


_CORE = {
    "compare": "comparison experiment published",
    "definitions": "anomaly checks curvature gradient_noise hidden initializers kinds monitoring noise recurrent "
    "reference states symmetry thresholds",
    "judge": "bands examination norm_notes norm_report trend_words trends",
    "parity": "weights",
    "programs": "data scenarios specs tasks training",
    "records": "codec decoding later ordering ranges",
}
_TWINS = {
    "model": "checks losses weights",
    "trees": "norms",
    "measure": "activations analysis cost curvature flow hidden origins per_example probing sensitivity updates",
    "monitoring": "monitor",
    "start": "doctor examination initializers jacobian lab propagation",
    "programs": "faults models",
    "parity": "subject",
}
MOVED = {
    **_moved("gradlab_core", _CORE),
    "gradlab_core.lab.against_theory": "gradlab_core.lab.theory_comparison",
    "gradlab_core.diagnose": "gradlab_core.judge.diagnosis",
    "gradlab_core.program_checks": "gradlab_core.programs.checks",
    "gradlab_core.transformer": "gradlab_core.definitions.positions",
    **_moved("gradlab_torch", _TWINS),
    "gradlab_torch.train": "gradlab_torch.programs.training",
    **_moved("gradlab_jax", _TWINS),
    "gradlab_jax.train": "gradlab_jax.programs.training",
}


RENAMED = {
    "layer_norms": "module_norms",
    "Live": "LiveDiagnosis",
    "LayerStep": "LayerStepSize",
    "Repair": "RepairedWeights",
    "Propagated": "Propagation",
}
"""Names of both twins."""
INITIALIZERS = frozenset(
    "constant normal xavier_uniform xavier_normal kaiming_uniform kaiming_normal lecun_normal orthogonal "
    "torch_default".split()
)
"""Names that were functions of both twins, and are what `initialize` is given."""


class _Moved(ModuleType):
    """Stands for a module under its old name."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(name, module.__doc__)
        self.__dict__["__path__"] = []  # modules inside it are found in the same way
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def __call__(self, *args: Any, **more: Any) -> Any:
        """Keep `gradlab_core.diagnose` callable: this function has the name of an old module, and importing that module
        must not hide it."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **more)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if _new(name) else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        new = _new(spec.name)
        assert new is not None  # it was asked for by find_spec
        _warn(spec.name, new)
        return _Moved(spec.name, importlib.import_module(new))

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run: the module was imported under its new name."""


def _new(name: str) -> str | None:
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next version", DeprecationWarning, stacklevel=3)


def also_from(new: str, old: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that took over a module's name: names of that module still work."""

    def find(name: str) -> Any:
        if name.startswith("__") or not hasattr(module := importlib.import_module(new), name):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        _warn(f"{old}.{name}", f"{new}.{name}")
        return getattr(module, name)

    return find


def attributes_of(package: str, renamed: Mapping[str, str] = MappingProxyType({})) -> Callable[[str], Any]:
    """The `__getattr__` of a package, for renamed names and for modules that used to be its attributes, such as
    `gradlab_torch.losses`."""

    def find(name: str) -> Any:
        if name in INITIALIZERS and hasattr(sys.modules[package], "initialize"):
            _warn(f"{package}.{name}", f'{package}.initialize(model, "{name}", seed=…)')
            return functools.partial(_initialize, sys.modules[package].initialize, name)
        if name in renamed:
            _warn(f"{package}.{name}", f"{package}.{renamed[name]}")
            return getattr(sys.modules[package], renamed[name])
        if f"{package}.{name}" not in MOVED:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return find


def _initialize(initialize: Callable[..., None], name: str, model: Any, *, seed: int = 0, **number: float) -> None:
    """An initialiser as a function of its own. Its one argument besides the seed is its value, std or gain."""
    if len(number) > 1 or set(number) - {"value", "std", "gain"}:
        raise TypeError(f"{name}() got {', '.join(number)}; expected at most one number: value, std or gain")
    initialize(model, name, seed=seed, number=next(iter(number.values()), None))


def install() -> None:
    """Let Python find old module names. They come last, so that they hide no module that exists."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
