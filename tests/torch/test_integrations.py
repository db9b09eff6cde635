"""Trainers of other libraries: a real short run of each gives the records of the plain loop and leaves no hook."""

from __future__ import annotations

import copy
import dataclasses
import gc
import importlib
import importlib.machinery
import os
import sys
import types

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported

import pytest
import pytorch_lightning as lightning
import torch
import transformers
from pytorch_lightning.plugins.precision import MixedPrecision

from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_torch import Monitor
from gradlab_torch.integrations import huggingface as of_huggingface
from gradlab_torch.integrations import lightning as of_lightning

CLIP, ACCUMULATE, EPOCHS = 0.4, 2, 2
DRAW = torch.Generator().manual_seed(0)
# Five batches, so that the last step of an epoch has one only.
BATCHES = [(torch.randn(4, 3, generator=DRAW), torch.randn(4, 1, generator=DRAW)) for _ in range(5)]


def new_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))


def new_optimizer(net):
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def mean_square(net, x, y):
    return (net(x) - y).square().mean()


def plain(weight, model, clip=CLIP, left_out=(), **options):
    """The records of a loop without any library; `weight` says what part a batch has in the loss of its step."""
    records, optimizer = [], new_optimizer(model)
    steps = [BATCHES[i : i + ACCUMULATE] for i in range(0, len(BATCHES), ACCUMULATE)]
    with Monitor(model, optimizer, on_record=records.append, **options) as monitor:
        for step in (step for i, step in enumerate(steps * EPOCHS) if i not in left_out):
            optimizer.zero_grad()
            parts = [mean_square(model.net, *batch) * weight(step) for batch in step]
            for part in parts:
                part.backward()
            monitor.before_clipping()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            monitor.observe(sum(part.detach() for part in parts))
            optimizer.step()
    return records


def hooks(model, optimizer):
    of_steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    return of_steps + len(model._forward_hooks)


@pytest.fixture
def reads(monkeypatch):
    """Where a callback reads a tensor on the host, which waits for an accelerator; monitors have their own test."""
    found = []
    for name in ("item", "tolist", "__float__", "__bool__", "__int__", "numpy", "cpu"):
        real = getattr(torch.Tensor, name)

        def read(self, *args, real=real, name=name):
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.startswith("gradlab_torch.integrations"):
                found.append((caller, name))
            return real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, read)
    return found


# PyTorch Lightning


class Module(lightning.LightningModule):
    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.fails_at = new_net(), fails_at

    def training_step(self, batch, index):
        if index == self.fails_at:
            raise ZeroDivisionError
        return mean_square(self.net, *batch)

    def configure_optimizers(self):
        self.optimizer = new_optimizer(self)
        return self.optimizer


def fit(folder, module, callback, **options):
    options = {"max_epochs": EPOCHS, "accumulate_grad_batches": ACCUMULATE, "gradient_clip_val": CLIP} | options
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, callbacks=[callback], **quiet, **options
    )
    trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None))
    return trainer


@pytest.mark.parametrize("every", [1, 4])
def test_lightning_gives_the_records_of_the_plain_loop(tmp_path, reads, every):
    records, module = [], Module()
    callback = of_lightning.MonitorCallback(every=every, extras=EXTRAS, on_record=records.append)
    fit(tmp_path, module, callback)
    assert reads == []
    options = {"every": every, "extras": EXTRAS}
    assert records == plain(lambda step: 1 / ACCUMULATE, Module(), **options)  # also in the last step of an epoch
    assert [r.step for r in records] == list(range(0, 6, every))
    assert records[-1] is callback.monitor.last
    assert any(r.clipped for r in records)
    assert hooks(module, module.optimizer) == 0
    assert list(tmp_path.iterdir()) == []
    for other in (lambda step: 1.0, lambda step: 1 / len(step)):  # planted: other weights, other records
        assert records != plain(other, Module(), **options)


def test_lightning_after_an_error(tmp_path):
    records, module = [], Module(fails_at=3)
    callback = of_lightning.MonitorCallback(on_record=records.append)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, module, callback)
    assert hooks(module, module.optimizer) == 0
    assert len(records) == 1
    module = Module()
    trainer = fit(tmp_path, module, callback, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None))
    assert [r.step for r in records[1:]] == [0, 1, 2, 3, 4, 5]  # a run that is continued counts on


def test_lightning_without_clipping_and_in_other_processes(tmp_path, monkeypatch):
    callback = of_lightning.MonitorCallback()
    fit(tmp_path, Module(), callback, gradient_clip_val=None, accumulate_grad_batches=1)
    assert (callback.monitor.last.raw_grad_norm, callback.monitor.last.clipped) == (None, None)
    monkeypatch.setattr(lightning.Trainer, "is_global_zero", False)
    second = of_lightning.MonitorCallback()
    fit(tmp_path, Module(), second)
    assert second.monitor is None


