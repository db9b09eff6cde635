"""What a monitor sees of the forward passes that the user runs anyway: layers, input, answers.

PyTorch's hooks for all modules are there for one step only, so nothing hangs on the user's model, which may be copied
or pickled at any time. A pass without gradients (an evaluation, a target network), one that a checkpoint runs again in
the backward pass, and one under `torch.func`, in a trace or in another thread are not of the step, and are let through.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.nn.parameter import is_lazy

from gradlab_core.definitions import kinds
from gradlab_torch.measure.answers import Figures, figures
from gradlab_torch.measure.statistics import NO_LAYER, Row, stats
from gradlab_torch.measure.symmetry import copied_share
from gradlab_torch.model.modules import path_of
from gradlab_torch.model.taps import Tap, Watch, classify
from gradlab_torch.monitoring.module_hooks import ModuleHooks
from gradlab_torch.monitoring.passes import blind_spot, is_of_the_step, may_be_fast
from gradlab_torch.monitoring.seen import PREFIX, Seen
from gradlab_torch.monitoring.steps import is_running
from gradlab_torch.trees.transfer import Parts

MOST_CALLS = 16
"""Calls of one layer that are measured in one step: a cell that is stepped by hand is called at every time step."""

MOST_PASSES = 4
"""Passes of the outermost module whose answers are measured in one step."""


class Looks:
    """Which steps are looked at: one of `every` steps, if it is `wanted`. A model that nobody can look into is said so,
    once."""

    def __init__(self, model: torch.nn.Module, every: int | None) -> None:
        self.model, self.every, self.due = model, every, 0
        self.look: Look | None = None

    def before(self, step: int, *, wanted: bool) -> None:
        """Before the passes of a step."""
        self.close()
        if self.every is None or step < self.due or not wanted:
            return
        hidden = blind_spot(self.model)
        if hidden is not None:
            warnings.warn(f"the monitor does not look into the model: {hidden}", stacklevel=4)
            self.every = None
            return
        self.look, self.due = Look(self.model), step + self.every

    def again(self, step: int) -> None:
        """The step was left out: what was seen was of none, and the next passes are of this step."""
        if self.look is not None:
            self.due = step
            self.before(step, wanted=True)

    def seen(self) -> Seen | None:
        """What was seen of this step."""
        return None if self.look is None else self.look.seen()

    def close(self) -> None:
        """Look at nothing more."""
        if self.look is not None:
            self.look.close()
        self.look = None


class _Known(NamedTuple):
    """A module of the model: its layer's kind and layout if it is one, and whether its output is that of a tanh."""

    path: str
    layer: tuple[str, bool] | None
    is_tanh: bool

    @classmethod
    def of(cls, path: str, module: torch.nn.Module) -> _Known:
        return cls(path, classify(module), isinstance(module, torch.nn.RNN) and module.nonlinearity == "tanh")


