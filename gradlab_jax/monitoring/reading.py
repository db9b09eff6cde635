"""The newest record of a monitor, read from the optimizer state that holds it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions.monitoring import Measured, step_record
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientState, Probe, StepRecord
from gradlab_core.records.later import all_later
from gradlab_jax.monitoring.measurements import Measurements, named_values, products_of
from gradlab_jax.monitoring.monitor import ClippingState, MonitorState
from gradlab_jax.monitoring.seen import Look
from gradlab_jax.trees.transfer import underway


def read_record(
    opt_state: Any, *, probe: Probe | None = None, loss: jax.Array | float | None = None, look: Look | None = None
) -> StepRecord:
    """The newest record in an optimizer state (or an `nnx.Optimizer`, or a train state that holds one): the only copy
    to the host, in one transfer. The record also carries what `gradlab_jax.probe` saw on the batch of this step, or the
    `look` that `gradlab_jax.observed` gave with the loss; and the `loss` of the step, for loops (Linen's
    `TrainState.apply_gradients`) that hand no value on to the optimizer.

    On an accelerator the record is on its way when this returns, and who looks into it waits until it is there: look
    one step later, and nobody waits. The state may be donated meanwhile.

    Raises:
        GradlabError: no monitor or several in it, nothing recorded yet (on an accelerator when somebody looks), or the
            states of several runs at once.
    """
    nodes = _nodes(opt_state)
    measurements = _only(nodes)
    hyperparams = [node.hyperparams for node in nodes if hasattr(node, "hyperparams")]
    rates = [_value(h["learning_rate"]) for h in hyperparams if "learning_rate" in h]
    # A rate may have changed since the record was taken.
    seen = [_value(node.seen) for node in nodes if isinstance(node, MonitorState)]
    raws = [(_value(node.step), _value(node.norm)) for node in nodes if isinstance(node, ClippingState)]
    if measurements.step.ndim:
        raise GradlabError(
            f"the state holds {measurements.step.shape} runs or steps; expected one: "
            "jax.tree.map(lambda x: x[i], state)"
        )
    if loss is not None and jnp.size(loss) != 1:
        raise GradlabError(f"the loss handed to read_record has shape {jnp.shape(loss)}; expected one number")
    if look is not None and not isinstance(look, Look):
        raise GradlabError(f"the look is a {type(look).__name__}; expected what an observed loss function gave")
    arrived = underway((measurements, rates, seen if rates else [], raws[:1], loss, look))

    def record() -> StepRecord:
        return _record(arrived(), probe)

    return record() if _is_near(measurements.step) else all_later(StepRecord, record)


def _is_near(array: Any) -> bool:
    """Whether a number lies where nothing is gained by not waiting for it."""
    return not isinstance(array, jax.Array) or all(device.platform == "cpu" for device in array.devices())


def _record(arrived: tuple[Any, ...], probe: Probe | None) -> StepRecord:
    m, rates, seen, raws, loss, look = arrived
    if loss is None and m.has_loss:
        loss = m.loss
    if m.step < 0:
        raise GradlabError("the monitor has recorded nothing yet; expected at least one update")
    cut = {path for path, state in m.known if state == GradientState.DISCONNECTED}
    numbers = {quantity: vector.tolist() for quantity, vector in m.norms.items()}
    raw = next((float(norm) for step, norm in raws if step == m.step), None)
    measured = Measured(
        names=m.names,
        sizes=m.sizes,
        params=numbers["param"],
        grads=[None if name in cut else g for name, g in zip(m.names, numbers["grad"], strict=True)],
        updates=numbers["update"],
        lost=[u == 0.0 and p > 0.0 for u, p in zip(numbers["update"], numbers["proposed"], strict=True)],
        raw_grad_norm=raw,
        # At the first record there is nothing before to compare with.
        extras={
            q.name: named_values(m.names, m.extras[q.name], cut if q.of == "grad" else ())
            for q in m.quantities
            if m.has_before or not q.compares
        },
        quantities=[q for q in m.quantities if q.name not in EXTRAS],
        **products_of(m.norms),
        before={e: named_values(m.names, v) for e, v in m.before.items()},
    )
    return step_record(
        measured,
        step=int(m.step),
        loss=None if loss is None else float(np.reshape(loss, ())),
        learning_rate=float(rates[0]) if len(set(map(float, rates))) == 1 and seen[0] == m.step + 1 else None,
        anomaly=float(m.score) if m.is_scored else None,
        known=dict(m.known),
        probe=look.probe(m.names) if probe is None and look is not None and look.step in (-1, m.step) else probe,
    )


def device_record(opt_state: Any) -> Measurements:
    """The newest record as it is on the device: what a `lax.scan` gives out at each step, for `read_record` later."""
    return _only(_nodes(opt_state))


def _only(nodes: list[Any]) -> Measurements:
    """The one record among the nodes of an optimizer state."""
    measurements = [node for node in nodes if isinstance(node, Measurements)]
    if len(measurements) != 1:
        raise GradlabError(
            f"the optimizer state holds {len(measurements)} monitors; expected one: wrap it in monitor(...)"
        )
    return jax.tree.map(_value, measurements[0], is_leaf=lambda x: isinstance(x, nnx.Variable))


def _nodes(tree: Any) -> list[Any]:
    """What a record is read from, wherever it stands in a state, one inside another or in an NNX optimizer. One walk:
    a state has at least as many arrays as the net, and is read at every step."""
    if isinstance(tree, nnx.Optimizer):
        tree = nnx.as_pure(tree.opt_state)
    nodes = []
    for node in jax.tree.leaves(tree, is_leaf=_is_wanted):
        if isinstance(node, MonitorState):  # its memory is as large as the net, and holds nothing to read
            nodes += [node, *_nodes((node.inner, node.measurements))]
        elif _is_wanted(node):
            nodes += [node, *([] if isinstance(node, Measurements) else _nodes(_parts(node)))]
    return nodes


def _parts(node: Any) -> list[Any]:
    """What stands directly in a node."""
    return [part for part in jax.tree.leaves(node, is_leaf=lambda part: part is not node) if part is not node]


def _is_wanted(node: Any) -> bool:
    return isinstance(node, (Measurements, MonitorState, ClippingState)) or hasattr(node, "hyperparams")


def _value(x: Any) -> Any:
    return x.get_value() if isinstance(x, nnx.Variable) else x