def test_lightning_with_a_gradient_scaler(tmp_path):
    """Half precision with a step that overflows: it is counted, and its loss is not added to the next one."""

    class Overflowing(Module):
        def training_step(self, batch, index):
            return mean_square(self.net, *batch) * (torch.inf if index == 2 else 1.0)

    def scaler():
        return torch.amp.GradScaler("cpu", init_scale=1024.0)

    records = []
    callback = of_lightning.MonitorCallback(on_record=records.append)
    precision = MixedPrecision("16-mixed", "cpu", scaler())
    fit(tmp_path, Overflowing(), callback, plugins=[precision], max_epochs=1)

    net, own, expected = Module(), scaler(), []
    optimizer = new_optimizer(net)
    with Monitor(net, optimizer, on_record=expected.append, scaler=own) as monitor:
        for step in (BATCHES[:2], [(torch.full((4, 3), torch.nan), BATCHES[3][1]), BATCHES[3]], BATCHES[4:]):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.half, cache_enabled=False):
                parts = [mean_square(net.net, *batch) / 2 for batch in step]
            for part in parts:
                own.scale(part).backward()
            own.unscale_(optimizer)
            monitor.before_clipping()
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            monitor.observe(sum(parts))
            own.step(optimizer)
            own.update()
        assert monitor.skipped_steps == 1
    assert len(records) == 2
    assert records == expected
    assert callback.monitor.skipped_steps == 1


def test_lightning_under_manual_optimization(tmp_path):
    class Manual(Module):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, index):
            optimizer, losses = self.optimizers(), []
            optimizer.zero_grad()
            for weight in (0.25, 0.75):
                losses.append(weight * mean_square(self.net, *batch))
                self.manual_backward(losses[-1])
            self.clip_gradients(optimizer, CLIP, "norm")
            optimizer.step()
            self.seen = float(sum(losses).detach())

    module, callback = Manual(), of_lightning.MonitorCallback()
    fit(tmp_path, module, callback, accumulate_grad_batches=1, gradient_clip_val=None)
    last = callback.monitor.last
    assert (last.step, last.loss, last.raw_grad_norm) == (9, pytest.approx(module.seen), None)

    class Several(Manual):
        def configure_optimizers(self):
            return new_optimizer(self.net[0]), new_optimizer(self.net[2])

    with pytest.raises(GradlabError, match="Several has 2 optimizers; expected 1: with several, put"):
        fit(tmp_path, Several(), of_lightning.MonitorCallback(), accumulate_grad_batches=1, gradient_clip_val=None)


# Hugging Face


class Averaging(torch.nn.Module):
    """Returns the mean over its batch; the Trainer divides it by the number of batches in a step."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.calls, self.fails_at = new_net(), 0, fails_at

    def forward(self, x, labels):
        self.calls += 1
        if self.calls == self.fails_at:
            raise ZeroDivisionError
        return {"loss": mean_square(self.net, x, labels), "logits": x}


class Normalising(Averaging):
    """Returns its part of the mean over the step, as the models of transformers do; the Trainer leaves it as it is."""

    def forward(self, x, labels, num_items_in_batch=None, **more):
        return {"loss": (self.net(x) - labels).square().sum() / (num_items_in_batch or labels.numel())}


def train(folder, model, callback, **options):
    items = [{"x": x, "labels": y} for xs, ys in BATCHES for x, y in zip(xs, ys, strict=True)]
    arguments = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": ACCUMULATE,
        "num_train_epochs": EPOCHS,
        "max_grad_norm": CLIP,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_strategy": "no",
    } | options
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder), report_to="none", disable_tqdm=True, use_cpu=True, **arguments
        ),
        train_dataset=items,
        eval_dataset=items[:4],
        callbacks=[callback],
        optimizers=(new_optimizer(model), None),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def without_raw(records):
    return [dataclasses.replace(r, raw_grad_norm=None, clipped=None) for r in records]


@pytest.mark.parametrize(("kind", "every"), [(Averaging, 1), (Averaging, 4), (Normalising, 1)])
def test_huggingface_gives_the_records_of_the_plain_loop(tmp_path, reads, kind, every):
    records, model = [], kind()
    callback = of_huggingface.MonitorCallback(every=every, extras=EXTRAS, on_record=records.append)
    trainer = train(tmp_path, model, callback, eval_strategy="steps", eval_steps=1)
    optimizer = trainer.optimizer
    trainer.train()
    assert reads == []
    options = {"every": every, "extras": EXTRAS}
    assert records == without_raw(plain(lambda step: 1 / len(step), kind(), **options))
    assert [r.step for r in records] == list(range(0, 6, every))
    assert records[-1] is callback.monitor.last
    assert hooks(model, optimizer) == 0
    for other in (lambda step: 1.0, lambda step: 1 / ACCUMULATE):  # planted: other weights, other records
        assert records != without_raw(plain(other, kind(), **options))
    assert list(tmp_path.iterdir()) == []


def test_huggingface_agrees_with_what_the_trainer_logs(tmp_path):
    """One of its own models: loss, learning rate and, where nothing is clipped, gradient norm."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=11, max_position_embeddings=8, num_labels=3, **size)
    draw = torch.Generator().manual_seed(0)
    items = [{"input_ids": torch.randint(11, (6,), generator=draw), "labels": i % 3} for i in range(10)]
    records = []
    trainer = train(
        tmp_path,
        transformers.BertForSequenceClassification(config),
        of_huggingface.MonitorCallback(on_record=records.append),
        logging_strategy="steps",
        logging_steps=1,
        per_device_train_batch_size=2,
        max_grad_norm=0.0,
    )
    trainer.train_dataset = items
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(records) == len(logs) == 6
    for record, log in zip(records, logs, strict=True):
        assert record.loss == pytest.approx(log["loss"], rel=1e-6)
        assert record.grad_norm == pytest.approx(log["grad_norm"], rel=1e-6)
        assert record.learning_rate == log["learning_rate"]
    assert "bert.embeddings.word_embeddings.weight" in records[0].tensors