class Look:
    """The forward passes of one step, from now to `close`. What it sees lies on the device until it is transferred."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.thread = model, threading.get_ident()
        self.known = {id(module): _Known.of(path, module) for path, module in model.named_modules()}
        self.watch = Watch(self._on_tap)
        self.running: list[bool] = []  # modules that are running, and whether they count
        self.outer: tuple[torch.nn.Module, FrameType] | None = None  # the outermost one, and where it runs
        self.rows: list[Row] = []
        self.input: Row | None = None
        self.batch: int | None = None
        self.mode = "train"
        self.product: torch.Tensor | None = None  # of the last layer: the answers of a model that returns its loss
        self.outputs: list[Row] = []
        self.awaited: dict[int, torch.Tensor] = {}  # answers whose gradient is still to come
        self.answered: tuple[int, Figures | None] | None = None
        self.summary: Seen | None = None
        self.has_failed = False
        self.handles: list[Any] = [ModuleHooks(self._before, self._after)]

    def close(self) -> None:
        """Remove every hook; what was seen stays."""
        for handle in self.handles:
            handle.remove()
        self.handles, self.product = [], None
        self.awaited.clear()
        self._break_off()

    def _break_off(self) -> None:
        """Leave a pass that did not end: Ctrl-C runs no hook."""
        self.watch.leave_stack()
        self.running, self.outer = [], None
        self.watch.running.clear()

    def _before(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or id(module) not in self.known or threading.get_ident() != self.thread:
            return
        if self.outer is not None and self.outer[0] is module and not is_running(self.outer[1]):
            self._break_off()
        begins = not any(self.running)
        counts = is_of_the_step() if begins else True
        self.running.append(counts)
        if counts:
            if begins:
                self.outer = module, sys._getframe(1)
                self.mode = self.mode if self.batch is not None else "train" if module.training else "eval"
                self._measure(self._take_inputs, args)
                self.watch.__enter__()
            self.watch.enter(self.known[id(module)].path)(module, args)
            if may_be_fast(module):
                self.watch.leave_stack()

    def _after(self, module: torch.nn.Module, args: tuple[Any, ...], *more: Any) -> None:
        if torch.compiler.is_compiling() or id(module) not in self.known or threading.get_ident() != self.thread:
            return
        if not self.running or not self.running.pop():
            return
        kwargs, out = more if len(more) == 2 else ({}, None)  # where the module raised, PyTorch hands no kwargs on
        if may_be_fast(module) and any(self.running):
            self.watch.leave_stack()  # one inside of another has left it already
            self.watch.__enter__()
        known = self.known[id(module)]
        self.watch.leave(known.path, known.layer)(module, args, out)
        if known.is_tanh and isinstance(out, tuple) and isinstance(out[0], torch.Tensor):
            self.watch.tap(known.path, "tanh", out[0])  # a state is the output of a tanh that nobody calls
        if not any(self.running):
            self.watch.leave_stack()
            self.watch.handed_out.clear()  # a loop may run on and on before a step is taken
            self.outer = None
            self._measure(self._take_inputs, kwargs)
            self._measure(self._take_outputs, out)

    def _measure(self, measure: Callable[..., None], *of: Any) -> None:
        """What is only looked at must not stop the training that it looks at."""
        if self.has_failed:
            return
        try:
            with torch.no_grad(), torch._C.DisableTorchFunction():
                measure(*of)
        except Exception as error:
            self.has_failed = True
            warnings.warn(
                f"the monitor stops looking at this step ({type(error).__name__}: {error}); the training goes on, and "
                "Monitor(..., look_every=None) never looks",
                stacklevel=2,
            )

    def _take_inputs(self, inputs: Any) -> None:
        given = [t for t in _tensors(inputs) if t.ndim and t.numel()]
        if self.batch is None and given:
            self.batch = len(given[0])
        if self.input is None:
            first = next((t for t in given if _is_plain(t)), None)
            self.input = None if first is None else stats(first, NO_LAYER)

    def _take_outputs(self, out: Any) -> None:
        usable = (t for t in _tensors(out) if _is_plain(t) and t.requires_grad and t.numel() > 1)
        answers, self.product = next(usable, self.product), None
        if answers is None or len(self.outputs) >= MOST_PASSES or self.answered is not None:
            return
        place = len(self.outputs)
        self.outputs.append(stats(answers, NO_LAYER))
        self.awaited[place] = answers.detach()

        def answer(seen: torch.Tensor, gradient: torch.Tensor) -> None:
            self.answered = place, figures(seen, gradient.detach())

        def arrived(gradient: torch.Tensor) -> None:
            # They may be large, and are not kept any longer than the user keeps them.
            seen = self.awaited.pop(place, None)
            # Where the parts of a model are called one after the other, the last one's gradient is the first to come.
            if self.answered is None and seen is not None:
                self._measure(answer, seen, gradient)

        self.handles.append(answers.register_hook(arrived))

    def _on_tap(self, tap: Tap, value: torch.Tensor) -> None:
        if not _is_plain(value) or torch._C._functorch.peek_interpreter_stack() is not None:
            return
        if tap.kind in (kinds.LINEAR, kinds.CONV) and value.requires_grad:
            self.product = value
        if tap.kind in kinds.TRACKED and tap.call < MOST_CALLS:
            self._measure(lambda: self.rows.append(stats(value, tap)))

    def seen(self) -> Seen | None:
        """All that was seen, to be transferred; None where no pass counted."""
        if self.outputs:
            self._measure(self._sum_up)
        return self.summary

    def _sum_up(self) -> None:
        place, answers = (len(self.outputs) - 1, None) if self.answered is None else self.answered
        tensors = {"output": self.outputs[place], **({} if self.input is None else {"input": self.input})}
        params = {path_of(name): p for name, p in self.model.named_parameters() if not is_lazy(p)}
        weights = {name: p for name, p in params.items() if p.ndim > 1 and _is_plain(p)}
        parts: Parts = {
            **{name: row.part() for name, row in tensors.items()},
            **{str(i): row.part() for i, row in enumerate(self.rows)},
            **({} if answers is None else answers.parts),
            **{f"copies {name}": ([name], copied_share(p).reshape(1)) for name, p in weights.items()},
        }
        self.summary = Seen(
            mode=self.mode,
            batch=self.batch or 1,
            rows=self.rows,
            tensors=tensors,
            answers=answers,
            shapes={name: tuple(p.shape) for name, p in params.items()},
            parts={f"{PREFIX}{name}": part for name, part in parts.items()},
        )


def _is_plain(t: torch.Tensor) -> bool:
    return (
        type(t) in (torch.Tensor, torch.nn.Parameter)
        and t.is_floating_point()
        and t.layout == torch.strided
        and t.device.type != "meta"
        and not t.is_nested
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in arguments or results, in their order: of tuples, lists, dicts and dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors(tuple(getattr(value, field.name) for field in dataclasses.fields(value)))
