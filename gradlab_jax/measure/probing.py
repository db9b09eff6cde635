"""What a model does on one batch: its input, output, activations, states and copied units in one record."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.records import Probe
from gradlab_jax.measure.hidden_states import measured_states, recurrent_calls
from gradlab_jax.measure.statistics import rows_of, stats, tracked
from gradlab_jax.measure.symmetry import copied_shares
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_jax.model.function import Plain
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.inputs import Inputs, checked_inputs, examples, floating
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional, named_modules
from gradlab_jax.model.recurrent import Recurrent
from gradlab_jax.model.taps import Tap, run_tapped


def probe(model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train") -> Probe:
    """Everything a diagnosis wants to know of a model on one batch that norms cannot say.

    One compiled program for each model and shape, and one transfer: one forward pass; a net with one recurrent layer
    takes a second one, and a backward pass. NaN and Inf are counted, not refused. Where they come from says
    `nonfinite_origin`.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was, running statistics and
            random state included.
        x: input batch, native layout (N, spatial…, C), or tokens. Several inputs go to the model by name,
            `model(**x)` of a mapping, or by place, `model(*x)` of a tuple or a list; `input` is then of the first that
            holds no whole numbers, and the first of all counts the examples.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a model, an unknown mode, a batch of no array or empty, labels out of range, or a
            loss that is not one number.

    >>> net = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
    >>> net.layers[0].kernel.set_value(jnp.full((3, 4), 0.1))
    >>> found = probe(net, jnp.ones((5, 3)), jnp.array([0, 1, 0, 1, 0]))
    >>> found.classes, found.input.mean, [row.kind for row in found.layers], found.copies["0.weight"]
    (2, 1.0, ['relu'], 1.0)
    """
    f, params, rest = functional(model, mode)
    x = checked_inputs(x, finite=False)
    labels = as_labels(y)
    if loss is cross_entropy:
        check_model_labels(labels, _logits.eval_shape(f, params, rest, x))
    modules = named_modules(model) if isinstance(model, nnx.Module) else ()
    is_recurrent = any(isinstance(module, Recurrent) for _, module in modules)
    numbers = jax.device_get(_probe(f, loss, is_recurrent, params, rest, x, floating(x), labels))
    weights = [name for name, p in zip(f.names, params, strict=True) if p.ndim > 1]
    is_classification = (
        len(numbers["output"].shape) == 2 and labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer)
    )
    return Probe(
        mode=mode,
        batch=examples(x),
        classes=numbers["output"].shape[-1] if is_classification else None,
        loss=numbers["loss"].item(),
        input=numbers["input"].of_tensor() if "input" in numbers else None,
        output=numbers["output"].of_tensor(),
        target=numbers["target"].of_tensor() if "target" in numbers else None,
        layers=tuple(row.record(mode) for row in numbers["layers"]),
        shapes={n: tuple(p.shape[i] for i in order) for n, p, order in zip(f.names, params, f.axes, strict=True)},
        copies=dict(zip(weights, map(float, numbers["copies"]), strict=True)),
        hidden=None if numbers["hidden"] is None else numbers["hidden"].record(mode),
    )


_logits = jax.jit(lambda f, params, rest, x: f.apply(params, rest, x)[0], static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _probe(
    f: Functional, loss: Loss, is_recurrent: bool, params: Any, rest: Any, x: Any, numbers: Any, y: jax.Array
) -> Any:
    flax = not isinstance(f, Plain)
    out, _, handed = run_tapped(f, params, rest, x, tracked)
    # Which of several inputs is the first is known outside only: here a dict comes sorted.
    measured = {"output": out, "input": numbers, "target": floating(y)}
    weights = [p.transpose(order) for p, order in zip(params, f.axes, strict=True) if p.ndim > 1]
    calls = recurrent_calls(f, params, rest, x)[1] if is_recurrent else []
    return {
        "loss": check_loss(loss(check_logits(out), y)).reshape(()),
        # A batch of images has its channels last in Flax; of a function nobody knows.
        **{name: stats(t, Tap("", "", 0, t.ndim == 4 and flax)) for name, t in measured.items() if t is not None},
        "layers": rows_of(handed),
        "copies": copied_shares(weights) if weights else [],
        "hidden": measured_states(f, loss, calls[0], params, rest, x, y) if len(calls) == 1 else None,
    }
