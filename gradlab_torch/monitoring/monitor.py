"""A monitor for anyone's own training loop: every norm, ratio and state of a step, in one transfer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch._compile import _disable_dynamo  # as torch.compiler.disable, but imports nothing before the first call

from gradlab_core.definitions.anomaly import MovingScore
from gradlab_core.definitions.monitoring import check_monitor
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import LiveDiagnosis
from gradlab_core.records import Finding, Probe, StepRecord
from gradlab_torch.model.sharding import refuse_sharded
from gradlab_torch.monitoring import scalers
from gradlab_torch.monitoring.applied import Applied
from gradlab_torch.monitoring.extras import Extras
from gradlab_torch.monitoring.kept import Kept
from gradlab_torch.monitoring.looking import Looks
from gradlab_torch.monitoring.lost import lost_to_rounding
from gradlab_torch.monitoring.measurements import gradients, is_away, known_states, registered
from gradlab_torch.monitoring.shards import Shards, one_number
from gradlab_torch.monitoring.steps import Norms, Started, Taken, is_running
from gradlab_torch.trees.norm_arithmetic import stacked_norms
from gradlab_torch.trees.transfer import Parts, Transfer


class Monitor:
    """Records the steps of an optimizer through its hooks: gradients as the optimizer sees them (after unscaling and
    clipping), parameters before the step, and the update really applied.

    Args:
        model: gives the parameters their paths; also those that the optimizer does not know get a state.
        optimizer: any `torch.optim.Optimizer`.
        every: record every so many steps, the first included; the others cost nothing but a count.
        look_every: look into the forward passes of every so many steps, the first included, and at steps that are
            recorded only: every layer's activations, the input, the answers and the loss they went into, units that are
            copies. The record then has a `probe`, which the diagnosis reads. Nothing is run for it but statistics of
            what passes by. A compiled model cannot be looked into, which a warning says once. None never looks.
        extras: any of `grad_cosine`, `update_cosine` (between successive records) and `distance` (from where the
            parameters are now), each of which holds one or two more copies of the parameters; and quantities of your
            own: `gradlab_core.definitions.quantities.Quantity`.
        on_record: called with each `StepRecord`: a sink, `list.append`, a function of yours. On the CPU at the end of
            its step; on a GPU, which no step waits for, when `last` is asked for, else at the end of the step after it
            or on `close`.
        on_finding: called with each `Finding` once, as soon as the records show it:
            `gradlab_core.judge.diagnosis.LiveDiagnosis`.
        scaler: a `torch.amp.GradScaler`; the steps it leaves out are then counted in `skipped_steps`. (A fused
            optimizer is called all the same; there the record says `skipped`.)

    Attributes:
        last: the newest record, None before the first. To read it on a GPU is to wait for its step.
        steps: optimizer steps seen. A step that a scaler leaves out is none.

    Memory: one copy of the parameters, in buffers that stay while the monitor is there. A monitor is a context manager;
    `close` removes its hooks. Where processes share DTensors (FSDP2, tensor parallel) each has one: docs/scale.md.

    Where losses were observed and the optimizer never stepped, no hook ran and there would be nothing to see. `close`
    then makes one record, of step 0: the newest loss, parameters and gradients as they are, an update of 0, `skipped`.

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
        look_every: int | None = 20,
        extras: Sequence[str | Quantity] = (),
        on_record: Callable[[StepRecord], Any] | None = None,
        on_finding: Callable[[Finding], Any] | None = None,
        scaler: Any = None,
    ) -> None:
        check_monitor(every, extras, look_every)
        for value, kind in ((model, torch.nn.Module), (optimizer, torch.optim.Optimizer)):
            if not isinstance(value, kind):
                raise GradlabError(f"Monitor got a {type(value).__name__}; expected a {kind.__name__}")
        if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
            raise GradlabError(
                f"a {type(optimizer).__name__} takes no hooks; expected the optimizer inside: .optimizer"
            )
        params = [p for group in optimizer.param_groups for p in group["params"]]
        refuse_sharded("Monitor", model, params, dtensors=True)
        self.model, self.optimizer, self.every, self.on_record = model, optimizer, every, on_record
        self._watch = None if on_finding is None else LiveDiagnosis(on_finding)
        self._last: StepRecord | None = None
        self._pending: Taken | None = None
        self.steps = self.skipped_steps = 0
        self._score = MovingScore()
        self._loss: torch.Tensor | None = None
        self._raw: Parts = {}
        self._probe: Probe | None = None
        self._applied: Applied | None = None
        self._started: Started | None = None
        self._shards = Shards.of(self._registered(), extras)
        self._kept = Kept(copies=self._shards is not None)
        self._extras: Extras | None = Extras(extras, dict(self._registered()))
        self._norms_before: Norms = {}
        self._hooks = [
            optimizer.register_step_pre_hook(self._on_start),
            optimizer.register_step_post_hook(self._on_end),
        ]
        self._looks = Looks(model, look_every)
        self._looks.before(0, wanted=True)
        self._scaler, self._steps_at_update = scaler, 0
        if scaler is not None:
            scalers.listen(scaler, self._on_scaler_update)

    @property
    def last(self) -> StepRecord | None:
        """The newest record, None before the first."""
        self._deliver()
        return self._last

    def observe(self, loss: torch.Tensor | float, *, probe: Probe | None = None) -> None:
        """Tell the monitor the loss of the coming step; it stays on its device until the record is made. The record
        also carries what `gradlab_torch.probe` saw on the batch of this step."""
        if not isinstance(loss, (torch.Tensor, float, int)) or (isinstance(loss, torch.Tensor) and loss.numel() != 1):
            came = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise GradlabError(f"the loss observed is a {came}; expected one number")
        self._loss = one_number(loss) if isinstance(loss, torch.Tensor) else torch.tensor(loss, dtype=torch.float64)
        self._probe = probe

    def before_clipping(self) -> None:
        """Call between `backward` (with a scaler: `scaler.unscale_(optimizer)`) and clipping: the record then holds the
        gradient norm before it too."""
        if self._is_recorded():
            with torch.no_grad():
                raw = gradients(self._registered())
                self._raw = {"raw": (list(raw), stacked_norms(list(raw.values())))}

    def close(self) -> None:
        """Remove every hook; the monitor keeps what it recorded. If losses were observed and no step was ever taken, a
        last record says so; findings of the last records are told."""
        if self.steps == 0 and self._loss is not None and self._extras is not None and self._shards is None:
            self._never_stepped(self._extras)
            self._loss = None
        for hook in self._hooks:
            hook.remove()
        if self._scaler is not None:
            scalers.leave(self._scaler, self._on_scaler_update)
        self._hooks, self._scaler, self._applied, self._started, self._extras = [], None, None, None, None
        self._looks.close()
        self._deliver()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._loss = None  # a loop that broke off before its first step has not left one out
        self.close()

    def _is_recorded(self) -> bool:
        return self.steps % self.every == 0

    def _on_scaler_update(self) -> None:
        if self.steps == self._steps_at_update:  # since the last update no step was taken
            self.skipped_steps += 1
            self._loss, self._raw, self._probe = None, {}, None
            self._looks.again(self.steps)
        self._steps_at_update = self.steps

    def _on_start(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        frame = sys._getframe(1)
        if self._started is not None and is_running(self._started.frame):
            return None  # a subclass calls the step of its base: the outer one is recorded
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise GradlabError(
                "optimizer.step() is being captured in a CUDA graph; expected it outside: a replay runs no hooks, so "
                "the monitor would see nothing of it. Capture forward and backward, or close the monitor before"
            )
        self._started = started = Started(frame)
        if not self._is_recorded() or self._extras is None:
            return None
        self._see_parameters(started, self._extras)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)  # args[0] is the optimizer
        if closure is None:
            self._see_gradients(started)
            return None

        # A closure brings the gradients, and the optimizer may change them in place before it ends.
        def measured() -> Any:
            loss = closure()
            self._see_gradients(started)
            return loss

        return args[:1], {**kwargs, "closure": measured}

    @_disable_dynamo
    def _see_parameters(self, started: Started, extras: Extras) -> Applied:
        with torch.inference_mode(False), torch.no_grad():
            started.registered = self._registered()
            params = dict(started.registered)
            if self._applied is None or not self._applied.fits(list(params.values())):
                self._applied = Applied(list(params.values()))
            started.parts = {"param": (list(params), self._applied.before()), **extras.at_start(params)}
        return self._applied

    def _never_stepped(self, extras: Extras) -> None:
        started = Started(sys._getframe())
        applied = self._see_parameters(started, extras)
        self._see_gradients(started)
        with torch.inference_mode(False), torch.no_grad():
            self._pending = self._taken(started, applied, extras, stepped=False)

    @_disable_dynamo
    def _see_gradients(self, started: Started) -> None:
        with torch.inference_mode(False), torch.no_grad():
            again, started.gradients = bool(started.gradients), gradients(started.registered)
            self._kept.look(started.gradients, again=again)
            sizes = stacked_norms(list(started.gradients.values()))
            scale = getattr(self.optimizer, "grad_scale", None)  # a fused optimizer unscales by itself, and only now
            sizes = sizes if scale is None else sizes / scale.to(sizes.device)
            started.parts["grad"] = list(started.gradients), sizes
            if self._extras is not None:
                started.parts |= self._extras.with_gradients(started.gradients, scale)

    def _on_end(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        started = self._started
        if started is None or started.frame is not sys._getframe(1):
            return
        try:
            taken = None
            if started.parts and self._applied is not None and self._extras is not None:
                with torch.inference_mode(False), torch.no_grad():
                    taken = self._taken(started, self._applied, self._extras)
            self._deliver()  # of the step before, while the device works at this one
            self._pending = taken
            if taken is not None and not taken.transfer.is_underway:
                self._deliver()
        finally:
            self.steps += 1
            self._loss, self._raw, self._probe, self._started = None, {}, None, None
            self._looks.before(self.steps, wanted=self._is_recorded())

    @_disable_dynamo
    def _taken(self, started: Started, applied: Applied, extras: Extras, *, stepped: bool = True) -> Taken:
        """Everything about this step, its figures on their way to the host."""
        moved, names = started.registered, [name for name, _ in started.registered]
        parts: Parts = {**started.parts, **self._kept.moved(applied, names, started.parts, self.optimizer)}
        parts |= extras.at_end(dict(moved))
        if stepped:  # rounding cannot have swallowed what nobody applied
            sharded = self._shards is not None
            parts["lost"] = lost_to_rounding(self.optimizer, moved, started.gradients, parts, sharded=sharded)
        rates = [group["lr"] for group in self.optimizer.param_groups if "lr" in group]
        there = [rate.detach().reshape(()) for rate in rates if is_away(rate)]
        if there:  # where a compiled or captured optimizer keeps it
            parts["rates"] = [str(i) for i in range(len(there))], torch.stack(there)
        seen = self._looks.seen() if self._probe is None else None
        parts |= self._raw if seen is None else {**self._raw, **seen.parts}
        parts |= {} if self._loss is None else {"loss": (["loss"], self._loss.reshape(1))}
        return Taken(
            transfer=Transfer(parts) if self._shards is None else self._shards.transfer(parts, moved),
            names=names,
            sizes=[p.numel() for _, p in moved],
            step=self.steps,
            rates=[float(rate) for rate in rates if not is_away(rate)],
            known=known_states(self.model, {id(p) for _, p in moved}),
            probe=self._probe,
            seen=seen,
            stepped=stepped,
            quantities=extras.quantities,
            changed=self._kept.changed,
        )

    @_disable_dynamo
    def _deliver(self) -> None:
        """Make the record that is under way, and tell whoever listens."""
        taken, self._pending = self._pending, None
        if taken is None:
            return
        self._last, self._norms_before = taken.record(self._norms_before, self._score)
        for listener in (self.on_record, self._watch):
            if listener is not None:
                listener(self._last)

    def _registered(self) -> list[tuple[str, torch.nn.Parameter]]:
        return registered(self.model, self.optimizer)
