"""Hugging Face: a real short run gives the records of the plain loop and leaves no hook."""

from __future__ import annotations

import copy
import dataclasses
import gc

import pytest
import torch
import transformers

from gradlab_core.definitions.quantities import EXTRAS
from gradlab_torch.integrations import huggingface as of_huggingface
from tests.torch.plain import ACCUMULATE, BATCHES, CLIP, EPOCHS, hooks, mean_square, new_net, new_optimizer, plain


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
