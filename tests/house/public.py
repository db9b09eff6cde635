"""`python -m tests.house.public > tests/house/public.txt`: every public name of the twins, with its signature."""

from __future__ import annotations

import importlib
import inspect

TWINS = ("gradlab_torch", "gradlab_jax")


def described(name: str, value: object) -> str:
    """A name as one line: functions and classes with their arguments and defaults, anything else with its type."""
    if not callable(value):
        return f"{name}: {type(value).__name__}"
    if inspect.isclass(value) and issubclass(value, (Exception, str)):  # an enumeration is one of str
        return f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
    text = str(inspect.Signature([_bare(p) for p in inspect.signature(value).parameters.values()]))
    return f"{'class ' if inspect.isclass(value) else ''}{name}{text}"


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    """Without its type, and with a function that is a default by its name and not by where it lies in memory."""
    default = parameter.default
    shown = _Named(default.__name__) if inspect.isfunction(default) else default
    return parameter.replace(annotation=inspect.Parameter.empty, default=shown)


class _Named(str):
    def __repr__(self) -> str:
        return str(self)


def public() -> list[str]:
    """The lines of the file."""
    lines = []
    for twin in TWINS:
        package = importlib.import_module(twin)
        lines += [f"{twin}: {described(name, getattr(package, name))}" for name in sorted(package.__all__)]
    return lines


if __name__ == "__main__":
    print("\n".join(public()))