def test_huggingface_after_an_error(tmp_path):
    model, callback = Averaging(fails_at=4), of_huggingface.MonitorCallback()
    trainer = train(tmp_path, model, callback)
    optimizer = trainer.optimizer

    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert hooks(model, optimizer) == 3  # the Trainer told nobody
    trainer.train()  # the next training takes away the hooks of the one that failed
    assert hooks(model, optimizer) == 0
    assert callback.monitor.steps == 6

    model.calls = 0
    with pytest.raises(ZeroDivisionError), callback:
        trainer.train()
    assert hooks(model, optimizer) == 0

    model.calls = 0
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert hooks(model, optimizer) == 3
    trainer.remove_callback(callback)
    del callback
    gc.collect()
    assert hooks(model, optimizer) == 0


def test_huggingface_counts_on_and_stays_out_of_copies(tmp_path):
    first, second = [], []
    train(tmp_path, Averaging(), of_huggingface.MonitorCallback(), max_steps=2, save_strategy="steps").train()
    train(tmp_path, Averaging(), of_huggingface.MonitorCallback(on_record=first.append), save_strategy="steps").train()
    model = Averaging()
    again = train(tmp_path, model, of_huggingface.MonitorCallback(on_record=second.append))
    copies = []

    class Copying(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            copies.append(copy.deepcopy(model))

    again.add_callback(Copying)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [r.step for r in second] == [2, 3, 4, 5]
    assert [r.loss for r in second] == [r.loss for r in first[2:]]
    seen = len(second)
    copies[0](*BATCHES[0])["loss"].backward()
    assert len(second) == seen


def test_huggingface_with_a_gradient_scaler_and_in_other_processes(tmp_path, monkeypatch):
    class Overflowing(Averaging):
        def forward(self, x, labels):
            out = super().forward(x, labels)
            return out if self.calls != 4 else {**out, "loss": out["loss"] * torch.inf}

    records = []
    callback = of_huggingface.MonitorCallback(on_record=records.append)
    trainer = train(tmp_path, Overflowing(), callback, max_grad_norm=0.0)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.train()
    assert callback.monitor.skipped_steps == 1
    assert records == without_raw(plain(lambda step: 1 / len(step), Averaging(), clip=torch.inf, left_out=[1]))

    callback = of_huggingface.MonitorCallback()
    monkeypatch.setattr(transformers.Trainer, "is_world_process_zero", lambda self: False)
    train(tmp_path, Averaging(), callback).train()
    assert callback.monitor is None


# Both


def reimported(monkeypatch, module):
    monkeypatch.delitem(sys.modules, module.__name__)
    return importlib.import_module(module.__name__)


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        (of_lightning, "pytorch_lightning", "lightning"),
        (of_huggingface, "transformers", "huggingface"),
        (of_huggingface, "accelerate", "huggingface"),
    ],
)
def test_a_missing_library_says_how_to_install_it(monkeypatch, module, missing, extra):
    for name in [n for n in sys.modules if n.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=rf"{missing} is not installed.*'gradlab-parity\[{extra}\]'"):
        reimported(monkeypatch, module)


def test_either_name_of_lightning_will_do(monkeypatch):
    other = {name: types.ModuleType(name) for name in ("lightning", "lightning.pytorch")}
    other["lightning.pytorch"].Callback = type("Callback", (), {})
    for name, module in other.items():
        module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(name, None), []
        monkeypatch.setitem(sys.modules, name, module)
    made = reimported(monkeypatch, of_lightning).MonitorCallback
    assert issubclass(made, other["lightning.pytorch"].Callback)
    assert issubclass(made, lightning.Callback)


@pytest.mark.parametrize("module", [of_lightning, of_huggingface])
def test_what_cannot_be_asked_for_is_refused_at_once(module):
    with pytest.raises(GradlabError, match="2 problems"):
        module.MonitorCallback(every=0, extras=["cosine"])
