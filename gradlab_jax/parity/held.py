"""A model as the judgement holds it, with its weights by canonical name: what differs between NNX, Linen and a plain
function is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_core.parity.weights import check_weights
from gradlab_jax.model.checks import check_trainable
from gradlab_jax.model.function import Plain, as_function, plain
from gradlab_jax.model.modules import (
    Functional,
    canonical_name,
    clone,
    flatten,
    functional,
    named_variables,
    nested,
    set_values,
)
from gradlab_jax.model.weights import as_numpy, astype, canonical, from_canonical, linen_astype, to_canonical

Cast = Callable[[jax.Array], jax.Array]


class Held(Protocol):
    """A private copy of a model; `wide` says that it computes in float64."""

    @property
    def wide(self) -> bool: ...

    def parts(self) -> tuple[Functional, tuple[jax.Array, ...], Any]:
        """The program in train mode, its parameters and whatever else it holds."""
        ...

    def copied(self, dtype: str | None, device: jax.Device | None = None) -> Held:
        """Another one, in that type, on that device."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Canonical weights: parameters and running statistics."""
        ...

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Take canonical weights."""
        ...

    def canonical(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """What there is one of for each parameter, by name and in canonical layout."""
        ...

    def take(self, params: tuple[jax.Array, ...], rest: Any) -> None:
        """What has become of the parameters and of the rest."""
        ...


def held(model: Any) -> Held:
    """A model of the user's; a Linen module comes bound to its variables.

    Raises:
        GradlabError: not a model, or one with nothing to train.
    """
    if isinstance(model, nn.Module):
        functional(model, "train")  # says what is wrong with one that is not bound
        return _Linen(*model.unbind())
    function = as_function(model)
    if function is not None:
        return _Plain(*plain(function))
    if not isinstance(model, nnx.Module):
        functional(model, "train")  # says what a model is
    check_trainable(model)
    with jax.enable_x64(_Nnx(model).wide):
        return _Nnx(clone(model))


def moved_to(device: jax.Device | None) -> Cast:
    """Onto that device; None leaves an array where it is."""
    return lambda leaf: leaf if device is None else jax.device_put(leaf, device)


class _Nnx:
    def __init__(self, model: nnx.Module) -> None:
        self.model = model
        self.wide = any(v.get_value().dtype == jnp.float64 for _, _, v in named_variables(model))

    def parts(self) -> tuple[Functional, tuple[jax.Array, ...], Any]:
        return functional(self.model, "train")

    def copied(self, dtype: str | None, device: jax.Device | None = None) -> Held:
        model = self.model if dtype is None else astype(self.model, dtype)
        return _Nnx(clone(model, moved_to(device)))

    def arrays(self) -> dict[str, np.ndarray]:
        return to_canonical(self.model)

    def load(self, arrays: Mapping[str, Any]) -> None:
        from_canonical(self.model, arrays)

    def canonical(self, values: tuple[Any, ...]) -> dict[str, Any]:
        owners = [(path, owner) for path, owner, v in named_variables(self.model) if isinstance(v, nnx.Param)]
        return {
            path: None if value is None else canonical(owner, value)
            for (path, owner), value in zip(owners, values, strict=True)
        }

    def take(self, params: tuple[jax.Array, ...], rest: Any) -> None:
        set_values(self.model, params, rest)


class _Linen:
    """Parameters and `batch_stats` are weights; other collections go through as they are."""

    def __init__(self, module: nn.Module, variables: Mapping[str, Any]) -> None:
        self.module, self.variables = module, dict(variables)
        if not jax.tree.leaves(self.variables.get("params", {})):
            raise GradlabError("the module has no parameter; expected variables with params")
        f, params, _ = self.parts()
        self.axes = dict(zip(f.names, f.axes, strict=True))
        self.wide = any(p.dtype == jnp.float64 for p in params)

    def parts(self) -> tuple[Functional, tuple[jax.Array, ...], Any]:
        return functional(self.module.bind(self.variables), "train")

    def copied(self, dtype: str | None, device: jax.Device | None = None) -> Held:
        module, variables, put = self.module, self.variables, moved_to(device)
        if dtype is not None:
            module, variables = linen_astype(module, variables, dtype)
        return _Linen(module, jax.tree.map(lambda leaf: put(jnp.asarray(leaf)), variables))

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: as_numpy(array) for name, array in self._weights().items()}

    def load(self, arrays: Mapping[str, Any]) -> None:
        weights = self._weights()
        check_weights(arrays, {name: array.shape for name, array in weights.items()})
        new = tuple(
            jnp.asarray(np.transpose(arrays[name], np.argsort(axes)), weights[name].dtype)
            for name, axes in self.axes.items()
        )
        rest = {name: value for name, value in self.variables.items() if name != "params"}
        if "batch_stats" in rest:
            keys = [key for key, _ in flatten(rest["batch_stats"])]
            values = [jnp.asarray(arrays[name], old.dtype) for name, old in self._statistics()]
            rest = {**rest, "batch_stats": nested(keys, values)}
        self.take(new, rest)

    def canonical(self, values: tuple[Any, ...]) -> dict[str, Any]:
        turned = zip(self.axes.items(), values, strict=True)
        return {name: None if value is None else value.transpose(axes) for (name, axes), value in turned}

    def take(self, params: tuple[jax.Array, ...], rest: Any) -> None:
        keys = [key for key, _ in flatten(self.variables["params"])]
        self.variables = {"params": nested(keys, params), **rest}

    def _weights(self) -> dict[str, jax.Array]:
        params = tuple(jnp.asarray(value) for _, value in flatten(self.variables["params"]))
        return self.canonical(params) | dict(self._statistics())

    def _statistics(self) -> list[tuple[str, jax.Array]]:
        entries = flatten(self.variables.get("batch_stats", {}))
        return [(".".join((*key[:-1], canonical_name(key[-1]))), value) for key, value in entries]


class _Plain:
    """Nobody but the user knows in which layout the weights are: they stay in it."""

    def __init__(self, f: Plain, params: tuple[jax.Array, ...], rest: Any) -> None:
        self.f, self.params, self.rest = f, params, rest
        self.wide = any(p.dtype == jnp.float64 for p in params)

    def parts(self) -> tuple[Functional, tuple[jax.Array, ...], Any]:
        return self.f, self.params, self.rest

    def copied(self, dtype: str | None, device: jax.Device | None = None) -> Held:
        put = moved_to(device)

        def leaf(array: jax.Array) -> jax.Array:
            floating = dtype is not None and jnp.issubdtype(array.dtype, jnp.floating)
            return put(array.astype(dtype) if floating else array)

        return _Plain(self.f, *jax.tree.map(leaf, (self.params, self.rest)))

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: as_numpy(array) for name, array in self._weights().items()}

    def load(self, arrays: Mapping[str, Any]) -> None:
        weights = self._weights()
        check_weights(arrays, {name: array.shape for name, array in weights.items()})
        new = {name: jnp.asarray(arrays[name], old.dtype) for name, old in weights.items()}
        state = {name: new.get(name, old) for name, old in self.rest["state"].items()}
        self.take(tuple(new[name] for name in self.f.names), {**self.rest, "state": state})

    def canonical(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.f.names, values, strict=True))

    def take(self, params: tuple[jax.Array, ...], rest: Any) -> None:
        self.params, self.rest = params, rest

    def _weights(self) -> dict[str, jax.Array]:
        statistics = () if self.f.state is None else self.f.state.names
        return self.canonical(self.params) | {name: self.rest["state"][name] for name in statistics}
