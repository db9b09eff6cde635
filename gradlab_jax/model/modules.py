"""Any model as one pure function of a tuple of parameters in definition order.

Everything that measures a model goes through `functional`, which decides what a model is; what differs between NNX and
Linen stays here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_core.records import MODES
from gradlab_jax.model.function import as_function, plain
from gradlab_jax.model.inputs import arguments, call

# The names flax gives to what PyTorch calls weight, running_mean and running_var.
_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "mean": "running_mean", "var": "running_var"}
PATH = "_gradlab_path"
_INTERNAL = ("_pytree__", "__")  # Flax's own attributes of a module


def canonical_name(name: str) -> str:
    """PyTorch's name of a parameter or statistic, for Flax's."""
    return _NAMES.get(name, name)


class Functional(Hashable, Protocol):
    """A hashable description of a model in one mode: the static part of a jitted measurement."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """The order of axes that makes each parameter canonical."""
        ...

    def apply(self, params: tuple[jax.Array, ...], rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        """Logits and the new state; pure."""
        ...


def functional(model: Any, mode: str) -> tuple[Functional, tuple[jax.Array, ...], Any]:
    """`(functional, params, rest)` of an NNX module, a bound Linen module, a module of Equinox or a `Function`, which
    has one mode only; the model itself is not touched.

    Raises:
        GradlabError: not a model, or an unknown mode.
    """
    if mode not in MODES:
        raise GradlabError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if isinstance(model, nnx.Module):
        return _nnx_functional(model, mode)
    if isinstance(model, nn.Module) and model.scope is not None:
        return _linen_functional(model, mode)
    function = as_function(model, mode)
    if function is not None:
        return plain(function)
    linen = isinstance(model, nn.Module)
    hint = "bind the Linen module: module.bind(variables)" if linen else "pass a model, or gradlab_jax.Function of one"
    raise GradlabError(
        f"model is a {type(model).__name__}; expected an nnx.Module or a bound Linen module, a module of Equinox or a "
        f"Function: {hint}"
    )


def set_values(model: nnx.Module, params: tuple[jax.Array, ...], rest: Any) -> None:
    """Give a module the values that `functional` once took from it, and what has become of them."""
    variables = [v for _, _, v in named_variables(model) if isinstance(v, nnx.Param)]
    for variable, value in zip(variables, params, strict=True):
        variable.set_value(value)
    nnx.update(model, rest)


def named_modules(model: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """`(canonical path, module)` in definition order; a shared module comes once, under its first path."""
    seen: set[int] = set()

    def walk(value: Any, path: str) -> Iterator[tuple[str, nnx.Module]]:
        if isinstance(value, nnx.Module):
            if id(value) in seen:
                return
            seen.add(id(value))
            yield path, value
            for name, child in vars(value).items():
                if not name.startswith(_INTERNAL):
                    # PyTorch's Sequential numbers its layers without a name in between.
                    inner = isinstance(value, nnx.Sequential) and name == "layers"
                    yield from walk(child, path if inner else _join(path, name))
        elif isinstance(value, Mapping):
            for key, child in value.items():
                yield from walk(child, _join(path, str(key)))
        elif isinstance(value, (list, tuple)):
            for index, child in enumerate(value):
                yield from walk(child, _join(path, str(index)))

    return walk(model, "")


def named_variables(model: nnx.Module) -> Iterator[tuple[str, nnx.Module, nnx.Variable[Any]]]:
    """`(canonical path, owner, variable)` of parameters and statistics, in PyTorch's order within each module."""
    seen: set[int] = set()
    for path, module in named_modules(model):
        own = []
        for name, value in vars(module).items():
            if isinstance(value, (nnx.Param, nnx.BatchStat)) and id(value) not in seen:
                seen.add(id(value))
                own.append((not isinstance(value, nnx.Param), _NAMES.get(name, name), value))
        for _, name, variable in sorted(own, key=lambda item: (item[0], item[1] != "weight")):
            yield _join(path, name), module, variable


def named_parameters(model: nnx.Module) -> dict[str, jax.Array]:
    """`{canonical path: array}` of the parameters in definition order, native layout."""
    return {p: v.get_value() for p, _, v in named_variables(model) if isinstance(v, nnx.Param)}


def clone(model: nnx.Module, cast: Callable[[jax.Array], jax.Array] = lambda leaf: leaf) -> nnx.Module:
    """A copy with `cast` applied to every array. Flax sorts a module's attributes when it copies; here the copy keeps
    the order of definition."""
    graphdef, state = nnx.split(model)
    made: nnx.Module = nnx.merge(graphdef, jax.tree.map(cast, state), copy=True)
    originals = dict(nnx.iter_modules(model))
    for path, module in list(nnx.iter_modules(made)):
        attributes = dict(vars(module))
        vars(module).clear()
        vars(module).update({name: attributes[name] for name in vars(originals[path])})
    return made


