"""Where a NaN or an Inf was born: every operation of a step watched, and what it was given."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradlab_core.records import NonfiniteOrigin, Probe
from gradlab_torch.measure.probing import probe
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, call, checked_inputs, named, outside_inference, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import own_randomness, private_copy


def nonfinite_origin(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> NonfiniteOrigin | None:
    """The operation that turned finite numbers into a NaN or an Inf which then reached the loss or a gradient; None if
    the loss and all gradients are finite.

    Every output that is not finite inherits the origin of an input that is not, the earliest of several, or is an
    origin itself. The answer is the origin of the loss or, if that is finite, of the first gradient (in the order of
    the model) that is not. What comes in that way has the `operation` `input`, `target`, `parameter` or `buffer`, and
    as `path` that of the parameter or buffer, or of several inputs the name or number. In the backward pass `path` is
    the module whose operation is being differentiated, and `value` what its gradient held.

    One step, one operation at a time, each of which waits for the device: for a step that went wrong.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…); several: a mapping or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a PyTorch model, a batch that is no tensor or empty, or labels out of range.

    >>> class Log(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.relu(x).log()
    >>> found = nonfinite_origin(torch.nn.Sequential(Log()), -torch.ones(2, 3), torch.tensor([0, 1]))
    >>> found.phase, found.path, found.operation, found.value
    ('forward', '0', 'log', 'inf')
    """
    private = private_copy(model, mode)
    x = checked_inputs(x, finite=False)
    labels = as_labels(y, tensors(x)[0].device)
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(private):
        x = outside_inference(x)
        watch = _Watch()
        for name, tensor in named(x):
            watch.source(tensor, "forward", name, "input")
        watch.source(labels, "loss", None, "target")
        for kind, stored in (("parameter", private.named_parameters()), ("buffer", private.named_buffers())):
            for path, t in stored:
                watch.source(t, "forward", path, kind)
        for path, module in private.named_modules():
            module.register_forward_pre_hook(watch.entering(path))
            module.register_forward_hook(watch.leaving())
        with watch:
            out = call(private, x)
            watch.enter("loss")
            if loss is cross_entropy:
                check_model_labels(labels, out)
            value = check_loss(loss(check_logits(out), labels))
            if _what(value):
                return watch.origin_of(value)
            watch.enter("backward")
            leaves = [p for p in private.parameters() if p.requires_grad]
            grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else ()
        bad = next((g for g in grads if g is not None and _what(g)), None)
        return None if bad is None else watch.origin_of(bad)


# What these hold nobody wrote yet, or it is a constant: like the −Inf of a mask it is no fault of theirs.
_UNWRITTEN = frozenset("empty_like new_empty new_empty_strided full_like new_full".split())
# What these give out they were given, unless the type they turn it into is too small.
_MOVES = frozenset(
    "view _unsafe_view reshape expand permute transpose t unsqueeze squeeze slice select alias detach clone copy_ "
    "_to_copy lift_fresh contiguous".split()
)


def with_origin(known: Probe | None, model: torch.nn.Module, x: torch.Tensor, y: Any, *, loss: Loss) -> Probe:
    """A probe in `train` mode that says where a NaN or an Inf was born: the one there is, or a new one."""
    origin = nonfinite_origin(model, x, y, loss=loss)
    return dataclasses.replace(known or probe(model, x, y, loss=loss), origin=origin)


@dataclasses.dataclass
class _Origin:
    """Where something was born. `node`: the part of the backward pass that is still at it. `order`: what was born
    earlier is lower."""

    phase: str
    path: str | None
    operation: str
    value: str
    node: int | None = None
    order: int = dataclasses.field(default_factory=itertools.count().__next__)


class _Watch(TorchDispatchMode):
    """Sees every operation, knows which module is running, and where each tensor that is not finite is from.

    A tensor is known by its storage, since what is saved for the backward pass comes out of it as another object.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase = "forward"
        self.running: list[str] = []
        self.starts, self.paths = [-1], list[str | None]([None])  # from which node on which module was running
        self.origins: dict[int, tuple[_Origin, torch.Tensor]] = {}  # a storage that is kept keeps its address

    def source(self, t: torch.Tensor, phase: str, path: str | None, operation: str) -> None:
        value = _what(t)
        if value:
            self.origins.setdefault(_key(t), (_Origin(phase, path, operation, value), t))

    def entering(self, path: str) -> Callable[..., None]:
        return lambda module, args: self._run([*self.running, path])

    def leaving(self) -> Callable[..., None]:
        return lambda module, args, out: self._run(self.running[:-1])

    def enter(self, phase: str) -> None:
        self.phase = phase
        self._run([])

    def origin_of(self, t: torch.Tensor) -> NonfiniteOrigin:
        # A loss that nothing was computed for has none.
        nothing = _Origin(self.phase, None, "constant", _what(t) or "nan")
        origin = self.origins.get(_key(t), (nothing, t))[0]
        return NonfiniteOrigin(phase=origin.phase, path=origin.path, operation=origin.operation, value=origin.value)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        inputs = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
        known = [origin for t in inputs if (origin := self._known(t)) is not None]  # before: it may work in place
        inherited = min(known, key=lambda origin: origin.order, default=None)
        out = function(*args, **(kwargs or {}))
        outputs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        bad = [(t, value) for t in outputs if (value := _what(t))]
        if not bad or not inputs or name in _UNWRITTEN:
            return out
        value = "nan" if any(value == "nan" for _, value in bad) else "inf"
        node, path = self._place()
        if inherited is None:
            if name in _MOVES and any(map(_what, inputs)):
                return out  # a constant
            inherited = _Origin(self.phase, path, name, value, node)
        elif inherited.node is not None and inherited.node == node:
            inherited.value = value  # the rest of one derivative
        for t, _ in bad:
            self.origins[_key(t)] = inherited, t
        return out

    def _known(self, t: torch.Tensor) -> _Origin | None:
        if not self.origins:
            return None
        held = self.origins.get(_key(t))
        return held[0] if held is not None and _what(t) else None

    def _run(self, running: list[str]) -> None:
        self.running = running
        self.starts.append(torch._C._autograd._get_sequence_nr())
        self.paths.append(running[-1] if running else None)

    def _place(self) -> tuple[int | None, str | None]:
        """The node of the backward pass and the module that made it, or the module that is running."""
        if self.running or self.phase != "backward":
            return None, self.running[-1] if self.running else None
        node = torch._C._current_autograd_node()
        number = node._sequence_nr() if hasattr(node, "_sequence_nr") else None
        return number, None if number is None else self.paths[bisect.bisect_right(self.starts, number) - 1]


def _key(t: torch.Tensor) -> int:
    return int((t._values() if t.is_sparse else t).untyped_storage()._cdata)


def _what(t: torch.Tensor) -> str | None:
    """`nan` if there is any, else `inf`; None if all is finite."""
    if not (t.is_floating_point() or t.is_complex()) or t.device.type == "meta":
        return None
    t = t.detach()
    t = t.coalesce().values() if t.is_sparse else t
    if bool(torch.isfinite(t).all()):
        return None
    return "nan" if bool(torch.isnan(t).any()) else "inf"
