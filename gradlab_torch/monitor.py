"""A monitor for anyone's own training loop: every norm, ratio and state of a step, in one transfer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch

from gradlab_core.anomaly import MovingScore
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.monitoring import Measured, check_monitor, step_record
from gradlab_core.records import GradientState, StepRecord
from gradlab_torch._applied import Applied
from gradlab_torch._extras import Extras
from gradlab_torch._measurements import Parts, dense, gradients, lost_to_rounding, path_of, transferred
from gradlab_torch._norms import flat, stacked_norms
from gradlab_torch.norms import global_norm


class Monitor:
    """Records the steps of an optimizer through its hooks: gradients as the optimizer sees them (after unscaling and
    clipping), parameters before the step, and the update really applied.

    Args:
        model: gives the parameters their paths; also those that the optimizer does not know get a state.
        optimizer: any `torch.optim.Optimizer`.
        every: record every so many steps, the first included; the others cost nothing but a count.
        extras: any of `grad_cosine`, `update_cosine` (between successive records) and `distance` (from where the
            parameters are now). Each holds one more copy of the parameters.
        on_record: called with each `StepRecord` as soon as it is complete: a sink, `list.append`, a function of yours.
        scaler: a `torch.amp.GradScaler`; the steps it leaves out are then counted in `skipped_steps`.

    Attributes:
        last: the newest record, None before the first.
        steps: optimizer steps seen. A step that a scaler leaves out is none.

    Memory: one copy of the parameters, in buffers that stay while the monitor is there. A monitor is a context manager;
    `close` removes its hooks.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> with Monitor(layer, optimizer) as monitor:
    ...     loss = layer(torch.ones(4, 2)).square().mean()
    ...     loss.backward()
    ...     monitor.observe(loss)
    ...     optimizer.step()
    >>> monitor.last.step, list(monitor.last.tensors), monitor.last.states["bias"].value
    (0, ['weight', 'bias'], 'ok')
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        every: int = 1,
        extras: Sequence[str] = (),
        on_record: Callable[[StepRecord], Any] | None = None,
        scaler: Any = None,
    ) -> None:
        check_monitor(every, extras)
        for value, kind in ((model, torch.nn.Module), (optimizer, torch.optim.Optimizer)):
            if not isinstance(value, kind):
                raise GradlabError(f"Monitor got a {type(value).__name__}; expected a {kind.__name__}")
        sharded = [name for name, p in model.named_parameters() if hasattr(p, "to_local")]
        refuse(
            "sharded parameters", [f"{n} is a DTensor, of which each rank sees a part; not supported" for n in sharded]
        )
        self.model, self.optimizer, self.every, self.on_record = model, optimizer, every, on_record
        self.last: StepRecord | None = None
        self.steps = self.skipped_steps = 0
        self._score = MovingScore()
        self._loss: torch.Tensor | None = None
        self._raw: torch.Tensor | None = None
        self._applied: Applied | None = None
        self._started: _Started | None = None
        self._extras = Extras(extras)
        self._norms_before: dict[str, dict[str, float]] = {}
        self._hooks = [
            optimizer.register_step_pre_hook(self._on_start),
            optimizer.register_step_post_hook(self._on_end),
        ]
        self._scaler, self._seen = scaler, 0
        if scaler is not None:
            scaler.update = self._on_scaler_update  # on this scaler only; `close` takes it away

    def observe(self, loss: torch.Tensor | float) -> None:
        """Tell the monitor the loss of the coming step; it stays on its device until the record is made."""
        self._loss = loss.detach() if isinstance(loss, torch.Tensor) else torch.tensor(loss, dtype=torch.float64)

    def before_clipping(self) -> None:
        """Call between `backward` and clipping: the record then holds the gradient norm before it too."""
        if self._is_recorded():
            self._raw = global_norm(gradients(self._registered()))

    def close(self) -> None:
        """Remove every hook; the monitor keeps what it recorded."""
        for hook in self._hooks:
            hook.remove()
        if self._scaler is not None:
            del self._scaler.update  # the method of its class shows again
        self._hooks, self._scaler, self._applied, self._started = [], None, None, None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_recorded(self) -> bool:
        return self.steps % self.every == 0

    def _on_scaler_update(self, *args: Any, **kwargs: Any) -> Any:
        self.skipped_steps += self.steps == self._seen  # since the last update no step was taken
        self._seen = self.steps
        return type(self._scaler).update(self._scaler, *args, **kwargs)

    def _on_start(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._started = None
        if not self._is_recorded():
            return
        registered = self._registered()
        params = [p for _, p in registered]
        if self._applied is None or not self._applied.fits(params):
            self._applied = Applied(params)
        # With a closure the optimizer computes its gradients only now.
        late = kwargs.get("closure", args[0] if args else None) is not None
        self._started = _Started(registered, self._applied.before(), None if late else self._gradient_norms(registered))

    def _on_end(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._started is not None and self._applied is not None:
            self._record(self._started, self._applied)
        self.steps += 1
        self._loss = self._raw = self._started = None

    def _record(self, started: _Started, applied: Applied) -> None:
        registered, names = started.registered, [name for name, _ in started.registered]
        there = [name for name, p in registered if p.grad is not None]
        parts: Parts = {
            "param": (names, started.params),
            "grad": (there, self._gradient_norms(registered) if started.gradients is None else started.gradients),
            "update": (names, applied.after()),
        }
        if self._extras.wanted:
            olds, updates = (dict(zip(names, lines, strict=True)) for lines in applied.olds_and_updates())
            grads = {name: flat(dense(p.grad)) for name, p in registered if p.grad is not None}
            parts |= self._extras.compare(olds, grads, updates)
        for name, value in (("loss", self._loss), ("raw", self._raw)):
            parts |= {} if value is None else {name: ([name], value.reshape(1))}
        found = transferred(parts)
        lost = lost_to_rounding(self.optimizer, registered, found["grad"], found["update"])
        measured = Measured(
            names=names,
            sizes=[p.numel() for _, p in registered],
            params=list(found["param"].values()),
            grads=[found["grad"].get(name) for name in names],
            updates=list(found["update"].values()),
            lost=[name in lost for name in names],
            raw_grad_norm=found.get("raw", {}).get("raw"),
            extras={e: found[e] for e in self._extras.wanted},
            before=self._norms_before,
        )
        self._norms_before = {"grad_cosine": found["grad"], "update_cosine": found["update"]}
        rates = {float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group}
        self.last = step_record(
            measured,
            step=self.steps,
            loss=found.get("loss", {}).get("loss"),
            learning_rate=rates.pop() if len(rates) == 1 else None,
            anomaly=self._score(measured.grad_norm),
            known=self._known({id(p) for _, p in registered}),
        )
        if self.on_record is not None:
            self.on_record(self.last)

    def _registered(self) -> list[tuple[str, torch.nn.Parameter]]:
        """`(path, parameter)` of what the optimizer may move, in the order of the model."""
        moved = {id(p): p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad}
        found = [(path_of(name), p) for name, p in self.model.named_parameters() if moved.pop(id(p), None) is not None]
        return found + [(f"optimizer.{i}", p) for i, p in enumerate(moved.values())]  # not of this model

    def _known(self, registered: set[int]) -> dict[str, GradientState]:
        """The state of every parameter of the model, as far as the program decides it."""
        return {
            path_of(name): GradientState.OK
            if id(p) in registered
            else GradientState.UNREGISTERED
            if p.requires_grad
            else GradientState.FROZEN
            for name, p in self.model.named_parameters()
        }

    def _gradient_norms(self, registered: Sequence[tuple[str, torch.nn.Parameter]]) -> torch.Tensor:
        sizes = stacked_norms(gradients(registered))
        scale = getattr(self.optimizer, "grad_scale", None)  # a fused optimizer unscales by itself, and only now
        return sizes if scale is None else sizes / scale.to(sizes.device)


@dataclasses.dataclass
class _Started:
    """What is known before the optimizer moves; gradients None: it computes them itself."""

    registered: list[tuple[str, torch.nn.Parameter]]
    params: torch.Tensor
    gradients: torch.Tensor | None
