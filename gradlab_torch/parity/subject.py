"""A PyTorch model as the parity judgement takes it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gradlab_core.parity.arithmetic import ARITHMETICS, Arithmetic, check_precision
from gradlab_core.parity.batch import Inputs, Layout, arranged, as_pick, check_layout, mapped
from gradlab_core.parity.trace import Key
from gradlab_core.programs.specs import TrainSpec
from gradlab_torch.model.checks import as_labels, check_logits
from gradlab_torch.model.gradients import Loss, loss_and_gradients
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import own_randomness, private_copy, trainable
from gradlab_torch.model.taps import Tap
from gradlab_torch.model.weights import as_numpy, astype, from_canonical, to_canonical, to_native
from gradlab_torch.parity.precision import measured, precise, wide
from gradlab_torch.parity.rounding import Noise

Optimizer = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
Picked = str | int | Callable[[Any], Any] | None


class Subject:
    """A model, its loss and its optimizer.

    Args:
        model: any `torch.nn.Module`; it is copied and stays as it was.
        loss: `loss(logits, y)` → scalar; y comes as the batch has it, each array of it as a tensor.
        optimizer: a `TrainSpec`, whose milestones are then counted in steps, or a function from the list of parameters
            to a `torch.optim.Optimizer`.
        precision: what float32 products are made in: `highest`, `tf32`, `bfloat16` or `float16` (autocast), or `as-is`,
            which sets nothing.
        pick: of a model that returns more than one array: the place, key or attribute of the one that is compared and
            goes to the loss, or a function that picks it.
        layout: how the model takes images, one of `gradlab_core.parity.batch.LAYOUTS`, or that by the name of the
            input: canonical batches hold (N, C, …), and a 4-dimensional mask is no image (`none`).

    >>> subject = Subject(torch.nn.Linear(3, 2))
    >>> trace = subject.step(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), 0)
    >>> [str(key) for key in trace][:3]
    ['activation', 'logits', 'loss']
    """

    framework = "torch"

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        loss: Loss = cross_entropy,
        optimizer: TrainSpec | Optimizer = TrainSpec(weight_decay=0.0),  # noqa: B008 - frozen
        precision: str = "highest",
        pick: Picked = None,
        layout: Layout = "NCHW",
    ) -> None:
        self.precision = check_precision(precision)
        check_layout(layout)
        self.pick, self.layout = as_pick(pick), layout
        self.model = copy.deepcopy(model)
        self.loss, self.recipe = loss, optimizer
        self.noise: Noise | None = None
        self.steps = 0
        self.params = list(trainable(self.model).values())
        self.optimizer = (
            torch.optim.SGD(self.params, lr=0.1, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay)
            if isinstance(optimizer, TrainSpec)
            else optimizer(self.params)
        )

    def cast(self, dtype: str) -> Subject:
        """A fresh copy in that precision; the float64 oracle runs on the CPU."""
        model = astype(self.model, dtype)
        return self._copy(model.cpu() if dtype == "float64" else model, self.precision)

    def at(self, precision: str) -> Subject:
        """A fresh copy that is run in that precision."""
        return self._copy(self.model, precision)

    def arithmetic(self) -> Arithmetic:
        """What its float32 products are made in; under `as-is` that is measured."""
        device = self.params[0].device
        return measured(device) if self.precision == "as-is" else ARITHMETICS[self.precision]

    def perturbed(self, arithmetic: Arithmetic, seed: int) -> Subject:
        """A float64 copy on the CPU whose every operation carries a random error of that arithmetic."""
        subject = self.cast("float64")
        subject.noise = Noise(arithmetic, seed)
        return subject

    def _copy(self, model: torch.nn.Module, precision: str) -> Subject:
        return Subject(
            model,
            loss=self.loss,
            optimizer=self.recipe,
            precision=precision,
            pick=self.pick,
            layout=self.layout,
        )

    def state(self) -> dict[str, np.ndarray]:
        return to_canonical(self.model)

    def load(self, arrays: Mapping[str, Any]) -> None:
        from_canonical(self.model, arrays)

    def step(self, x: Inputs, y: Any, epoch: int) -> dict[Key, np.ndarray | None]:
        """One training step, and every tensor of it in canonical layout."""
        return self.local_step(x, y, epoch, {})

    def local_step(
        self, x: Inputs, y: Any, epoch: int, given: Mapping[Key, np.ndarray | None]
    ) -> dict[Key, np.ndarray | None]:
        """A step in which the tensors of layers, and the logits, are taken from `given` once they are computed: what
        comes after a layer is computed from the given one, forward and backward. So no difference is handed on."""
        self.steps += 1
        with self._arithmetic(), own_randomness(self.model):
            torch.manual_seed(self.steps)  # what is drawn is another at each step, and the same in each copy
            return self._step(x, y, epoch, given)

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        first = self.params[0]
        return wide(self.noise) if first.dtype == torch.float64 else precise(self.precision, first.device)

    def _step(
        self, x: Inputs, y: Any, epoch: int, given: Mapping[Key, np.ndarray | None]
    ) -> dict[Key, np.ndarray | None]:
        private = private_copy(self.model, "train")
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        for name in frozen:  # its gradient is nobody's, here or in a port that stops it
            private.get_parameter(name).requires_grad_(False)
        first = self.params[0]

        def native(name: str, array: Any) -> torch.Tensor:
            tensor = to_native(array).to(first.device)
            return tensor.to(first.dtype) if tensor.is_floating_point() else tensor

        inputs = mapped(arranged(x, self.layout, "NCHW"), native)
        labels = mapped(np.asarray(y) if isinstance(y, list) else y, lambda name, array: as_labels(array, first.device))
        slopes: dict[Tap, torch.Tensor] = {}
        unseen: set[Tap] = set()  # inside of a function with a backward of its own, or behind what is frozen
        logits: list[torch.Tensor] = []

        def instead(key: Key, value: torch.Tensor) -> torch.Tensor | None:
            array = given.get(key)
            return None if array is None or array.shape != value.shape else torch.from_numpy(array).to(value)

        def take(key: Key, value: torch.Tensor) -> torch.Tensor:
            """Its own value; the tensor itself goes on with the given one."""
            own = value.detach().clone()
            other = instead(key, own)
            if other is not None:
                value.data.copy_(other)  # not through the graph: how it was computed stays known
            return own

        def on_tap(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            def back(slope: torch.Tensor) -> torch.Tensor | None:
                slopes[tap] = slope
                return instead(Key("activation_gradient", tap.path, tap.call), slope)

            if value.requires_grad:
                # A hook on this version of the tensor: an in-place activation after it does not disturb it.
                value.register_hook(back)
            elif frozen or not torch.is_grad_enabled():
                unseen.add(tap)
            return take(Key("activation", tap.path, tap.call), value)

        def loss(out: Any, labels: Any) -> torch.Tensor:
            picked = check_logits(self.pick(out))
            logits.append(take(Key("logits"), picked))
            return self.loss(picked, labels)

        value, grads, handed = loss_and_gradients(private, inputs, labels, loss, on_tap)
        trace: dict[Key, torch.Tensor | None] = {Key("activation", t.path, t.call): v for t, v in handed}
        trace |= {Key("logits"): logits[0], Key("loss"): value}
        backward = (t for t, _ in reversed(handed) if t not in unseen)
        trace |= {Key("activation_gradient", t.path, t.call): slopes.get(t) for t in backward}
        trace |= {Key("gradient", path): g for path, g in grads.items()}
        self._apply(grads, dict(private.named_buffers()), epoch)
        trace |= self._after()
        return {key: None if t is None else as_numpy(t) for key, t in trace.items()}

    def _apply(self, gradients: dict[str, torch.Tensor | None], buffers: dict[str, torch.Tensor], epoch: int) -> None:
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        for name, p in self.model.named_parameters():
            p.grad = gradients.get(name)
        if isinstance(self.recipe, TrainSpec):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate(epoch)
        self.optimizer.step()

    def _after(self) -> dict[Key, torch.Tensor | None]:
        rate = torch.tensor(self.optimizer.param_groups[0]["lr"], dtype=torch.float64)
        trace: dict[Key, torch.Tensor | None] = {Key("learning_rate"): rate}
        for path, p in self.model.named_parameters():
            velocity = self.optimizer.state.get(p, {}).get("momentum_buffer")
            if velocity is not None:
                trace[Key("optimizer", path)] = velocity.clone()
        names = {path for path, _ in self.model.named_parameters()}
        # A copy: these tensors change at the next step.
        tensors = {path: torch.from_numpy(value) for path, value in to_canonical(self.model).items()}
        trace |= {Key("parameter", path): t for path, t in tensors.items() if path in names}
        return trace | {Key("statistic", path): t for path, t in tensors.items() if path not in names}