@dataclasses.dataclass(frozen=True)
class _Nnx:
    graphdef: Any
    names: tuple[str, ...]
    keys: tuple[Any, ...]
    axes: tuple[tuple[int, ...], ...]

    def __hash__(self) -> int:
        """A module may hold a list or a dict of numbers, which cannot be hashed, and can be compared."""
        return hash((self.names, self.keys, self.axes))

    def apply(self, params: tuple[jax.Array, ...], rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        state: Any = nnx.from_flat_state(list(zip(self.keys, params, strict=True)))
        model = nnx.merge(self.graphdef, state, rest, copy=True)
        for path, module in named_modules(model):
            setattr(module, PATH, path)
        out = call(model, x)
        for _, module in named_modules(model):
            delattr(module, PATH)
        return out, _split(model)[2]


def _nnx_functional(model: nnx.Module, mode: str) -> tuple[Functional, tuple[jax.Array, ...], Any]:
    model = clone(model)  # the mode is set on it, not on the user's
    for _, module in named_modules(model):
        # What the user changes in place later is another program, and must not be taken for the one compiled now.
        vars(module).update({name: _containers_copied(value) for name, value in vars(module).items()})
    model.train() if mode == "train" else model.eval()
    where = {id(node): path for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable)}
    params = [
        (p, where[id(v)], canonical_axes(owner, v.get_value().ndim), v.get_value())
        for p, owner, v in named_variables(model)
        if isinstance(v, nnx.Param)
    ]
    graphdef, _, rest = _split(model)
    names, keys, axes, values = (tuple(column) for column in zip(*params, strict=True)) if params else ((), (), (), ())
    return _Nnx(graphdef, names, keys, axes), values, rest


def _containers_copied(value: Any) -> Any:
    """Lists, dicts and sets of its own, of the same things."""
    if type(value) is dict:
        return {key: _containers_copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_containers_copied, value))
    return set(value) if type(value) is set else value


def canonical_axes(owner: nnx.Module, count: int) -> tuple[int, ...]:
    """The order of axes that makes a parameter of that module canonical."""
    if count > 1 and isinstance(owner, nnx.ConvTranspose):  # PyTorch: (in, out, window)
        return (count - 2, count - 1, *range(count - 2))
    return kernel_axes(count) if isinstance(owner, (nnx.Conv, nnx.Linear)) else tuple(range(count))


def kernel_axes(count: int) -> tuple[int, ...]:
    """The same of a kernel, (window…, in, out) in Flax."""
    return (count - 1, count - 2, *range(count - 2)) if count > 1 else tuple(range(count))


def _split(model: nnx.Module) -> tuple[Any, Any, Any]:
    """The program, the parameters, and everything else a model holds; what it sowed is not part of its state."""
    nnx.pop(model, nnx.Intermediate)
    parts: Any = nnx.split(model, nnx.Param, ...)
    return parts[0], parts[1], parts[2]


@dataclasses.dataclass(frozen=True)
class _Linen:
    module: nn.Module
    names: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    axes: tuple[tuple[int, ...], ...]
    mode: str

    def __hash__(self) -> int:
        """A module may hold a configuration that cannot be hashed, as Hugging Face's do, and can be compared."""
        return hash((type(self.module), self.names, self.axes, self.mode))

    def apply(self, params: tuple[jax.Array, ...], rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        places, names = arguments(x)
        rngs = {"dropout": jax.random.key(0)} if self.mode == "train" else {}
        out, state = self.module.apply(
            {"params": nested(self.keys, params), **rest},
            *places,
            mutable=list(rest),
            rngs=rngs,
            **{**_mode_arguments(self.module, self.mode), **names},
        )
        return out, {**rest, **state}


def _linen_functional(model: nn.Module, mode: str) -> tuple[Functional, tuple[jax.Array, ...], Any]:
    module, variables = model.unbind()
    rest = {name: value for name, value in variables.items() if name != "params"}
    flat = list(flatten(variables.get("params", {})))
    names = tuple(".".join((*key[:-1], _NAMES.get(key[-1], key[-1]))) for key, _ in flat)
    values = tuple(jnp.asarray(value) for _, value in flat)
    keys = tuple(key for key, _ in flat)
    # A bound module does not say which of its modules owns a parameter: by its name a kernel is one.
    axes = (
        kernel_axes(v.ndim) if key[-1] == "kernel" else tuple(range(v.ndim))
        for key, v in zip(keys, values, strict=True)
    )
    return _Linen(module, names, keys, tuple(axes), mode), values, rest


def _mode_arguments(module: nn.Module, mode: str) -> dict[str, Any]:
    """Linen has no mode of its own: a model takes it as one of these keyword arguments, by convention."""
    values = {
        "train": mode == "train",
        "training": mode == "train",
        "deterministic": mode == "eval",
        "use_running_average": mode == "eval",
    }
    accepted = inspect.signature(type(module).__call__).parameters
    return {name: value for name, value in values.items() if name in accepted}


def nested(keys: Iterable[tuple[str, ...]], values: Iterable[Any]) -> dict[str, Any]:
    """Linen's tree of variables, from the keys and values that `flatten` gives."""
    tree: dict[str, Any] = {}
    for key, value in zip(keys, values, strict=True):
        node = tree
        for part in key[:-1]:
            node = node.setdefault(part, {})
        node[key[-1]] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """`(keys on the way, value)` of each variable of a Linen module, in order."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
