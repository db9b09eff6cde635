"""A model as the parity judgement takes it."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradlab_core.parity.arithmetic import ARITHMETICS, Arithmetic, check_precision
from gradlab_core.parity.batch import Inputs, Layout, arranged, as_pick, check_layout, mapped
from gradlab_core.parity.trace import Key
from gradlab_core.programs.specs import TrainSpec
from gradlab_jax.model.checks import as_labels
from gradlab_jax.model.function import Function, Plain, is_equinox
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.taps import outputs
from gradlab_jax.parity.held import Held, held
from gradlab_jax.parity.objective import Objective, cut_off, gradients, natively
from gradlab_jax.parity.precision import measured, precise, rounded_as
from gradlab_jax.parity.rounding import dithered, noisy
from gradlab_jax.programs.training import sgd, sgd_step

Picked = str | int | Callable[[Any], Any] | None


class Subject:
    """A model, its loss and its optimizer.

    Args:
        model: an NNX module, a Linen module bound to its variables (`module.bind(variables)`), a module of Equinox,
            which takes one example, or a `Function`; it is copied and stays as it was.
        loss: `loss(logits, y)` → scalar; y comes as the batch has it, each array of it as a JAX array.
        optimizer: a `TrainSpec`, whose milestones are then counted in steps, or an optax transformation of the tuple
            of parameters.
        precision: what float32 products are made in: `highest`, `tf32`, `bfloat16` or `float16` (operands are rounded
            to it), or `as-is`, which sets nothing.
        pick: of a model that returns more than one array: the place, key or attribute of the one that is compared and
            goes to the loss, or a function that picks it.
        layout: how the model takes images, one of `gradlab_core.parity.batch.LAYOUTS`, or that by the name of the
            input: canonical batches hold (N, C, …), and a 4-dimensional mask is no image (`none`). By default that is
            `NHWC`, and of a module of Equinox `NCHW`.

    >>> from flax import nnx
    >>> subject = Subject(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> trace = subject.step(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), 0)
    >>> [str(key) for key in trace][:3]
    ['activation', 'logits', 'loss']
    """

    framework = "jax"

    def __init__(
        self,
        model: Any,
        *,
        loss: Loss = cross_entropy,
        optimizer: TrainSpec | optax.GradientTransformation = TrainSpec(weight_decay=0.0),  # noqa: B008 - frozen
        precision: str = "highest",
        pick: Picked = None,
        layout: Layout | None = None,
    ) -> None:
        self.precision = check_precision(precision)
        self.usual = "NCHW" if is_equinox(model) else "NHWC"  # layout, of inputs of which it is not said
        check_layout(self.usual if layout is None else layout)
        self.pick, self.layout = as_pick(pick), self.usual if layout is None else layout
        self.noise: Arithmetic | None = None
        self.seed = 0  # of the noise
        self.loss, self.recipe = loss, optimizer
        self.plans: dict[Any, tuple[Any, Any, Any, Any]] = {}
        self._begin(held(model))
        self.guesses_layers = isinstance(self.model.parts()[0], Plain)
        # Nobody knows how a function lays out its weights; those of a module lie as PyTorch's do.
        self.canonical = not isinstance(model, Function)

    def _begin(self, model: Held) -> None:
        """Take that copy, and an optimizer that has not stepped."""
        self.wide, optimizer = model.wide, self.recipe
        with self._precision():
            self.model = model
            self.optimizer: optax.GradientTransformation = (
                sgd(optimizer.momentum, optimizer.weight_decay) if isinstance(optimizer, TrainSpec) else optimizer
            )
            self.opt_state = jax.jit(self.optimizer.init)(self.model.parts()[1])

    def cast(self, dtype: str) -> Subject:
        """A fresh copy in that precision; float64 runs on the CPU."""
        with jax.enable_x64(dtype == "float64"):
            model = self.model.copied(dtype, jax.devices("cpu")[0] if dtype == "float64" else None)
        return self._copy(model, self.precision)

    def at(self, precision: str) -> Subject:
        """A fresh copy that is run in that precision."""
        with jax.enable_x64(self.wide):
            return self._copy(self.model.copied(None), check_precision(precision))

    def arithmetic(self) -> Arithmetic:
        """What its float32 products are made in; under `as-is` that is measured."""
        return measured(self._device()) if self.precision == "as-is" else ARITHMETICS[self.precision]

    def perturbed(self, arithmetic: Arithmetic, seed: int) -> Subject:
        """A float64 copy on the CPU whose every operation carries a random error of that arithmetic."""
        subject = self.cast("float64")
        subject.noise, subject.seed, subject.plans = arithmetic, seed, self.plans
        return subject

    def _copy(self, model: Held, precision: str) -> Subject:
        """With that model in place of its own."""
        made = copy.copy(self)
        made.precision, made.noise, made.seed, made.plans = precision, None, 0, {}
        made._begin(model)
        return made

    def _device(self) -> jax.Device:
        return next(iter(self.model.parts()[1][0].devices()))

    def state(self) -> dict[str, np.ndarray]:
        return self.model.arrays()

    def load(self, arrays: Mapping[str, Any]) -> None:
        with self._precision():
            if self.noise is not None:
                arrays = {
                    path: dithered(np.asarray(a, np.float64), self.seed, self.noise) for path, a in arrays.items()
                }
            self.model.load(arrays)

    def step(self, x: Inputs, y: Any, epoch: int) -> dict[Key, np.ndarray | None]:
        """One training step, and every tensor of it in canonical layout."""
        return self.local_step(x, y, epoch, {})

    def local_step(
        self, x: Inputs, y: Any, epoch: int, given: Mapping[Key, np.ndarray | None]
    ) -> dict[Key, np.ndarray | None]:
        """A step in which the tensors of layers, and the logits, are taken from `given` once they are computed: what
        comes after a layer is computed from the given one, forward and backward. So no difference is handed on."""
        with self._precision():
            f, params, rest = self.model.parts()

            def native(name: str, array: Any) -> jax.Array:
                moved = jnp.asarray(array)
                if jnp.issubdtype(moved.dtype, jnp.floating):
                    moved = moved.astype(params[0].dtype)
                    if self.noise is not None:
                        moved = jnp.asarray(dithered(moved, self.seed, self.noise))
                return moved

            inputs = mapped(arranged(x, self.layout, self.usual), native)
            labels = mapped(np.asarray(y) if isinstance(y, list) else y, lambda name, array: as_labels(array))
            objective = Objective(f, self.loss, self.pick)
            ran, zeros, cut_slopes, cut_grads = self._plan(objective, params, rest, inputs, labels)
            instead = natively(given, ran, zeros)
            values, slopes, grads, state, logits, loss = gradients(
                objective, self._rounded(), self.noise, params, zeros, rest, inputs, labels, instead
            )
            applied = self._apply(params, grads, cut_grads, state, epoch)
            # Layouts are changed on the host: on the device each would be a program of its own.
            values, slopes, grads = jax.device_get((values, slopes, grads))
            trace: dict[Key, Any] = {
                Key("activation", t.path, t.call): t.canonical(v) for t, v in zip(ran, values, strict=True)
            }
            trace |= {Key("logits"): logits, Key("loss"): loss}
            backward = reversed(list(zip(ran, slopes, cut_slopes, strict=True)))
            trace |= {
                Key("activation_gradient", t.path, t.call): None if cut else t.canonical(g) for t, g, cut in backward
            }
            paths = tuple(None if cut else g for g, cut in zip(grads, cut_grads, strict=True))
            trace |= {Key("gradient", path): g for path, g in self.model.canonical(paths).items()}
            trace |= applied
            return {key: None if value is None else np.asarray(value) for key, value in trace.items()}

    def _plan(self, objective: Objective, params: Any, rest: Any, x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
        """What depends on shapes alone: the layers in order, zeros to disturb them by, and what has no path."""
        leaves, structure = jax.tree.flatten((x, y))
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in self.plans:
            ran, shapes = outputs(objective.f, params, rest, x)
            zeros = [np.zeros(s.shape, s.dtype) for s in shapes]
            self.plans[key] = (ran, zeros, *cut_off(objective, params, zeros, rest, x, y))
        return self.plans[key]

    def _apply(self, params: Any, grads: Any, cut: Any, state: Any, epoch: int) -> dict[Key, Any]:
        trace: dict[Key, Any] = {}
        if isinstance(self.recipe, TrainSpec):
            rate, decay = self.recipe.rate(epoch), (self.recipe.momentum, self.recipe.weight_decay)
            new, self.opt_state = _stepped(decay, self.noise, params, grads, self.opt_state, rate, tuple(cut))
            trace[Key("learning_rate")] = np.float64(rate)
            velocities = self.model.canonical(tuple(jax.device_get(self.opt_state[1].trace)))
            kept = [path for path, c in zip(velocities, cut, strict=True) if not c]
            trace |= {Key("optimizer", path): velocities[path] for path in kept}
        else:
            directions, self.opt_state = self.optimizer.update(grads, self.opt_state, params)
            new = optax.apply_updates(params, directions)
        self.model.take(tuple(new), state)
        names, tensors = set(self.model.canonical(tuple(new))), self.model.arrays()
        trace |= {Key("parameter", path): t for path, t in tensors.items() if path in names}
        return trace | {Key("statistic", path): t for path, t in tensors.items() if path not in names}

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """Float64 needs to be switched on, and runs on the CPU: an accelerator may not have it. Float32 runs in the
        precision asked for."""
        if self.wide:
            with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]), precise("highest", "cpu"):
                yield
        else:
            with jax.enable_x64(False), precise(self.precision, _platform()):
                yield

    def _rounded(self) -> Arithmetic | None:
        """What the operands of float32 products are rounded to, where the hardware does not do so by itself."""
        return None if self.wide else rounded_as(self.precision, _platform())


def _platform() -> str:
    # A device, the name of a platform, or None for the usual one; JAX's types do not know its options.
    device = cast(Any, jax.config).jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else str(device.platform)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def _stepped(
    decay: tuple[float, float],
    noise: Arithmetic | None,
    params: Any,
    grads: Any,
    state: Any,
    learning_rate: Any,
    cut: tuple[bool, ...],
) -> tuple[Any, Any]:
    """`(new parameters, new state)` of the optimizer."""

    def stepped(params: Any, grads: Any, state: Any, learning_rate: Any) -> tuple[Any, Any]:
        updates, state = sgd_step(decay, params, grads, state, learning_rate, cut)
        return optax.apply_updates(params, updates), state

    return (stepped if noise is None else noisy(stepped, noise))(params, grads, state, learning_rate)
